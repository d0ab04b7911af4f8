"""SWEET's separated training."""

from __future__ import annotations

import torch

from robustexit.errors import ConfigError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.losses import sum_loss
from robustexit.training.objectives import Objective, Step
from robustexit.training.regimes.base import Regime, Stage, every_head, regimes


class Separated(Objective):
    """sum_i CE_i with gradients stopped at every exit: a layer learns from the next exit alone."""

    cut_gradients = True

    def check(self, model: MultiExitForSequenceClassification) -> None:
        """Refuse encoders whose layers share weights, and heads that exits share."""
        if model.config.encoder.model_type == "albert":
            raise ConfigError(
                "regime 'separated' expected an encoder whose layers have weights of their own, got an ALBERT, whose "
                "layers share them; choose another backbone or regime 'joint'"
            )
        if model.heads_shared:
            raise ConfigError(
                "regime 'separated' expected a head of its own at every exit, got the shared head "
                f"{model.config.head!r}; choose another head or regime 'joint'"
            )

    def loss(self, step: Step) -> torch.Tensor:
        """Return sum_i CE_i."""
        return sum_loss(step.logits, step.labels)


@regimes.register("separated")
def separated() -> Regime:
    """Train each head and the layers between the exit before and its own on that exit's cross-entropy alone.

    SWEET (Rotem et al. 2023, arXiv 2306.02307). The embeddings belong to the first exit's span.
    """
    return Regime("separated", "SWEET (Rotem et al. 2023)", (Stage("separated", True, every_head, Separated()),))
