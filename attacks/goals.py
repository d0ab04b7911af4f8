"""What an attack tries to reach: a score to maximise and a condition, both read from traces.

A goal knows nothing of texts, searches or TextAttack; `robustexit.attacks.goal_function` brings it there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from robustexit.errors import ConfigError, did_you_mean
from robustexit.registry import Registry
from robustexit.victims.base import FloatArray, Trace, Victim

goals: Registry[type[Goal]] = Registry("goal", "robustexit.goals")
"""Goal classes by name: frozen dataclasses whose fields are their parameters."""


@dataclass(frozen=True)
class Goal(ABC):
    """One attack goal.

    Attributes:
        name: Name in campaigns and records.
        maximizable: There is no success, only better and worse; attempts end as ``maximized``.
        recipe: The only recipe that can take this goal, or None for any.
    """

    name: ClassVar[str]
    maximizable: ClassVar[bool] = False
    recipe: ClassVar[str | None] = None

    @property
    def label(self) -> str:
        """The name with the parameters that are set, as in records: ``slowdown-uniform(target_exit=4)``."""
        shown = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) is not None]
        return f"{self.name}({', '.join(shown)})" if shown else self.name

    def min_depth(self, num_exits: int) -> int:
        """Exits that traces must hold at least; 1 leaves it to the exit policy."""
        return 1

    def refuses(self, victim: Victim) -> str | None:
        """Return why this goal cannot apply to a victim, or None if it can."""
        return None

    @abstractmethod
    def score(self, trace: Trace, label: int, start: Trace) -> np.float32:
        """Return what the search maximises.

        Args:
            trace: Trace of the text tried, at least `min_depth` exits deep.
            label: True label.
            start: Trace of the original text, as deep.
        """

    @abstractmethod
    def met(self, trace: Trace, label: int, start: Trace) -> bool:
        """Whether a text reaches the goal; arguments as for `score`."""

    def skips(self, start: Trace, label: int) -> bool:
        """Whether the original is not attacked at all: by TextAttack's rule, where it meets the goal already."""
        return self.met(start, label, start)


def softmax(logits: FloatArray) -> FloatArray:
    """Softmax over the last axis in float32, bit for bit TextAttack's own; shape as given."""
    import torch  # here, so that naming goals does not wait seconds for it

    probabilities: FloatArray = torch.softmax(torch.from_numpy(np.ascontiguousarray(logits)), dim=-1).numpy()
    return probabilities


@goals.register("deployed")
@dataclass(frozen=True)
class Deployed(Goal):
    """The adaptive attack on the system as it is used: its returned answer is to be wrong.

    Score: 1 - p_y of the probabilities that the exit policy returns.
    """

    name: ClassVar[str] = "deployed"

    def score(self, trace: Trace, label: int, start: Trace) -> np.float32:
        """Return 1 - p_y at the exit taken, in [0, 1]."""
        return np.float32(1) - np.float32(trace.probabilities[label])

    def met(self, trace: Trace, label: int, start: Trace) -> bool:
        """Whether the deployed answer is wrong."""
        return trace.answer != label


@goals.register("final")
@dataclass(frozen=True)
class Final(Goal):
    """The attack on exit K alone, whatever the policy does: for an early-exit victim, a transfer attack."""

    name: ClassVar[str] = "final"

    def min_depth(self, num_exits: int) -> int:
        """All K exits."""
        return num_exits

    def score(self, trace: Trace, label: int, start: Trace) -> np.float32:
        """Return 1 - p_y at exit K, in [0, 1]."""
        return np.float32(1) - np.float32(softmax(trace.logits[-1])[label])

    def met(self, trace: Trace, label: int, start: Trace) -> bool:
        """Whether exit K's answer is wrong."""
        return int(softmax(trace.logits[-1]).argmax()) != label


