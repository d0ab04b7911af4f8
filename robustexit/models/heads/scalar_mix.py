"""The Right Tool's head: a learned mix of this exit's state and all earlier ones, with the earlier logits."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from robustexit.errors import ConfigError
from robustexit.models.heads.base import ContextHead, HeadInputs, heads
from robustexit.models.heads.row_linear import RowLinear


class ScalarMixHead(ContextHead):
    """Softmax-weighted mean of the pooled states so far, the earlier logits beside it, and one linear layer.

    Args:
        width: Width of the encoder's states.
        classes: Number of classes.
        dropout: Dropout probability of each pooled state.
        exit: 1-based number of the exit.
        add_previous_layer_logits: Read the earlier exits' logits as well.
    """

    reads_earlier: ClassVar[bool] = True

    def __init__(self, width: int, classes: int, dropout: float, exit: int, add_previous_layer_logits: bool) -> None:
        super().__init__()
        self.add_previous_layer_logits = add_previous_layer_logits
        self.dropout = nn.Dropout(dropout)
        self.mix = nn.Parameter(torch.zeros(exit))
        features = width + (exit - 1) * classes * add_previous_layer_logits
        self.classifier = RowLinear(features, classes)

    def gather(self, inputs: HeadInputs) -> torch.Tensor:
        """Return the mixed state and the earlier logits, shape [rows, width + (exit - 1) * classes]."""
        weights = torch.softmax(self.mix, dim=0)
        states = [*inputs.earlier.pooled, inputs.pooled]
        # A sum of products element by element: a matrix product's kernel would depend on the number of rows.
        mixed = self.dropout(states[0]) * weights[0]
        for weight, state in zip(weights[1:], states[1:], strict=True):
            mixed = mixed + self.dropout(state) * weight
        return torch.cat([mixed, *inputs.earlier.logits], dim=1) if self.add_previous_layer_logits else mixed

    def classify(self, gathered: torch.Tensor) -> torch.Tensor:
        """Return logits, shape [rows, classes]."""
        logits: torch.Tensor = self.classifier(gathered)
        return logits


@heads.register("scalar-mix")
def scalar_mix_head(
    width: int, classes: int, dropout: float, *, exit: int, add_previous_layer_logits: bool = True
) -> nn.Module:
    """Return the head of "The Right Tool for the Job" (Schwartz et al., ACL 2020; code: allenai/sledgehammer).

    The mix is over the exits so far; with an exit after every layer that is the paper's mix over the layers. Weights
    are a softmax (Peters et al., 2018), equal at the start; the public code scales random ones to unit length instead.
    Gradients flow into the earlier logits, as there.

    Args:
        width: Width of the encoder's states.
        classes: Number of classes.
        dropout: Dropout probability of each pooled state.
        exit: 1-based number of the exit.
        add_previous_layer_logits: Read the earlier exits' logits as well.

    Raises:
        ConfigError: `add_previous_layer_logits` is not true or false.
    """
    if not isinstance(add_previous_layer_logits, bool):
        raise ConfigError(
            "head 'scalar-mix': expected true or false for add_previous_layer_logits, got "
            f"{add_previous_layer_logits!r}"
        )
    return ScalarMixHead(width, classes, dropout, exit, add_previous_layer_logits)
