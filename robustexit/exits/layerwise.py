"""What the layer-skipping forward asks of a model: one exit at a time, over the rows still undecided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch


@dataclass(frozen=True)
class ExitOutput:
    """One exit's output over the rows still in the batch.

    Attributes:
        logits: Shape [rows, classes], on the model's device, float32.
        pooled: The state the head read, shape [rows, width], or None where the model shows none.
    """

    logits: torch.Tensor
    pooled: torch.Tensor | None = None


class LayerwiseRun(Protocol):
    """A forward pass in progress over one padded batch."""

    def advance(self) -> ExitOutput:
        """Run the encoder layers up to the next exit and that exit's head."""
        ...

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every row not in `rows` (indices into the current batch, in the order to keep)."""
        ...


class Reading(NamedTuple):
    """What a post-hoc module makes of one exit.

    Attributes:
        state: The module's memory for the next exit: named tensors, rows first.
        logits: What stands in for the head's logits, shape [rows, classes], float32.
        scalars: Named values for the policy, each of shape [rows], float32.
    """

    state: dict[str, torch.Tensor]
    logits: torch.Tensor
    scalars: Mapping[str, torch.Tensor]


class ExitReader(Protocol):
    """What stands between a model's exits and the policy: a post-hoc module (`robustexit.modules`)."""

    def start(self, rows: int) -> dict[str, torch.Tensor]:
        """Return the memory before exit 1."""
        ...

    def read_exit(
        self, state: dict[str, torch.Tensor], exit: int, pooled: torch.Tensor, logits: torch.Tensor
    ) -> Reading:
        """Read one exit; a row's result does not depend on how many rows there are.

        Args:
            state: What `start` or the previous call returned, for the same rows.
            exit: 1-based exit number.
            pooled: The states the head read, shape [rows, width], float32, on the CPU.
            logits: The head's logits, shape [rows, classes], float32, on the CPU.
        """
        ...
