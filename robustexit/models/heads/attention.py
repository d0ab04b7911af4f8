"""FastBERT's head: a narrow self-attention over the token states before the classifier."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import nn

from robustexit.errors import ConfigError
from robustexit.models.heads.base import ContextHead, HeadInputs, heads
from robustexit.models.heads.pooling import Pooling
from robustexit.models.heads.row_linear import RowLinear
from robustexit.parameters import require_count


class AttentionHead(ContextHead):
    """Narrow projection, self-attention, pooling, and a classifier with a hidden layer.

    Args:
        width: Width of the encoder's states.
        classes: Number of classes.
        dropout: Dropout probability of the attention weights.
        pooling: Pools the attended token states.
        cla_hidden_size: Width inside the head.
        cla_heads_num: Attention heads; they divide `cla_hidden_size`.
    """

    reads_tokens: ClassVar[bool] = True

    def __init__(
        self, width: int, classes: int, dropout: float, pooling: Pooling, cla_hidden_size: int, cla_heads_num: int
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.cla_heads_num = cla_heads_num
        self.narrow = nn.Linear(width, cla_hidden_size)
        self.query = nn.Linear(cla_hidden_size, cla_hidden_size)
        self.key = nn.Linear(cla_hidden_size, cla_hidden_size)
        self.value = nn.Linear(cla_hidden_size, cla_hidden_size)
        self.attended = nn.Linear(cla_hidden_size, cla_hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.hidden = RowLinear(cla_hidden_size, cla_hidden_size)
        self.classifier = RowLinear(cla_hidden_size, classes)

    def gather(self, inputs: HeadInputs) -> torch.Tensor:
        """Return the pooled attended states, shape [rows, cla_hidden_size]."""
        assert inputs.tokens is not None and inputs.mask is not None
        narrow = torch.tanh(self.narrow(inputs.tokens))
        query, key, value = (self._split(project(narrow)) for project in (self.query, self.key, self.value))
        # Plain products instead of a fused kernel: they are counted as what they cost, on every device.
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        allowed = inputs.mask[:, None, None, :].to(torch.bool)
        scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
        attended = (self.dropout(torch.softmax(scores, dim=-1)) @ value).transpose(1, 2)
        return self.pooling(self.attended(attended.reshape(narrow.shape)), inputs.mask)

    def classify(self, gathered: torch.Tensor) -> torch.Tensor:
        """Return logits, shape [rows, classes]."""
        logits: torch.Tensor = self.classifier(torch.tanh(self.hidden(gathered)))
        return logits

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        """Return [rows, attention heads, tokens, width of a head]."""
        rows, tokens, width = states.shape
        return states.reshape(rows, tokens, self.cla_heads_num, width // self.cla_heads_num).transpose(1, 2)


@heads.register("attention")
def attention_head(
    width: int, classes: int, dropout: float, *, pooling: Pooling, cla_hidden_size: int = 128, cla_heads_num: int = 2
) -> nn.Module:
    """Return FastBERT's classifier (Liu et al., ACL 2020; sizes of the public code).

    A projection to `cla_hidden_size`, multi-head self-attention over the tokens, pooling, a hidden tanh layer and the
    linear one. The public code pools the first token (our ``cls``), with ``mean`` as an option that averages over
    features there; ours averages over the text's tokens.

    Args:
        width: Width of the encoder's states.
        classes: Number of classes.
        dropout: Dropout probability of the attention weights.
        pooling: The model's pooling function.
        cla_hidden_size: Width inside the head.
        cla_heads_num: Attention heads; they divide `cla_hidden_size`.

    Raises:
        ConfigError: Sizes that cannot work.
    """
    where = "head 'attention'"
    require_count(where, "cla_hidden_size", cla_hidden_size)
    require_count(where, "cla_heads_num", cla_heads_num)
    if cla_hidden_size % cla_heads_num:
        raise ConfigError(
            f"{where}: expected a cla_hidden_size that cla_heads_num divides, got {cla_hidden_size} and {cla_heads_num}"
        )
    return AttentionHead(width, classes, dropout, pooling, cla_hidden_size, cla_heads_num)
