"""Margin by hand, and the three confidence rules that agree on two classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.exits import make_policy, replay


def test_margin_by_hand() -> None:
    logits = np.log([[[0.5, 0.3, 0.2], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]])
    assert replay(make_policy("margin", t=0.15), logits).exit.tolist() == [1]  # .5 - .3 = .2
    result = replay(make_policy("margin", t=0.25), logits)
    assert (result.exit.tolist(), result.answer.tolist()) == ([2], [0])  # .7 - .2 = .5
    np.testing.assert_allclose(result.probabilities, [[0.7, 0.2, 0.1]], rtol=1e-5)
    assert replay(make_policy("margin", t=0.55), logits).answer.tolist() == [2]


def test_a_margin_must_exceed_the_threshold() -> None:
    tie = np.zeros((1, 2, 3))
    assert replay(make_policy("margin", t=0), tie).exit.tolist() == [2]  # margin 0 is not above 0
    assert replay(make_policy("margin", t=-1e-6), tie).exit.tolist() == [1]
    assert make_policy("margin", t=1).inert_reason(6, 2)
    assert make_policy("margin", t=0.999).inert_reason(6, 2) is None


@settings(max_examples=60, deadline=None)
@given(
    logits=arrays(np.float32, (8, 4, 2), elements=st.floats(-6, 6, width=32)),
    t=st.floats(0.51, 0.995),
)
def test_on_two_classes_three_rules_take_the_same_exits_at_matched_thresholds(logits, t) -> None:
    matched = [
        make_policy("max-probability", t=t),
        make_policy("margin", t=2 * t - 1),
        make_policy("entropy", t=-t * math.log(t) - (1 - t) * math.log(1 - t)),
    ]
    near = [(policy.statistic(torch.from_numpy(logits)) - policy.t).abs().numpy() < 1e-6 for policy in matched]
    kept = logits[~np.any(near, axis=(0, 2))]
    exits = [replay(policy, kept).exit.tolist() for policy in matched]
    assert exits[0] == exits[1] == exits[2]


def test_on_three_classes_they_differ() -> None:
    logits = np.log([[[0.5, 0.5 - 1e-6, 1e-6], [0.4, 0.3, 0.3]]])
    assert replay(make_policy("max-probability", t=0.45), logits).exit.tolist() == [1]
    assert replay(make_policy("margin", t=0.05), logits).exit.tolist() == [2]


@pytest.mark.parametrize("bad", [None, "0.5", float("nan")])
def test_a_threshold_is_a_number(bad) -> None:
    with pytest.raises(Exception, match="expected a number for t"):
        make_policy("margin", t=bad)
