"""Soft patience: divergences by hand, and hard patience as its limit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import jensenshannon

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy, replay
from robustexit.exits.calibration import prototype
from robustexit.exits.rules.soft_patience import DIVERGENCES

P, Q = (0.5, 0.5), (0.8, 0.2)
KL_PQ = 0.5 * math.log(0.5 / 0.8) + 0.5 * math.log(0.5 / 0.2)
KL_QP = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)


def test_divergences_by_hand() -> None:
    log_p, log_q = torch.tensor([P]).log(), torch.tensor([Q]).log()
    found = {name: float(divergence(log_p, log_q)) for name, divergence in DIVERGENCES.items()}
    assert found["kl"] == pytest.approx(KL_PQ, rel=1e-5)
    assert found["reverse-kl"] == pytest.approx(KL_QP, rel=1e-5)
    assert found["symmetric-kl"] == pytest.approx((KL_PQ + KL_QP) / 2, rel=1e-5)
    assert found["jsd"] == pytest.approx(jensenshannon(P, Q) ** 2, rel=1e-5)
    for divergence in DIVERGENCES.values():
        assert float(divergence(log_p, log_p)) == 0


def test_the_counter_by_hand() -> None:
    # Divergences between neighbours: JSD(P, Q) = .051, 0, 0, .051 ...: the counter runs 0, 0 (or 1), 1, 2, ...
    logits = np.log([[P, Q, Q, Q, P, P]])
    assert jensenshannon(P, Q) ** 2 == pytest.approx(0.0505, abs=2e-4)
    exits = {
        (t, tau): int(replay(make_policy("soft-patience", t=t, tau=tau), logits).exit[0])
        for t in (1, 2, 3)
        for tau in (0.01, 0.06)
    }
    assert exits == {(1, 0.01): 3, (2, 0.01): 4, (3, 0.01): 6, (1, 0.06): 2, (2, 0.06): 3, (3, 0.06): 4}


def test_a_divergence_of_tau_is_no_agreement() -> None:
    logits = np.log(np.array([[P, Q, P]], dtype=np.float32))
    p, q = (torch.log_softmax(torch.from_numpy(logits[:, index]), dim=-1) for index in (0, 1))
    apart = float(DIVERGENCES["jsd"](p, q))
    assert replay(make_policy("soft-patience", t=1, tau=apart), logits).exit.tolist() == [3]
    assert replay(make_policy("soft-patience", t=1, tau=apart * (1 + 1e-6)), logits).exit.tolist() == [2]


def test_direction_matters_to_kl() -> None:
    logits = np.log([[P, Q, P]])
    between = (KL_PQ + KL_QP) / 2
    forward = replay(make_policy("soft-patience", t=1, tau=between, divergence="kl"), logits).exit
    backward = replay(make_policy("soft-patience", t=1, tau=between, divergence="reverse-kl"), logits).exit
    assert KL_QP < between < KL_PQ
    assert (forward.tolist(), backward.tolist()) == ([3], [2])


@settings(max_examples=40, deadline=None)
@given(
    answers=arrays(np.int64, (10, 6), elements=st.integers(0, 2)),
    t=st.integers(1, 5),
    tau=st.floats(1e-3, 0.69),
    divergence=st.sampled_from(sorted(DIVERGENCES)),
)
def test_on_one_hot_distributions_it_is_patience(answers, t, tau, divergence) -> None:
    """Then neighbours diverge by 0 where they agree and by log 2 (JSD) or more where they do not."""
    logits = (np.eye(3)[answers] * 1e4).astype(np.float32)
    soft = replay(make_policy("soft-patience", t=t, tau=tau, divergence=divergence), logits)
    hard = replay(make_policy("patience", t=t), logits)
    np.testing.assert_array_equal(soft.exit, hard.exit)
    np.testing.assert_array_equal(soft.probabilities, hard.probabilities)


def held_out(rows: int = 60, exits: int = 6) -> HeldOut:
    logits = np.random.default_rng(0).normal(size=(rows, exits, 3)).astype(np.float32)
    return HeldOut(logits, np.arange(rows) % 3, np.tile(np.arange(1, exits + 1) / exits, (rows, 1)), "h")


def test_settings_spread_over_both_parameters_and_keep_a_given_patience() -> None:
    found = prototype("soft-patience").settings(held_out(), 40)
    assert len(found) <= 40
    assert {policy.t for policy in found} == {1, 2, 3, 4}
    taus = sorted({policy.tau for policy in found})
    assert len(taus) >= 8
    assert taus[0] < 0  # nothing is that near: full depth
    assert taus[-1] > 0.1
    kept = prototype("soft-patience", t=2).settings(held_out(), 40)
    assert {policy.t for policy in kept} == {2}
    assert len({policy.tau for policy in kept}) >= 38


def test_parameters_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"divergence to be one of jsd.*did you mean 'jsd'"):
        make_policy("soft-patience", tau=0.1, divergence="js")
    with pytest.raises(ConfigError, match="whole number of at least 1 for t"):
        make_policy("soft-patience", tau=0.1, t=0)
    with pytest.raises(ConfigError, match="needs t: give it, or calibrate"):
        replay(make_policy("soft-patience", tau=0.1), np.zeros((1, 3, 2)))
    assert "tau above 0" in (make_policy("soft-patience", tau=0, t=1).inert_reason(6, 2) or "")
    assert "at most 4" in (make_policy("soft-patience", tau=1, t=5).inert_reason(6, 2) or "")
    assert make_policy("soft-patience", tau=1, t=4).inert_reason(6, 2) is None
