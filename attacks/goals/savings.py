"""Goals that are after the savings: make the victim leave late, whatever it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustexit.attacks.goals.base import EXIT, SCORES, Goal, beyond, constant, goals, require_exit
from robustexit.attacks.views import Seen
from robustexit.victims.base import Victim

if TYPE_CHECKING:
    from torch import Tensor


def uniformity(logits: Tensor) -> Tensor:
    """Mean over exits of how near their probabilities are to uniform: 1 if all are uniform, 0 if all one-hot.

    ``mean_i [1 - C / (2 (C - 1)) * sum_c |p_ic - 1 / C|]`` (WAFFLE, Coalson et al. 2023, arXiv:2310.19152). The
    published factor 1 / (C - 1) spans [0, 1] only for two classes; C / (2 (C - 1)) does for every C.

    Args:
        logits: Shape [exits, classes], at least two classes.
    """
    classes = logits.shape[1]
    distance = (logits.softmax(-1) - 1 / classes).abs().sum(dim=1)
    return (1 - classes / (2 * (classes - 1)) * distance).mean().clamp(0, 1)


@dataclass(frozen=True)
class Slowdown(Goal):
    """A goal met by leaving at a target exit or later.

    Attributes:
        target_exit: Success is to leave at this exit or later, 1-based; K if None.
    """

    slows: ClassVar[bool] = True
    target_exit: int | None = None

    def __post_init__(self) -> None:
        if self.target_exit is not None:
            require_exit(self.name, "target_exit", self.target_exit, least=2)

    def refuses(self, victim: Victim) -> str | None:
        """A victim that cannot leave early cannot be slowed down."""
        if victim.num_classes < 2:
            return "a slowdown needs at least two classes"
        return super().refuses(victim) or beyond("target_exit", self.target_exit, victim)

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the victim leaves at the target exit or later."""
        return seen.taken >= (self.target_exit or seen.num_exits)


@goals.register("slowdown-uniform")
@dataclass(frozen=True)
class SlowdownUniform(Slowdown):
    """Make the victim leave late by making every exit unsure. Answers do not matter."""

    name: ClassVar[str] = "slowdown-uniform"
    source: ClassVar[str] = "WAFFLE, Coalson et al. 2023, NeurIPS, arXiv 2310.19152 (its score corrected for C > 2)"
    needs: ClassVar[frozenset[str]] = frozenset({EXIT, SCORES})

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return the uniformity of all exits, in [0, 1]."""
        assert seen.logits is not None
        return uniformity(seen.logits)


@goals.register("slowdown-position")
@dataclass(frozen=True)
class SlowdownPosition(Slowdown):
    """Make the victim leave late by the exit itself; ties by the uniformity of the exits computed, where seen."""

    name: ClassVar[str] = "slowdown-position"
    source: ClassVar[str] = "SlowBERT, Zhang et al. 2023, Findings of ACL"
    needs: ClassVar[frozenset[str]] = frozenset({EXIT})

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return (exit - 1 + tie) / K in [0, 1], the tie being the uniformity of the exits computed, else 0."""
        exit = constant(seen.probabilities, seen.taken - 1)
        tie = exit * 0 if seen.logits is None else uniformity(seen.logits)
        return (exit + tie) / seen.num_exits


@goals.register("slowdown")
@dataclass(frozen=True)
class Later(Goal):
    """Make the victim leave later than it did on the original, by making every exit unsure."""

    name: ClassVar[str] = "slowdown"
    source: ClassVar[str] = "the score of WAFFLE with the condition of SAME: any later exit"
    needs: ClassVar[frozenset[str]] = frozenset({EXIT, SCORES})
    slows: ClassVar[bool] = True

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return the uniformity of all exits, in [0, 1]."""
        assert seen.logits is not None
        return uniformity(seen.logits)

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the victim leaves later than on the original."""
        return seen.taken > start.taken


@dataclass(frozen=True)
class ExitBound(Goal):
    """A condition on the exit taken, for other goals: ``flip & exit<=2``. Its label is the condition.

    Attributes:
        exit: The exit, 1-based.
    """

    sign: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({EXIT})
    exit: int = 1

    def __post_init__(self) -> None:
        require_exit(self.label, "exit", self.exit)

    @property
    def label(self) -> str:
        """The condition, as it is written."""
        return f"exit{self.sign}{self.exit}"

    def refuses(self, victim: Victim) -> str | None:
        """The exit must exist, and the victim must have a choice."""
        if victim.full_depth:
            return "the victim always leaves at the same exit: no condition on it can be attacked"
        return beyond(self.label, self.exit, victim)

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return 1 - distance / K, the distance being exits between the one taken and the bound; 1 if met."""
        distance = 0 if self.met(seen, label, start) else abs(seen.taken - self.exit)
        return constant(seen.probabilities, 1 - distance / seen.num_exits)


@goals.register("exit-at-most")
@dataclass(frozen=True)
class ExitAtMost(ExitBound):
    """The victim leaves at an exit or earlier: written ``exit<=2``."""

    name: ClassVar[str] = "exit-at-most"
    source: ClassVar[str] = "RobustExit"
    sign: ClassVar[str] = "<="

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the exit taken is the bound or earlier."""
        return seen.taken <= self.exit


@goals.register("exit-at-least")
@dataclass(frozen=True)
class ExitAtLeast(ExitBound):
    """The victim leaves at an exit or later: written ``exit>=4``."""

    name: ClassVar[str] = "exit-at-least"
    source: ClassVar[str] = "RobustExit"
    sign: ClassVar[str] = ">="

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the exit taken is the bound or later."""
        return seen.taken >= self.exit
