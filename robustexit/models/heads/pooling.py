"""Pooling: one vector of a layer's token states."""

from __future__ import annotations

from collections.abc import Callable

import torch

Pooling = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(state [rows, tokens, width], mask [rows, tokens]) -> [rows, width]."""


def mean_pooling(state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the mean over unmasked tokens, shape [rows, width]."""
    weights = mask.to(state.dtype).unsqueeze(-1)
    return (state * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def cls_pooling(state: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the first token's state, shape [rows, width]."""
    del mask
    return state[:, 0]


poolings: dict[str, Pooling] = {"mean": mean_pooling, "cls": cls_pooling}
"""Pooling functions by name."""
