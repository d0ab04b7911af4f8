"""BERxiT's alternating training."""

from __future__ import annotations

import torch

from robustexit.training.losses import final_loss, sum_loss
from robustexit.training.objectives import Objective, Step
from robustexit.training.regimes.base import Regime, Stage, every_head, regimes


class Alternating(Objective):
    """CE_K in even steps (the first is step 0), sum_i CE_i in odd ones."""

    def loss(self, step: Step) -> torch.Tensor:
        """Return the loss of this step's turn."""
        chosen = final_loss if step.number % 2 == 0 else sum_loss
        return chosen(step.logits, step.labels)


@regimes.register("alternating")
def alternating() -> Regime:
    """Train on CE_K and on sum_i CE_i in turns.

    BERxiT (Xin et al. 2021, "BERxiT: Early Exiting for BERT with Better Fine-Tuning and Extension to
    Regression"). Turns go on across epochs; the authors' code begins each epoch with CE_K.
    """
    return Regime("alternating", "BERxiT (Xin et al. 2021)", (Stage("alternating", True, every_head, Alternating()),))
