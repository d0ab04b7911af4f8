"""SAME's score: worked by hand, within [0, 1] for every shape, rising with what it is after."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.attacks import make_goal
from robustexit.attacks.goals.disagree import disagreement, importance
from robustexit.attacks.recipes import check_combination, make_recipe
from robustexit.attacks.views import Seen, get_view
from robustexit.errors import ConfigError

CERTAIN = 60.0
GOAL = make_goal("slowdown-disagree")


def seen(logits, exit: int) -> Seen:
    logits = torch.as_tensor(logits, dtype=torch.float32)
    probabilities = logits[exit - 1].softmax(-1)
    return Seen(int(probabilities.argmax()), len(logits), probabilities, exit, logits)


def score(logits, exit: int) -> float:
    one = seen(logits, exit)
    return float(GOAL.score(one, 0, one))


def certain(answers, classes: int) -> torch.Tensor:
    return CERTAIN * torch.nn.functional.one_hot(torch.tensor(answers), classes).float()


def test_targets_are_the_authors():
    exits = torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1], [0.2, 0.1, 0.7], [0.1, 0.2, 0.7]])
    # Exits 2 and 4 repeat the answer before them: their second class. Exit 3 does not: its own answer.
    assert disagreement(exits).tolist() == pytest.approx([0.4, 0.7, 0.2])


def test_weights_follow_the_exit_taken():
    # The authors' code counts exits from 0: .1 below L - 1, else 1.2 ** (i - L + 1).
    for taken in range(1, 6):
        theirs = [0.1 if i < taken - 1 else 1.2 ** (i - taken + 1) for i in range(5)]
        assert importance(torch.zeros(1), 5, taken).tolist() == pytest.approx(theirs)


def test_worked_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    weights = [0.1, 1.0, 1.2]
    apart = (1.0 * 0.2 + 1.2 * 0.7) / 2.2
    unsure = (0.1 * 0.2 + 1.0 * 0.4 + 1.2 * 0.6) / sum(weights)
    assert score(p.log(), exit=2) == pytest.approx((1 + 0.8 * apart + 0.2 * unsure) / 3, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 20])
@pytest.mark.parametrize("exits", [2, 5])
def test_both_ends(exits, classes):
    assert score(certain([1] * exits, classes), exit=1) == pytest.approx(0, abs=1e-6)
    alternating = certain([i % 2 for i in range(exits)], classes)
    assert score(alternating, exit=exits) == pytest.approx((exits - 1 + 0.8) / exits, abs=1e-6)
    unsure = score(torch.zeros(exits, classes), exit=1)
    assert unsure == pytest.approx((0.8 / classes + 0.2) / exits, abs=1e-6)


@given(data=st.data(), exits=st.integers(2, 12), classes=st.sampled_from([2, 3, 5, 20]))
def test_always_between_0_and_1_and_differentiable(data, exits, classes):
    values = st.floats(-80, 80, width=32) | st.sampled_from([0.0, 1.0])
    logits = torch.from_numpy(data.draw(arrays(np.float32, (exits, classes), elements=values))).requires_grad_()
    one = seen(logits, data.draw(st.integers(1, exits)))
    result = GOAL.score(one, 0, one)
    # The exit comes first: whatever the exits say, a later one scores at least as much.
    assert (one.taken - 1) / exits <= float(result.detach()) <= one.taken / exits
    (gradient,) = torch.autograd.grad(result, logits)
    assert bool(torch.isfinite(gradient).all())


def test_the_gradient_breaks_agreement_above_the_current_exit():
    logits = torch.tensor([[2.0, 0.0]] * 4, requires_grad=True)
    one = seen(logits, exit=2)
    (gradient,) = torch.autograd.grad(GOAL.score(one, 0, one), logits)
    toward_other = gradient[:, 1] - gradient[:, 0]
    assert bool((toward_other > 0).all())
    assert toward_other[3] > toward_other[2] > toward_other[1] > 10 * toward_other[0]


def test_exits_torn_with_certainty_count_which_the_uniform_score_does_not_see():
    """They stop patience."""
    torn = certain([0, 1, 0, 1], 2)
    uniform = make_goal("slowdown-uniform")
    assert float(uniform.score(seen(torn, 1), 0, seen(torn, 1))) == pytest.approx(0, abs=1e-6)
    assert score(torn, 1) == pytest.approx(0.2, abs=1e-6)
    assert score(certain([0, 0, 0, 0], 2), 1) == pytest.approx(0, abs=1e-6)


def test_success_is_the_target_exit():
    logits = torch.zeros(4, 2)
    assert [GOAL.met(seen(logits, exit), 0, seen(logits, 1)) for exit in (1, 2, 3, 4)] == [False] * 3 + [True]
    third = make_goal("slowdown-disagree", target_exit=3)
    assert [third.met(seen(logits, exit), 0, seen(logits, 1)) for exit in (2, 3, 4)] == [False, True, True]
    assert third.label == "slowdown-disagree(target_exit=3)"


def test_it_needs_scores_and_something_to_slow(bag):
    assert GOAL.min_depth(6) == 6
    with pytest.raises(ConfigError, match="needs the exit and the scores of every exit"):
        check_combination(make_recipe("deepwordbug"), GOAL, get_view("label"))
    assert "single exit" in str(GOAL.refuses(bag(num_exits=1)))
    assert GOAL.refuses(bag(num_exits=4)) is None
