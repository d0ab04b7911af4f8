"""The bound: leave at the first exit that is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies


@policies.register("oracle")
@dataclass(frozen=True)
class Oracle(ExitPolicy):
    """Leave at the earliest exit whose answer is the true label; exit K where none is right.

    An upper bound on accuracy at the cost it takes, for sweeps only: it reads the label and is never deployed or
    offered to an attack. Texts that no exit gets right are charged full depth, as a policy that waits for the right
    answer would be; a bound on cost alone would send them home at exit 1.
    """

    name: ClassVar[str] = "oracle"
    source: ClassVar[str] = "bound: earliest correct exit"
    needs_labels: ClassVar[bool] = True

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Compare with the label."""
        if "label" not in scalars:
            raise ConfigError(
                "exit policy 'oracle' reads the true label: use it on held-out outputs (robustexit sweep)"
            )
        right = logits.argmax(dim=-1) == scalars["label"].long()
        return Update(state, right, torch.softmax(logits, dim=-1))

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Itself: there is nothing to tune."""
        return [self]
