"""What an attacker sees of the victim: the view, and what is left of a trace under it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from robustexit.errors import ConfigError, unknown_name
from robustexit.victims.base import Trace

if TYPE_CHECKING:
    from torch import Tensor

ANSWER: Final = "answer"
EXIT: Final = "exit"
SCORES: Final = "scores of every exit"
GRADIENTS: Final = "gradients"


@dataclass(frozen=True)
class Seen:
    """What an attacker sees of the victim's work on one text.

    Attributes:
        answer: The deployed answer.
        num_exits: K.
        probabilities: What the policy returns, shape [C]; one-hot at the answer where scores are not shown.
        exit: The exit taken, 1-based; None where it is not shown.
        logits: Every computed exit's logits, shape [depth, C]; None where scores are not shown.
    """

    answer: int
    num_exits: int
    probabilities: Tensor
    exit: int | None
    logits: Tensor | None

    @property
    def taken(self) -> int:
        """The exit taken.

        Raises:
            ValueError: The view does not show it.
        """
        if self.exit is None:
            raise ValueError("this view does not show the exit")
        return self.exit

    @property
    def exits(self) -> Tensor:
        """Probabilities of every computed exit, shape [depth, C].

        Raises:
            ValueError: The view does not show them.
        """
        if self.logits is None:
            raise ValueError("this view does not show the exits' scores")
        return self.logits.softmax(-1)


@dataclass(frozen=True)
class View:
    """An attacker's view.

    Attributes:
        name: Name in campaigns and records.
        shows: Which of answer, exit, scores and gradients it shows.
        about: One line.
    """

    name: str
    shows: frozenset[str]
    about: str

    def show(self, trace: Trace, num_exits: int) -> Seen:
        """Return what the attacker sees of a trace."""
        import torch  # here, so that naming views does not wait seconds for it

        probabilities = torch.from_numpy(trace.probabilities)
        if SCORES not in self.shows:
            probabilities = torch.zeros_like(probabilities)
            probabilities[trace.answer] = 1
        return Seen(
            answer=trace.answer,
            num_exits=num_exits,
            probabilities=probabilities,
            exit=trace.exit if EXIT in self.shows else None,
            logits=torch.from_numpy(trace.logits) if SCORES in self.shows else None,
        )


VIEWS: Final = {
    view.name: view
    for view in (
        View("scores", frozenset({ANSWER, EXIT, SCORES}), "answer, exit, and the scores of every exit"),
        View("label", frozenset({ANSWER}), "the answer alone"),
        View("label+exit", frozenset({ANSWER, EXIT}), "the answer and the exit taken (or the time it took)"),
        View("gradients", frozenset({ANSWER, EXIT, SCORES, GRADIENTS}), "everything, gradients included (white box)"),
    )
}
"""The views by name."""


def get_view(name: str) -> View:
    """Return a view by name.

    Raises:
        ConfigError: No such view.
    """
    if name not in VIEWS:
        raise ConfigError(unknown_name("view", name, VIEWS))
    return VIEWS[name]
