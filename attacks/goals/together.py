"""Goals joined: ``slowdown & keep-answer``, ``flip & exit<=2``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustexit.attacks.goals.answers import KeepAnswer
from robustexit.attacks.goals.base import Goal, goals
from robustexit.attacks.goals.savings import Later
from robustexit.attacks.views import Seen
from robustexit.victims.base import Victim

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Together(Goal):
    """All of several goals at once.

    Score: the mean of the parts' scores, a part that is met counting 1, so that it is 1 where (and only where) all are
    met up to rounding, and the search works on what is still missing.

    Attributes:
        parts: The goals.
    """

    name: ClassVar[str] = "together"
    source: ClassVar[str] = "RobustExit (Foolbox's `&` of criteria, with a score)"
    parts: tuple[Goal, ...] = ()

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What any part needs."""
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def slows(self) -> bool:  # type: ignore[override]
        """Whether any part is after the savings."""
        return any(part.slows for part in self.parts)

    @property
    def label(self) -> str:
        """The parts, as they are written."""
        return " & ".join(part.label for part in self.parts)

    def min_depth(self, num_exits: int) -> int:
        """The deepest part's."""
        return max(part.min_depth(num_exits) for part in self.parts)

    def refuses(self, victim: Victim) -> str | None:
        """The first part's reason."""
        return next((reason for part in self.parts if (reason := part.refuses(victim))), None)

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return the mean of the parts' scores, met parts counting 1, in [0, 1]."""
        total = seen.probabilities.new_zeros(())
        for part in self.parts:
            total = total + (1 if part.met(seen, label, start) else part.score(seen, label, start))
        return total / len(self.parts)

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether every part is met."""
        return all(part.met(seen, label, start) for part in self.parts)

    def excludes(self, start: Seen, label: int) -> bool:
        """Whether any part excludes the original."""
        return any(part.excludes(start, label) for part in self.parts)


@goals.register("silent-slowdown")
@dataclass(frozen=True)
class SilentSlowdown(Together):
    """A later exit with the right answer kept: ``slowdown & keep-answer``. Clean mistakes are skipped."""

    name: ClassVar[str] = "silent-slowdown"
    source: ClassVar[str] = "RobustExit: the slowdown that no accuracy shows"
    parts: tuple[Goal, ...] = (Later(), KeepAnswer())

    @property
    def label(self) -> str:
        """The name alone."""
        return self.name
