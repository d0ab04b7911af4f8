"""The linear head."""

from __future__ import annotations

from torch import nn

from robustexit.models.heads.base import heads
from robustexit.models.heads.row_linear import RowLinear


@heads.register("linear")
def linear_head(width: int, classes: int, dropout: float) -> nn.Module:
    """Return dropout and one linear layer, the head of DeeBERT (Xin et al., 2020) without its pooler."""
    return nn.Sequential(nn.Dropout(dropout), RowLinear(width, classes))
