"""BEEM by hand, patience as a special case, thresholds from error rates."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy, replay
from robustexit.exits.calibration import Target, calibrate, prototype
from robustexit.exits.replay import replay_held_out
from robustexit.exits.rules.beem import Beem, lowest_threshold


def held_out(rows: int = 400, exits: int = 5, seed: int = 1) -> HeldOut:
    """Three classes, deeper exits better."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=rows)
    signal = np.eye(3)[labels][:, None] * np.linspace(0.8, 3, exits)[None, :, None]
    logits = (signal + rng.normal(size=(rows, exits, 3))).astype(np.float32)
    return HeldOut(logits, labels, np.tile(np.arange(1, exits + 1) / exits, (rows, 1)), "h")


def test_scores_by_hand() -> None:
    # Answers 0, 0, 1, 1, 1 with confidence .6, .7, .8, .9, .51 and weights .1 to .5.
    logits = np.log([[[0.6, 0.4], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.49, 0.51]]])
    w = (0.1, 0.2, 0.3, 0.4, 0.5)
    data = HeldOut(logits.astype(np.float32), np.array([0]), np.ones((1, 5)), "h")
    expected = [0.06, 0.06 + 0.14, 0.24, 0.24 + 0.36, 0.24 + 0.36 + 0.255]
    np.testing.assert_allclose(Beem(t=1.0, w=w).scores(data)[0], expected, rtol=1e-5)
    exits = {t: int(replay(make_policy("beem", t=t, w=w), logits).exit[0]) for t in (0.05, 0.19, 0.21, 0.3, 0.7, 2.0)}
    assert exits == {0.05: 1, 0.19: 2, 0.21: 3, 0.3: 4, 0.7: 5, 2.0: 5}
    own = make_policy("beem", w=w, a=(0.07, 0.21, 0.25, 0.5, 0.0))
    result = replay(own, logits)
    assert (result.exit.tolist(), result.answer.tolist()) == ([4], [1])
    np.testing.assert_allclose(result.probabilities, [[0.1, 0.9]], rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(answers=arrays(np.int64, (10, 6), elements=st.integers(0, 2)), t=st.integers(1, 5))
def test_with_unit_weights_and_full_confidence_it_is_patience(answers, t) -> None:
    logits = (np.eye(3)[answers] * 1e4).astype(np.float32)
    beem = replay(make_policy("beem", t=t + 1, w=(1.0,) * 6), logits)
    patience = replay(make_policy("patience", t=t), logits)
    np.testing.assert_array_equal(beem.exit, patience.exit)
    np.testing.assert_array_equal(beem.probabilities, patience.probabilities)


def test_weights_are_learned_from_accuracy_or_cost() -> None:
    data = held_out()
    by_accuracy = make_policy("beem", t=0.5).fitted(data)
    np.testing.assert_allclose(by_accuracy.w, data.correct.mean(axis=0))
    assert by_accuracy.a is None
    by_cost = make_policy("beem", t=0.5, weights="cost").fitted(data)
    np.testing.assert_allclose(by_cost.w, [0.2, 0.4, 0.6, 0.8, 1.0])
    given_weights = make_policy("beem", t=0.5, w=(1, 2, 3, 4, 5))
    assert given_weights.fitted(data) == given_weights


def test_lowest_threshold_by_hand() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.6, 0.5], dtype=np.float32)
    wrong = np.array([False, True, False, False, True, True])
    # Error rates of the first 1, 2, ... : 0, 1/2, 1/3, (tie) 2/5, 1/2.
    assert lowest_threshold(scores, wrong, 0, never=9) == pytest.approx(0.85)
    assert lowest_threshold(scores, wrong, 0.34, never=9) == pytest.approx(0.65)
    assert lowest_threshold(scores, wrong, 0.26, never=9) == pytest.approx(0.85)  # 1/4 only by splitting the tie
    assert lowest_threshold(scores, wrong, 0.4, never=9) == pytest.approx(0.55)
    assert lowest_threshold(scores, wrong, 0.5, never=9) == 0
    assert lowest_threshold(scores[1:2], wrong[1:2], 0.5, never=9) == 9
    assert lowest_threshold(scores[:0], wrong[:0], 0.5, never=9) == 9


@pytest.mark.parametrize("weights", ["accuracy", "cost"])
@pytest.mark.parametrize("max_error", [None, 0.0, 0.1, 1.0])
def test_thresholds_keep_every_exit_to_the_error_rate(weights, max_error) -> None:
    data = held_out()
    policy = make_policy("beem", weights=weights, max_error=max_error).fitted(data)
    result = replay_held_out(policy, data)
    allowed = (~data.correct[:, -1]).mean() if max_error is None else max_error
    wrong = result.answer != data.labels
    left = [result.exit == exit for exit in range(1, 5)]
    assert all(wrong[here].mean() <= allowed for here in left if here.any())
    assert any(here.any() for here in left)
    if max_error == 1.0:
        assert (result.exit == 1).all()


def test_settings_have_both_kinds_of_thresholds() -> None:
    data = held_out()
    found = prototype("beem").fitted(data).settings(data, 40)
    assert len(found) <= 40
    assert found[0] == make_policy("beem").fitted(data)
    uniform = [policy for policy in found if policy.t is not None]
    strict = [policy for policy in found if policy.a is not None]
    assert [len(kind) for kind in (uniform, strict)] == [29, 11]
    fixed = prototype("beem", t=0.7).fitted(data)
    assert fixed.settings(data, 40) == [fixed]
    reached = calibrate("beem", Target(speedup=1.5), data)
    assert reached.reached_speedup == pytest.approx(1.5, abs=0.05)


def test_parameters_are_checked() -> None:
    with pytest.raises(ConfigError, match="either t or per-exit thresholds"):
        make_policy("beem", t=0.5, a=(1.0, 1.0))
    with pytest.raises(ConfigError, match="weights to be one of accuracy, cost"):
        make_policy("beem", weights="A")
    with pytest.raises(ConfigError, match="needs w: give it, or calibrate"):
        replay(make_policy("beem", t=0.5), np.zeros((1, 3, 2)))
    with pytest.raises(ConfigError, match="needs a: give it, or calibrate"):
        replay(make_policy("beem", w=(1.0, 1.0, 1.0)), np.zeros((1, 3, 2)))
    with pytest.raises(ConfigError, match="expected 3 values of a"):
        replay(make_policy("beem", w=(1.0, 1.0, 1.0), a=(1.0,)), np.zeros((1, 3, 2)))
    assert "reaches 2" in (make_policy("beem", t=2.1, w=(1.0, 1.0, 1.0)).inert_reason(3, 2) or "")
    assert make_policy("beem", t=2.0, w=(1.0, 1.0, 1.0)).inert_reason(3, 2) is None
    assert "above what" in (make_policy("beem", w=(1.0, 1.0, 1.0), a=(1.1, 2.1, 0.0)).inert_reason(3, 2) or "")
