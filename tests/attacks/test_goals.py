from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from robustexit.attacks import make_goal
from robustexit.attacks.goals import goals, softmax
from robustexit.attacks.goals.savings import uniformity as uniformity_of
from robustexit.attacks.views import VIEWS, Seen
from robustexit.errors import ConfigError
from robustexit.victims.base import Trace


def trace(logits: list[list[float]], exit_: int, view: str = "scores") -> Seen:
    values = np.array(logits, np.float32)
    full = Trace(values, exit_, softmax(values[exit_ - 1]), tokens=3, macs=exit_, full_macs=len(logits), layers=exit_)
    return VIEWS[view].show(full, len(logits))


def uniformity(logits: np.ndarray) -> float:
    score = uniformity_of(torch.from_numpy(logits))
    assert score.dtype == torch.float32
    return float(score)


def shapes() -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(1, 12), st.integers(2, 20))


@given(shapes().flatmap(lambda s: hnp.arrays(np.float32, s, elements=st.floats(-50, 50, width=32))))
def test_uniformity_lies_between_zero_and_one(logits):
    score = uniformity(logits)
    assert 0 <= score <= 1


@given(shapes(), st.floats(-5, 5, width=32))
def test_uniform_exits_score_one(shape, level):
    assert uniformity(np.full(shape, level, np.float32)) == pytest.approx(1, abs=1e-6)


@given(shapes())
def test_one_hot_exits_score_zero(shape):
    logits = np.full(shape, -1e4, np.float32)
    logits[np.arange(shape[0]), np.arange(shape[0]) % shape[1]] = 1e4
    assert uniformity(logits) == pytest.approx(0, abs=1e-6)


def test_uniformity_by_hand():
    # Exit 1: p = (.5, .5), distance 0 -> 1. Exit 2: p = (.75, .25), distance .5 -> 1 - 1 * .5 = .5.
    logits = np.array([[0, 0], [np.log(3), 0]], np.float32)
    assert uniformity(logits) == pytest.approx(0.75, abs=1e-6)


@given(hnp.arrays(np.float32, (7, 3), elements=st.floats(-30, 30, width=32)))
def test_deployed_and_final_scores_equal_textattack_s_to_the_bit(logits):
    batch = torch.nn.functional.softmax(torch.tensor(logits), dim=1)
    for row, probabilities in zip(logits, batch, strict=True):
        stock = (1 - probabilities[2]).item()
        one = VIEWS["scores"].show(Trace(row[None], 1, probabilities.numpy(), 1, macs=1, full_macs=1, layers=1), 1)
        assert float(make_goal("deployed").score(one, 2, one)) == stock
        assert float(make_goal("final").score(one, 2, one)) == stock


def test_final_reads_the_last_exit_and_deployed_the_taken_one():
    seen = trace([[3, 0], [0, 3]], exit_=1)
    assert not make_goal("deployed").met(seen, 0, seen)
    assert make_goal("final").met(seen, 0, seen)
    assert make_goal("deployed").score(seen, 0, seen) < 0.5 < make_goal("final").score(seen, 0, seen)


def test_depths():
    assert make_goal("deployed").min_depth(6) == 1
    assert make_goal("final").min_depth(6) == make_goal("slowdown-uniform").min_depth(6) == 6


def test_slowdown_is_met_at_its_target():
    early, late = (trace([[1, 0]] * 4, exit_) for exit_ in (3, 4))
    last, third = make_goal("slowdown-uniform"), make_goal("slowdown-uniform", target_exit=3)
    assert (last.met(early, 0, early), last.met(late, 0, early)) == (False, True)
    assert third.met(early, 0, early)
    assert (last.label, third.label) == ("slowdown-uniform", "slowdown-uniform(target_exit=3)")


@pytest.mark.parametrize(
    ("goal", "num_exits", "reason"),
    [
        (make_goal("slowdown-uniform"), 1, "single exit"),
        (make_goal("slowdown-uniform", target_exit=9), 4, "deeper than the victim's 4 exits"),
    ],
)
def test_goals_refuse_victims_they_cannot_apply_to(bag, goal, num_exits, reason):
    assert reason in goal.refuses(bag(num_exits))


def test_slowdown_refuses_a_full_depth_victim(bag):
    victim = bag(4)
    assert make_goal("slowdown-uniform").refuses(victim) is None
    victim.full_depth = True
    assert "always runs to its last exit" in make_goal("slowdown-uniform").refuses(victim)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("deploid", {}, r"unknown goal 'deploid' \(did you mean 'deployed'\?\)"),
        ("deployed", {"target_exit": 2}, r"goal 'deployed' has no parameter 'target_exit'; it takes none"),
        ("slowdown-uniform", {"target": 2}, r"did you mean 'target_exit'\?\); expected one of: target_exit"),
        ("slowdown-uniform", {"target_exit": 1}, r"target_exit must be an exit \(2, 3, ..., K\), got 1"),
        ("slowdown-uniform", {"target_exit": "4"}, r"got '4'"),
    ],
)
def test_wrong_goals_say_what_is_expected(name, parameters, message):
    with pytest.raises(ConfigError, match=message):
        make_goal(name, **parameters)


def test_every_goal_is_listed():
    assert {"deployed", "final", "input-reduction", "slowdown-uniform"} <= set(goals.names())
