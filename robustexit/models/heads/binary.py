"""A head with binary weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from robustexit.models.heads.base import heads
from robustexit.models.heads.row_linear import RowLinear, row_linear


class _Sign(torch.autograd.Function):
    """Sign with 0 counted as +1; backward it passes gradients where the weight is in [-1, 1]."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor) -> torch.Tensor:
        """Return +1 or -1 for each weight."""
        ctx.save_for_backward(weight)
        return torch.where(weight >= 0, 1.0, -1.0).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        """Return the straight-through gradient."""
        (weight,) = ctx.saved_tensors
        passed: torch.Tensor = gradients[0] * (weight.abs() <= 1).to(gradients[0].dtype)
        return passed


class BinaryLinear(RowLinear):
    """A linear layer that computes with the signs of its weights, each row scaled by its mean absolute weight.

    The real weights are what is trained and saved. Gradients reach them through the scale and, straight through,
    through the signs (XNOR-Net, Rastegari et al., 2016, section 3.1, binary-weight networks; straight-through
    gradients after Courbariaux et al., 2016). The bias and the states stay real.
    """

    def binary_weight(self) -> torch.Tensor:
        """Return the weights that are computed with, shape [out, in]."""
        signs: torch.Tensor = _Sign.apply(self.weight)  # type: ignore[no-untyped-call]
        return signs * self.weight.abs().mean(dim=1, keepdim=True)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return [rows, out]."""
        return row_linear(input, self.binary_weight(), self.bias)


@heads.register("binary")
def binary_head(width: int, classes: int, dropout: float) -> nn.Module:
    """Return dropout and a linear layer with binary weights (XNOR-Net's binary-weight networks).

    Its multiply-accumulates count like those of real weights: the dense kernels compute them in full.
    """
    return nn.Sequential(nn.Dropout(dropout), BinaryLinear(width, classes))
