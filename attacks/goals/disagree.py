"""SAME's slowdown: break the confidence of every exit and the agreement of neighbouring exits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from robustexit.attacks.goals.base import EXIT, SCORES, constant, goals
from robustexit.attacks.goals.savings import Slowdown, uniformity
from robustexit.attacks.views import Seen

if TYPE_CHECKING:
    from torch import Tensor

LAMBDA: Final = 0.8
"""Weight of disagreement beside uniformity: the authors' lambda."""

GROWTH: Final = 1.2
"""How much each exit from the current one on weighs more than the one before it."""

BELOW: Final = 0.1
"""Weight of the exits before the current one, which the text has passed already."""


def disagreement(exits: Tensor) -> Tensor:
    """How far each exit from the second on contradicts the one before it.

    The probability of the class that the authors make the exit's target: its own answer if that differs from the
    answer of the exit before, else its second most likely class. So 1 for a certain other answer, 0 for a certain
    same one.

    Args:
        exits: Probabilities, shape [K, C], at least two exits and two classes.

    Returns:
        Shape [K - 1].
    """
    answers = exits.argmax(-1)
    likeliest = exits.topk(2, dim=-1).values[1:]
    return likeliest[:, 1].where(answers[1:] == answers[:-1], likeliest[:, 0])


def importance(like: Tensor, num_exits: int, current: int) -> Tensor:
    """Weight of every exit: 1.2^(i - L) from the current exit L on, .1 before it; shape [K]."""
    weights = [BELOW if exit < current else GROWTH ** (exit - current) for exit in range(1, num_exits + 1)]
    return like.new_tensor(weights)


@goals.register("slowdown-disagree")
@dataclass(frozen=True)
class SlowdownDisagree(Slowdown):
    """Make the victim leave late by breaking confidence and agreement at once, so that no exit rule holds.

    Score: (L - 1 + s) / K in [0, 1]: first the exit taken L, by which the authors' beam keeps candidates, then
    ``s = .8 D + .2 U``, whose gradient proposes them. D is the mean of `disagreement` over exits 2 to K, U that of
    `uniformity` over all exits, both weighted by `importance`, which follows L.

    From the authors' code (theirs counts exits from 0), with two changes. Their loss is the cross-entropy to the target
    classes and to the uniform distribution, without bound; here it is the targets' probability and the corrected
    uniformity, so that s is in [0, 1] for every K and C. And exit 1, which has no exit before it, is left out of D:
    theirs asks it to be surer of its answer, which is what lets an input leave there.
    """

    name: ClassVar[str] = "slowdown-disagree"
    source: ClassVar[str] = "SAME, Chen et al. 2023, ACL, arXiv 2305.12228"
    needs: ClassVar[frozenset[str]] = frozenset({EXIT, SCORES})

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return (L - 1 + s) / K, in [0, 1]."""
        assert seen.logits is not None
        weights = importance(seen.logits, seen.num_exits, seen.taken)
        apart = _mean(disagreement(seen.exits), weights[1:])
        unsure = _mean(_uniformities(seen.logits), weights)
        s = (LAMBDA * apart + (1 - LAMBDA) * unsure).clamp(0, 1)
        return (constant(s, seen.taken - 1) + s) / seen.num_exits


def _uniformities(logits: Tensor) -> Tensor:
    """Return the uniformity of each exit, shape [K]."""
    import torch  # here, so that naming goals does not wait seconds for it

    return torch.stack([uniformity(row[None]) for row in logits])


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum()
