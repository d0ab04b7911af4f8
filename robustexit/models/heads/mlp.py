"""The head with a hidden layer: BERT's pooler and classifier."""

from __future__ import annotations

from torch import nn

from robustexit.models.heads.base import heads
from robustexit.models.heads.row_linear import RowLinear


@heads.register("mlp")
def mlp_head(width: int, classes: int, dropout: float) -> nn.Module:
    """Return a hidden tanh layer of the encoder's width before the linear one.

    The pooler-and-classifier of BERT (Devlin et al., 2019) at every exit, as in DeeBERT (Xin et al., 2020), BERxiT
    (Xin et al., 2021) and ElasticBERT (Liu et al., 2022); PABEE (Zhou et al., 2020) shares the pooler.
    """
    return nn.Sequential(
        nn.Dropout(dropout),
        RowLinear(width, width),
        nn.Tanh(),
        nn.Dropout(dropout),
        RowLinear(width, classes),
    )
