"""The random control: its shares, its determinism, its costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy, replay
from robustexit.exits.calibration import Target, calibrate, evaluate, prototype
from robustexit.exits.replay import replay_held_out
from robustexit.exits.rules.random import Random, flattest, uniform

COSTS = np.array([0.2, 0.4, 0.6, 0.8, 1.0])


def held_out(rows: int = 4000, seed: int = 0) -> HeldOut:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=rows)
    logits = rng.normal(size=(rows, 5, 3)) + np.eye(3)[labels][:, None] * np.linspace(0.5, 2, 5)[None, :, None]
    return HeldOut(logits.astype(np.float32), labels, np.tile(COSTS, (rows, 1)), "h")


def test_exits_are_taken_in_the_given_shares_whatever_they_say() -> None:
    data, q = held_out(), (0.1, 0.0, 0.5, 0.15, 0.25)
    result = replay(make_policy("random", distribution=q), data.logits)
    counts = np.bincount(result.exit, minlength=6)[1:]
    assert counts[1] == 0
    kept = [0, 2, 3, 4]
    assert stats.chisquare(counts[kept], np.asarray(q)[kept] * len(data.labels)).pvalue > 1e-3
    correct = data.correct[np.arange(len(data.labels)), result.exit - 1]
    for exit in (1, 3, 4, 5):  # as accurate where it leaves as everywhere: the draw knows nothing
        here = result.exit == exit
        assert correct[here].mean() == pytest.approx(data.correct[:, exit - 1].mean(), abs=0.07)


def test_the_same_text_draws_the_same_exit_in_any_company() -> None:
    data = held_out(300)
    policy = make_policy("random", distribution=(0.2,) * 5)
    exits = replay(policy, data.logits).exit
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_array_equal(replay(policy, data.logits[order]).exit, exits[order])
    np.testing.assert_array_equal(replay(policy, data.logits[7:8]).exit, exits[7:8])
    again = replay(make_policy("random", distribution=(0.2,) * 5, seed=1), data.logits).exit
    assert (again != exits).mean() == pytest.approx(0.8, abs=0.08)
    nudged = data.logits.copy()
    nudged[:, 0, 1] = np.nextafter(nudged[:, 0, 1], np.float32(9))
    assert (replay(policy, nudged).exit != exits).mean() == pytest.approx(0.8, abs=0.08)
    nudged = data.logits + np.array([0, 1, 1, 1, 1], dtype=np.float32)[None, :, None]
    np.testing.assert_array_equal(replay(policy, nudged).exit, exits)  # only exit 1 is hashed


def test_draws_are_uniform() -> None:
    logits = torch.randn(5000, 2, generator=torch.Generator().manual_seed(0))
    assert stats.kstest(uniform(logits, 0), "uniform").pvalue > 1e-3
    assert stats.kstest(uniform(torch.arange(5000.0)[:, None].expand(-1, 2), 3), "uniform").pvalue > 1e-3
    assert uniform(torch.tensor([[0.0, 1.0]]), 0) == uniform(torch.tensor([[-0.0, 1.0]]), 0)
    assert abs(np.corrcoef(uniform(logits, 0), uniform(logits, 1))[0, 1]) < 0.05


def test_the_control_of_another_policy_costs_the_same() -> None:
    data, fresh = held_out(), held_out(seed=5)
    other = make_policy("max-probability", t=0.8)
    control = Random.matching(other, data, seed=3)
    np.testing.assert_allclose(control.distribution, np.bincount(replay_held_out(other, data).exit)[1:] / 4000)
    assert evaluate(control, fresh).speedup == pytest.approx(evaluate(other, fresh).speedup, rel=0.03)
    assert evaluate(control, fresh).accuracy < evaluate(other, fresh).accuracy


def test_a_mean_cost_gets_the_flattest_distribution() -> None:
    np.testing.assert_allclose(flattest(COSTS, 0.6), [0.2] * 5, atol=1e-9)
    early = np.array(flattest(COSTS, 0.5))
    assert early @ COSTS == pytest.approx(0.5)
    np.testing.assert_allclose(early[1:] / early[:-1], early[1] / early[0])  # exp(-b c_i)
    assert flattest(COSTS, 0.2) == (1, 0, 0, 0, 0)
    assert flattest(COSTS, 1.0) == (0, 0, 0, 0, 1)
    assert flattest(np.array([1.0]), 1.0) == (1,)
    data = held_out()
    policy = make_policy("random", mean_cost=0.5).fitted(data)
    assert 1 / evaluate(policy, data).speedup == pytest.approx(0.5, abs=0.01)
    with pytest.raises(ConfigError, match=r"mean_cost from 0\.2 .* to 1 "):
        make_policy("random", mean_cost=0.1).fitted(data)


def test_settings_reach_from_exit_one_to_full_depth() -> None:
    data = held_out(1000)
    found = prototype("random").settings(data, 21)
    speedups = [evaluate(policy, data).speedup for policy in found]
    assert len(found) == 21
    assert speedups[0] == pytest.approx(5)
    assert speedups[-1] == pytest.approx(1)
    assert calibrate("random", Target(speedup=2), data).reached_speedup == pytest.approx(2, abs=0.01)
    kept = prototype("random", distribution=(0.5, 0.5, 0.0, 0.0, 0.0)).fitted(data)
    assert kept.settings(data) == [kept]


def test_parameters_are_checked() -> None:
    for bad in ((0.5, 0.6), (-0.1, 1.1), ()):
        with pytest.raises(ConfigError, match="sum to 1"):
            make_policy("random", distribution=bad)
    with pytest.raises(ConfigError, match="whole number of at least 0 for seed"):
        make_policy("random", seed=-1)
    with pytest.raises(ConfigError, match="needs distribution: give it, or calibrate"):
        replay(make_policy("random"), np.zeros((1, 3, 2)))
    with pytest.raises(ConfigError, match="expected 3 values of distribution"):
        replay(make_policy("random", distribution=(1.0,)), np.zeros((1, 3, 2)))
    assert make_policy("random", distribution=(0.0, 0.0, 1.0)).inert_reason(3, 2)
    assert make_policy("random", distribution=(0.0, 0.1, 0.9)).inert_reason(3, 2) is None
    assert replay(make_policy("random", distribution=(1.0,), seed=2**80), np.zeros((1, 1, 2))).exit.tolist() == [1]
