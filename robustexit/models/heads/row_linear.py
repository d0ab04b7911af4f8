"""A linear layer whose rows do not depend on their place in the batch."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

ALIGNED_BYTES = 16
"""Rows of a thin matrix product start at multiples of this: otherwise its vector kernels add up in an order that
depends on where a row starts, and so on its place in the batch (seen with 9 to 770 features, at every number of
float32 features that 4 does not divide)."""


def row_linear(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return `states` @ `weight`.T + `bias`, each row the same wherever it stands in the batch.

    Features are filled up with zeros so that every row is aligned; the multiply-accumulates of the filling are counted,
    as they are computed.

    Args:
        states: Shape [rows, in].
        weight: Shape [out, in].
        bias: Shape [out], or None.
    """
    missing = -states.shape[-1] % (ALIGNED_BYTES // states.element_size())
    if missing:
        states, weight = functional.pad(states, (0, missing)), functional.pad(weight, (0, missing))
    return functional.linear(states, weight, bias)


class RowLinear(nn.Linear):
    """`torch.nn.Linear` over `row_linear`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return [rows, out]."""
        return row_linear(input, self.weight, self.bias)
