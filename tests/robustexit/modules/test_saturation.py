"""Saturation: cosines by hand, exit 1 is never taken, nothing to learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, Target, calibrate, make_policy
from robustexit.exits.replay import replay_held_out
from robustexit.modules import ModuleShape, make_module, read_stored


def held_out(pooled: np.ndarray) -> HeldOut:
    rows, exits, width = pooled.shape
    logits = np.zeros((rows, exits, 2), dtype=np.float32)
    module = make_module("saturation", ModuleShape(exits, 2, width))
    reading = read_stored(module, pooled, logits)
    costs = np.tile(np.arange(1, exits + 1) / exits, (rows, 1))
    return HeldOut(reading.logits, np.zeros(rows, dtype=np.int64), costs, "h", reading.scalars)


PATHS = np.array(
    [
        [[1, 0], [0, 2], [0, 3], [4, 4]],  # cosines 0, 1, sqrt(1/2)
        [[1, 0], [-1, 0], [3, 4], [3, 4]],  # -1, -3/5, 1
        [[0, 0], [1, 1], [0, 0], [0, 0]],  # a zero state resembles nothing
    ],
    dtype=np.float32,
)


def test_cosines_by_hand() -> None:
    expected = [[-1, 0, 1, np.sqrt(0.5)], [-1, -1, -0.6, 1], [-1, 0, 0, 0]]
    np.testing.assert_allclose(held_out(PATHS).scalars["cosine"], expected, atol=1e-6)


@pytest.mark.parametrize(
    ("t", "exits"), [(0.9, [3, 4, 4]), (-0.7, [2, 3, 2]), (-5.0, [2, 2, 2]), (1.0, [4, 4, 4]), (-1.0, [2, 3, 2])]
)
def test_policy_leaves_above_t_and_never_at_exit_1(t, exits) -> None:
    assert replay_held_out(make_policy("saturation", t=t), held_out(PATHS)).exit.tolist() == exits


def test_exit_1_has_no_share_at_any_setting() -> None:
    pooled = np.random.default_rng(0).normal(size=(50, 5, 3)).astype(np.float32)
    found = make_policy("saturation", t=0.5).settings(held_out(pooled))
    means = []
    for policy in found:
        exits = replay_held_out(policy, held_out(pooled)).exit
        assert exits.min() >= 2
        means.append(exits.mean())
    assert (min(means), max(means)) == (2, 5)


@pytest.mark.parametrize("exits", [1, 2])
def test_too_few_exits_say_why(exits) -> None:
    policy = make_policy("saturation", t=0.5)
    assert "needs 3 exits" in (policy.inert_reason(exits, 2) or "")
    with pytest.raises(ConfigError, match="one exit" if exits == 1 else "needs 3 exits"):
        calibrate("saturation", Target(speedup=1.5), held_out(np.ones((4, exits, 2), dtype=np.float32)))


def test_macs_are_three_inner_products() -> None:
    assert make_module("saturation", ModuleShape(3, 2, 7)).macs().tolist() == [0, 21, 21]


def test_memory_is_the_state_before() -> None:
    module = make_module("saturation", ModuleShape(3, 2, 2))
    state, _, _ = module.read_exit(module.start(1), 1, torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2))
    assert state["previous"].tolist() == [[3.0, 4.0]]


def test_the_head_of_exit_1_is_not_asked() -> None:
    policy = make_policy("saturation", t=0.9)
    assert [policy.reads(exit, 4) for exit in (1, 2, 3, 4)] == [False, True, True, True]
    assert policy.reads(1, 1)
