"""Goals that are after the answer: the deployed one, one exit's, or all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from robustexit.attacks.goals.base import ANSWER, EXIT, SCORES, Goal, beyond, goals, require_exit
from robustexit.attacks.views import Seen
from robustexit.victims.base import Victim

if TYPE_CHECKING:
    from torch import Tensor


@goals.register("deployed")
@dataclass(frozen=True)
class Deployed(Goal):
    """The adaptive attack on the system as it is used: its returned answer is to be wrong.

    Score: 1 - p_y of the probabilities that the exit policy returns; 0 or 1 where only the answer is seen.
    """

    name: ClassVar[str] = "deployed"
    source: ClassVar[str] = "TextAttack's untargeted classification, on the deployed output"

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return 1 - p_y at the exit taken, in [0, 1]."""
        return 1 - seen.probabilities[label]

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the deployed answer is wrong."""
        return seen.answer != label


@goals.register("final")
@dataclass(frozen=True)
class Final(Goal):
    """The attack on exit K alone, whatever the policy does: for an early-exit victim, a transfer attack."""

    name: ClassVar[str] = "final"
    source: ClassVar[str] = "what a plain attack on a multi-exit model does: a transfer attack on its policy"
    needs: ClassVar[frozenset[str]] = frozenset({SCORES})

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return 1 - p_y at exit K, in [0, 1]."""
        return 1 - seen.exits[-1, label]

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether exit K's answer is wrong."""
        return int(seen.exits[-1].argmax()) != label


@goals.register("exit")
@dataclass(frozen=True)
class OneExit(Goal):
    """The attack on exit k alone; one for each exit fills the crafting matrix.

    Attributes:
        k: The exit, 1-based.
    """

    name: ClassVar[str] = "exit"
    source: ClassVar[str] = "crafting matrix of Triple Wins, Hu et al. 2020, ICLR, arXiv 2002.10025"
    needs: ClassVar[frozenset[str]] = frozenset({SCORES})
    k: int = 1

    def __post_init__(self) -> None:
        require_exit(self.name, "k", self.k)

    def refuses(self, victim: Victim) -> str | None:
        """The exit must exist."""
        return beyond("k", self.k, victim)

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return 1 - p_y at exit k, in [0, 1]."""
        return 1 - seen.exits[self.k - 1, label]

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether exit k's answer is wrong."""
        return int(seen.exits[self.k - 1].argmax()) != label


@goals.register("average")
@dataclass(frozen=True)
class Average(Goal):
    """The attack on all exits at once, judged by the deployed answer."""

    name: ClassVar[str] = "average"
    source: ClassVar[str] = "average attack of Triple Wins, Hu et al. 2020, ICLR, arXiv 2002.10025"
    needs: ClassVar[frozenset[str]] = frozenset({ANSWER, SCORES})

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return the mean over exits of 1 - p_y, in [0, 1]."""
        return (1 - seen.exits[:, label]).mean()

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the deployed answer is wrong."""
        return seen.answer != label


@goals.register("all-exits")
@dataclass(frozen=True)
class AllExits(Average):
    """The average attack, met only where every exit is wrong."""

    name: ClassVar[str] = "all-exits"
    source: ClassVar[str] = "RobustExit: the average attack with the strictest condition"
    needs: ClassVar[frozenset[str]] = frozenset({SCORES})

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether every exit's answer is wrong."""
        return bool((seen.exits.argmax(-1) != label).all())


@goals.register("max-average")
@dataclass(frozen=True)
class MaxAverage(Average):
    """One attack for each exit; the text with the largest average score is kept, and judged by the deployed answer.

    `robustexit.attacks.ensembles` makes the attacks; as a goal of its own it is the average.
    """

    name: ClassVar[str] = "max-average"
    source: ClassVar[str] = "max-average attack of Triple Wins, Hu et al. 2020, ICLR, arXiv 2002.10025"


@goals.register("confident-early-error")
@dataclass(frozen=True)
class ConfidentEarlyError(Goal):
    """A wrong answer that leaves early: fast, sure and wrong.

    Attributes:
        m: The last exit that counts as early, 1-based.
    """

    name: ClassVar[str] = "confident-early-error"
    source: ClassVar[str] = "RobustExit"
    needs: ClassVar[frozenset[str]] = frozenset({ANSWER, EXIT, SCORES})
    m: int = 1

    def __post_init__(self) -> None:
        require_exit(self.name, "m", self.m)

    def refuses(self, victim: Victim) -> str | None:
        """There must be a later exit than m."""
        if victim.full_depth:
            return "the victim always runs to its last exit: no error is early"
        if self.m >= victim.num_exits:
            return f"m={self.m}: expected an exit before the victim's last of {victim.num_exits}"
        return None

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return the mean of 1 - p_y over the exits up to m, in [0, 1]."""
        return (1 - seen.exits[: self.m, label]).mean()

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the deployed answer is wrong and left by exit m."""
        return seen.answer != label and seen.taken <= self.m


@goals.register("keep-answer")
@dataclass(frozen=True)
class KeepAnswer(Goal):
    """The deployed answer stays right; a condition for other goals: ``slowdown & keep-answer``."""

    name: ClassVar[str] = "keep-answer"
    source: ClassVar[str] = "silent slowdown: savings lost without a wrong answer to notice"

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return p_y at the exit taken, in [0, 1]."""
        return seen.probabilities[label]

    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether the deployed answer is right."""
        return seen.answer == label

    def excludes(self, start: Seen, label: int) -> bool:
        """A wrong answer cannot be kept right."""
        return start.answer != label


@goals.register("input-reduction")
@dataclass(frozen=True)
class InputReduction(KeepAnswer):
    """Remove words while the deployed answer stays right.

    What a trace can say about it; the words are counted where the texts are, in the goal function.
    """

    name: ClassVar[str] = "input-reduction"
    source: ClassVar[str] = "Feng et al. 2018, EMNLP, arXiv 1804.07781"
    maximizable: ClassVar[bool] = True
    recipe: ClassVar[str | None] = "input-reduction"

    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return p_y at the exit taken while the answer is right, else 0; it breaks ties between equal lengths."""
        return seen.probabilities[label] * (seen.answer == label)

    def skips(self, start: Seen, label: int) -> bool:
        """Only originals answered wrongly are left out."""
        return self.excludes(start, label)