def uniformity(logits: FloatArray) -> np.float32:
    """Mean over exits of how near their probabilities are to uniform: 1 if all are uniform, 0 if all one-hot.

    ``mean_i [1 - C / (2 (C - 1)) * sum_c |p_ic - 1 / C|]`` (WAFFLE, Coalson et al. 2023, arXiv:2310.19152). The
    published factor 1 / (C - 1) spans [0, 1] only for two classes; C / (2 (C - 1)) does for every C.

    Args:
        logits: Shape [exits, classes], float32, at least two classes.
    """
    classes = logits.shape[1]
    distance = np.abs(softmax(logits) - np.float32(1 / classes)).sum(axis=1, dtype=np.float32)
    each = np.float32(1) - np.float32(classes / (2 * (classes - 1))) * distance
    return np.float32(np.clip(each.mean(dtype=np.float32), 0, 1))


@goals.register("slowdown-uniform")
@dataclass(frozen=True)
class SlowdownUniform(Goal):
    """Make the victim leave late by making every exit unsure. Answers do not matter.

    Attributes:
        target_exit: Success is to leave at this exit or later, 1-based; K if None.
    """

    name: ClassVar[str] = "slowdown-uniform"
    target_exit: int | None = None

    def __post_init__(self) -> None:
        target = self.target_exit
        if target is not None and (isinstance(target, bool) or not isinstance(target, int) or target < 2):
            raise ConfigError(
                f"goal {self.name!r}: target_exit must be an exit after the first (2, 3, ..., K), got {target!r}"
            )

    def min_depth(self, num_exits: int) -> int:
        """All K exits."""
        return num_exits

    def refuses(self, victim: Victim) -> str | None:
        """A victim that cannot leave early cannot be slowed down."""
        if victim.num_exits == 1:
            return "the victim has a single exit: nothing to slow down"
        if victim.full_depth:
            return "the victim always runs to its last exit: nothing to slow down"
        if victim.num_classes < 2:
            return "uniform probabilities need at least two classes"
        if self.target_exit is not None and self.target_exit > victim.num_exits:
            return f"target_exit={self.target_exit} is deeper than the victim's {victim.num_exits} exits"
        return None

    def score(self, trace: Trace, label: int, start: Trace) -> np.float32:
        """Return the uniformity of all exits, in [0, 1]."""
        return uniformity(trace.logits)

    def met(self, trace: Trace, label: int, start: Trace) -> bool:
        """Whether the victim leaves at the target exit or later."""
        return trace.exit >= (self.target_exit or trace.depth)


@goals.register("input-reduction")
@dataclass(frozen=True)
class InputReduction(Goal):
    """Remove words while the deployed answer stays right (Feng et al. 2018, arXiv:1804.07781).

    What a trace can say about it; the words are counted where the texts are, in the goal function.
    """

    name: ClassVar[str] = "input-reduction"
    maximizable: ClassVar[bool] = True
    recipe: ClassVar[str | None] = "input-reduction"

    def score(self, trace: Trace, label: int, start: Trace) -> np.float32:
        """Return p_y at the exit taken while the answer is right, else 0; it breaks ties between equal lengths."""
        return np.float32(trace.probabilities[label]) if self.met(trace, label, start) else np.float32(0)

    def met(self, trace: Trace, label: int, start: Trace) -> bool:
        """Whether the deployed answer is still right."""
        return trace.answer == label

    def skips(self, start: Trace, label: int) -> bool:
        """A wrong answer cannot be kept right."""
        return start.answer != label


def make_goal(name: str, **parameters: Any) -> Goal:
    """Make a goal by name.

    Args:
        name: Registered name.
        **parameters: The goal's parameters.

    Raises:
        ConfigError: Unknown name or parameter, or a value that cannot work; the message says what is expected.
    """
    kind = goals.get(name)
    known = [f.name for f in fields(kind)]
    for parameter in parameters:
        if parameter not in known:
            expected = f"expected one of: {', '.join(known)}" if known else "it takes none"
            raise ConfigError(
                f"goal {name!r} has no parameter {parameter!r}{did_you_mean(parameter, known)}; {expected}"
            )
    return kind(**parameters)
