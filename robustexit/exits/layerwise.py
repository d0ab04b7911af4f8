"""What the layer-skipping forward asks of a model: one exit at a time, over the rows still undecided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

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
