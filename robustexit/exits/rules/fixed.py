"""Always the same exit. `fixed` at exit K is the full-depth control of every comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies, require_count


@policies.register("fixed")
@dataclass(frozen=True)
class Fixed(ExitPolicy):
    """Take exit k, whatever the input.

    Attributes:
        k: The exit, 1-based; None for the last one (the full-depth control).
    """

    name: ClassVar[str] = "fixed"
    source: ClassVar[str] = "control: a constant exit"

    k: int | None = None

    def __post_init__(self) -> None:
        """Check k."""
        if self.k is not None:
            require_count(self.name, "k", self.k)

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Return an empty state; refuse an exit the model does not have."""
        if self.k is not None and self.k > num_exits:
            raise ConfigError(f"fixed(k={self.k}): the model has {num_exits} exits; choose k from 1 to {num_exits}")
        return {}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Stop every row at exit k."""
        stop = torch.full((len(logits),), exit == self.k)
        return Update(state, stop, torch.softmax(logits, dim=-1))

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Fixed]:
        """Every exit."""
        return [Fixed(k) for k in range(1, held_out.num_exits + 1)]

    def reads(self, exit: int, num_exits: int) -> bool:
        """Only the head of exit k is needed."""
        return exit == (self.k or num_exits)

    @property
    def constant(self) -> bool:
        """Always."""
        return True

    def describe(self) -> str:
        """Return ``fixed(k=3)``, or ``full-depth`` for the last exit."""
        return "full-depth" if self.k is None else super().describe()
