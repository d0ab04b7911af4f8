"""Policies that hold one number an exit against a threshold t: what they share, and how t is searched."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from typing_extensions import Self

from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, require_number

EDGE = 1e-3
"""How far outside the observed values the two outermost candidates lie."""


class Observation(NamedTuple):
    """What a threshold policy sees at one exit.

    Attributes:
        state: The state to hand to the next exit.
        statistic: What is held against t, shape [rows].
        probabilities: What the policy would return here, shape [rows, classes].
    """

    state: State
    statistic: torch.Tensor
    probabilities: torch.Tensor


@dataclass(frozen=True)
class Threshold(ExitPolicy):
    """Leave at the first exit whose statistic passes the threshold t."""

    leaves: ClassVar[Literal[">=", ">", "<"]]
    """How the statistic compares with t where a row leaves."""

    t: float

    def __post_init__(self) -> None:
        """Check t."""
        require_number(self.name, "t", self.t)

    @abstractmethod
    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Fold one exit in and return its statistic (arguments as for `ExitPolicy.update`)."""

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Leave where the statistic passes."""
        seen = self.observe(state, exit, logits, scalars)
        return Update(seen.state, self.passes(seen.statistic), seen.probabilities)

    def passes(self, statistic: torch.Tensor) -> torch.Tensor:
        """Return where a statistic lets a row leave, bool, same shape."""
        if self.leaves == "<":
            return statistic < self.t
        return statistic >= self.t if self.leaves == ">=" else statistic > self.t

    def statistics(self, held_out: HeldOut) -> torch.Tensor:
        """Return the statistic of every held-out text at every exit, shape [N, K]."""
        logits = torch.as_tensor(held_out.logits, dtype=torch.float32)
        scalars = {name: torch.as_tensor(values) for name, values in held_out.scalars.items()}
        state = self.start(len(logits), held_out.num_exits, held_out.num_classes)
        found = []
        for index in range(held_out.num_exits):
            here = {name: values[:, index] for name, values in scalars.items()}
            state, statistic, _ = self.observe(state, index + 1, logits[:, index], here)
            found.append(statistic)
        return torch.stack(found, dim=1)

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Return thresholds halfway between statistics observed before exit K, and one outside at each end."""
        return [replace(self, t=t) for t in between(self.statistics(held_out)[:, :-1], most)]


@dataclass(frozen=True)
class ModuleScore(Threshold):
    """A threshold on what the policy's post-hoc module says of an exit alone; the exit's own distribution answers."""

    scalar: ClassVar[str]
    """The module's scalar that is held against t."""

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Read the module's scalar."""
        return Observation(state, scalars[self.scalar], torch.softmax(logits, dim=-1))


def between(values: torch.Tensor | ArrayLike, most: int = CANDIDATES) -> list[float]:
    """Return cuts halfway between observed values, so that no held-out decision sits on the edge.

    Args:
        values: Any shape; values that are not finite are left out.
        most: Return at most one more than this, spread evenly over the ranks of the distinct values.

    Returns:
        Rising cuts, the first below and the last above every value; empty without values.
    """
    flat = np.asarray(values, dtype=np.float64).ravel()
    seen = np.unique(flat[np.isfinite(flat)])
    if not len(seen):
        return []
    if len(seen) > most:
        seen = seen[np.unique(np.linspace(0, len(seen) - 1, most).round().astype(int))]
    return [float(seen[0]) - EDGE, *((seen[1:] + seen[:-1]) / 2).tolist(), float(seen[-1]) + EDGE]
