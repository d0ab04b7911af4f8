"""Confident patience: counter and answers by hand, and the normalised entropy rule at t = 1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy, replay
from robustexit.exits.calibration import prototype

SURE, OTHER, UNSURE = (0.9, 0.1), (0.2, 0.8), (0.5, 0.5)
# Normalised entropies: .469, .722, 1.


def at(t: int, tau: float, ensemble: str = "none"):
    logits = np.log([[SURE, UNSURE, SURE, OTHER, UNSURE, UNSURE]])
    return replay(make_policy("confident-patience", t=t, tau=tau, ensemble=ensemble), logits)


def test_the_counter_by_hand() -> None:
    assert at(1, 0.5).exit.tolist() == [1]
    assert at(2, 0.5).exit.tolist() == [6]  # never two at .469 in a row
    assert at(2, 0.75).exit.tolist() == [4]  # exits 3 and 4, though they answer differently
    assert at(2, 0.75).answer.tolist() == [1]
    assert at(3, 0.75).exit.tolist() == [6]


def test_three_ways_to_answer() -> None:
    np.testing.assert_allclose(at(2, 0.75, "none").probabilities[0], OTHER, atol=1e-6)
    np.testing.assert_allclose(at(2, 0.75, "run").probabilities[0], [0.55, 0.45], atol=1e-6)
    np.testing.assert_allclose(at(2, 0.75, "all").probabilities[0], [0.625, 0.375], atol=1e-6)
    assert at(2, 0.75, "run").answer.tolist() == [0]
    # At exit K without a run the exit answers for itself.
    np.testing.assert_allclose(at(3, 0.75, "run").probabilities[0], UNSURE, atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(
    logits=arrays(np.float32, (8, 5, 3), elements=st.floats(-6, 6, width=32)),
    tau=st.floats(-0.1, 1.1),
)
def test_with_one_confident_exit_it_is_the_normalised_entropy_rule(logits, tau) -> None:
    entropy = replay(make_policy("normalised-entropy", t=tau), logits)
    for ensemble in ("none", "run"):
        patient = replay(make_policy("confident-patience", t=1, tau=tau, ensemble=ensemble), logits)
        np.testing.assert_array_equal(patient.exit, entropy.exit)
        np.testing.assert_allclose(patient.probabilities, entropy.probabilities, atol=1e-7)


def test_settings_spread_over_both_parameters_and_keep_a_given_patience() -> None:
    logits = np.random.default_rng(0).normal(size=(60, 6, 3)).astype(np.float32)
    data = HeldOut(logits, np.arange(60) % 3, np.tile(np.arange(1, 7) / 6, (60, 1)), "h")
    found = prototype("confident-patience").settings(data, 50)
    assert len(found) <= 50
    assert {policy.t for policy in found} == {1, 2, 3, 4, 5}
    assert len({policy.tau for policy in found}) == 10
    assert {policy.t for policy in prototype("confident-patience", t=3).settings(data, 50)} == {3}


def test_parameters_are_checked() -> None:
    with pytest.raises(ConfigError, match="ensemble to be one of none, run, all"):
        make_policy("confident-patience", tau=0.1, ensemble="mean")
    with pytest.raises(ConfigError, match="needs t: give it, or calibrate"):
        replay(make_policy("confident-patience", tau=0.1), np.zeros((1, 3, 2)))
    assert "tau above 0" in (make_policy("confident-patience", tau=0, t=1).inert_reason(6, 2) or "")
    assert "smaller t" in (make_policy("confident-patience", tau=1, t=6).inert_reason(6, 2) or "")
    assert make_policy("confident-patience", tau=1, t=5).inert_reason(6, 2) is None
