"""Exit heads and pooling: what of a layer's state is read, and how it becomes logits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from robustexit.registry import Registry

HeadFactory = Callable[[int, int, float], nn.Module]
"""(width, classes, dropout) -> a module from [rows, width] to [rows, classes]."""

Pooling = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(state [rows, tokens, width], mask [rows, tokens]) -> [rows, width]."""

heads: Registry[HeadFactory] = Registry("head", "robustexit.heads")
"""Every head by name; other packages add theirs through the entry-point group `robustexit.heads`."""


@heads.register("linear")
def linear_head(width: int, classes: int, dropout: float) -> nn.Module:
    """Return dropout and one linear layer, the head of DeeBERT (Xin et al., 2020) without its pooler."""
    return nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))


@heads.register("mlp")
def mlp_head(width: int, classes: int, dropout: float) -> nn.Module:
    """Return a hidden tanh layer of the encoder's width before the linear one.

    The pooler-and-classifier of BERT (Devlin et al., 2019) at every exit, as in PABEE (Zhou et al., 2020).
    """
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(width, width),
        nn.Tanh(),
        nn.Dropout(dropout),
        nn.Linear(width, classes),
    )


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
