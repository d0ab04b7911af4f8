"""Linear layers and products whose rows do not depend on their place in the batch."""

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
        weight: Shape [out, in], row by row in memory (for a transposed one see `row_product`).
        bias: Shape [out], or None.
    """
    missing = -states.shape[-1] % (ALIGNED_BYTES // states.element_size())
    if missing:
        states, weight = functional.pad(states, (0, missing)), functional.pad(weight, (0, missing))
    return functional.linear(states, weight, bias)


def row_product(states: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return `states` @ `matrix`, each row the same wherever it stands in the batch.

    For weights that stand as [in, out]: there the rows of the result must be aligned too (seen with 5 to 11 outputs,
    at every number of features).

    Args:
        states: Shape [..., rows, in].
        matrix: Shape [..., in, out].
    """
    size = ALIGNED_BYTES // states.element_size()
    features, outputs = matrix.shape[-2:]
    if features % size:
        states = functional.pad(states, (0, -features % size))
    if features % size or outputs % size:
        matrix = functional.pad(matrix, (0, -outputs % size, 0, -features % size))
    return (states @ matrix)[..., :outputs]


class RowLinear(nn.Linear):
    """`torch.nn.Linear` over `row_linear`."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return [rows, out]."""
        return row_linear(input, self.weight, self.bias)
