"""What an attack tries to reach: a score to maximise and a condition, both read from what the attacker sees.

A goal knows nothing of texts, searches or TextAttack; `robustexit.attacks.goal_function` brings it there. Its score
is written once, in differentiable operations: searches take its value, white-box attacks its gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from robustexit.attacks.views import ANSWER, EXIT, SCORES, Seen
from robustexit.errors import ConfigError
from robustexit.registry import Registry
from robustexit.victims.base import FloatArray, Victim

if TYPE_CHECKING:
    from torch import Tensor

goals: Registry[type[Goal]] = Registry("goal", "robustexit.goals")
"""Goal classes by name: frozen dataclasses whose fields are their parameters."""


@dataclass(frozen=True)
class Goal(ABC):
    """One attack goal.

    Attributes:
        name: Name in campaigns and records.
        source: Where it comes from.
        needs: What the attacker must see for it: some of `robustexit.attacks.views`' answer, exit and scores.
        maximizable: There is no success, only better and worse; attempts end as ``maximized``.
        recipe: The only recipe that can take this goal, or None for any.
        slows: It is after the victim's savings, which a victim without an early exit does not have.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset({ANSWER})
    maximizable: ClassVar[bool] = False
    recipe: ClassVar[str | None] = None
    slows: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """The name with the parameters that are set, as in records: ``slowdown-uniform(target_exit=4)``."""
        shown = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) is not None]
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    def min_depth(self, num_exits: int) -> int:
        """Exits that traces must hold at least; 1 leaves it to the exit policy, as goals without scores do."""
        return num_exits if SCORES in self.needs else 1

    def refuses(self, victim: Victim) -> str | None:
        """Return why this goal cannot apply to a victim, or None if it can."""
        if self.slows and victim.num_exits == 1:
            return "the victim has a single exit: nothing to slow down"
        if self.slows and victim.full_depth:
            return "the victim always runs to its last exit: nothing to slow down"
        return None

    @abstractmethod
    def score(self, seen: Seen, label: int, start: Seen) -> Tensor:
        """Return what the search maximises, in [0, 1], a scalar; differentiable wherever it reads scores.

        Args:
            seen: The text tried; at least `min_depth` exits deep where scores are shown.
            label: True label.
            start: The original text.
        """

    @abstractmethod
    def met(self, seen: Seen, label: int, start: Seen) -> bool:
        """Whether a text reaches the goal; arguments as for `score`."""

    def excludes(self, start: Seen, label: int) -> bool:
        """Whether no text of this original could count: a right answer to keep that is wrong already."""
        return False

    def skips(self, start: Seen, label: int) -> bool:
        """Whether the original is not attacked at all: excluded, or (TextAttack's rule) it meets the goal already."""
        return self.excludes(start, label) or self.met(start, label, start)


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis in float32, bit for bit TextAttack's own; shape as given."""
    import torch  # here, so that naming goals does not wait seconds for it

    probabilities: FloatArray = torch.softmax(torch.from_numpy(np.ascontiguousarray(logits)), dim=-1).numpy()
    return probabilities


def constant(like: Tensor, value: float) -> Tensor:
    """Return a number as a scalar tensor of the same kind."""
    return like.new_tensor(value)


def require_exit(goal: str, parameter: str, value: object, least: int = 1) -> None:
    """Refuse a parameter that is no exit number.

    Args:
        goal: The goal.
        parameter: Its parameter.
        value: What was given.
        least: The first exit that makes sense.

    Raises:
        ConfigError: No whole number, or smaller than `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        numbers = ", ".join(str(least + i) for i in range(2))
        raise ConfigError(f"goal {goal!r}: {parameter} must be an exit ({numbers}, ..., K), got {value!r}")


def beyond(parameter: str, value: int | None, victim: Victim) -> str | None:
    """Return why an exit does not exist in a victim, or None if it does."""
    if value is not None and value > victim.num_exits:
        return f"{parameter}={value} is deeper than the victim's {victim.num_exits} exits"
    return None


__all__ = ["ANSWER", "EXIT", "SCORES", "Goal", "beyond", "constant", "goals", "require_exit", "softmax"]
