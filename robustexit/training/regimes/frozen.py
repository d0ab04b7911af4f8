"""Heads fitted on an encoder that stays as it is, or as fine-tuning for the last exit has left it."""

from __future__ import annotations

import torch

from robustexit.training.losses import (
    exit_cross_entropies,
    final_loss,
    inner_divergences,
    inner_loss,
    sum_loss,
)
from robustexit.training.objectives import ExitLoss
from robustexit.training.regimes.base import Regime, Stage, check_number, every_head, inner_heads, last_head, regimes


def after_fine_tuning(name: str, source: str, loss: ExitLoss) -> Regime:
    """Return a regime that fine-tunes encoder and last head with CE_K, freezes both, then fits heads 1..K-1."""
    stages = (Stage("final-exit", True, last_head, final_loss), Stage("inner-heads", False, inner_heads, loss))
    return Regime(name, source, stages, min_exits=2)


@regimes.register("frozen-heads")
def frozen_heads() -> Regime:
    """Keep the encoder as it is and fit all heads on sum_i CE_i.

    Linear probes (Alain & Bengio 2016, arXiv 1610.01644).
    """
    return Regime(
        "frozen-heads",
        "linear probes (Alain & Bengio 2016)",
        (Stage("heads", False, every_head, sum_loss),),
    )


@regimes.register("two-stage")
def two_stage() -> Regime:
    """Fine-tune encoder and last head with CE_K, freeze both, then fit heads 1..K-1 on sum_{i<K} CE_i.

    DeeBERT (Xin et al. 2020, arXiv 2004.12993).
    """
    return after_fine_tuning("two-stage", "DeeBERT (Xin et al. 2020)", inner_loss)


@regimes.register("frozen-self-distillation")
def frozen_self_distillation() -> Regime:
    """As two-stage, but heads 1..K-1 learn from exit K alone: sum_{i<K} KL(p_K, p_i), no labels.

    FastBERT (Liu et al. 2020, arXiv 2004.02178). The divergence runs from teacher to student, as in the authors'
    code.
    """

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        del labels  # the second stage could run on unlabelled text
        return inner_divergences(logits).sum()

    return after_fine_tuning("frozen-self-distillation", "FastBERT (Liu et al. 2020)", loss)


@regimes.register("capeen-mix")
def capeen_mix(alpha: float = 0.5) -> Regime:
    """As two-stage, but heads 1..K-1 learn from labels and exit K: the mean of (1 - alpha) CE_i + alpha KL(p_K, p_i).

    CapEEN (Bajpai & Hanawal 2024, arXiv 2410.04433), whose exits caption images; the mean here is over exits
    i < K, since exit K is the teacher itself (theirs trains a second head at the last layer).

    Args:
        alpha: Share of the divergence.
    """
    check_number("capeen-mix", "alpha", alpha, 0, 1)

    def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        hard = exit_cross_entropies(logits, labels)[:-1]
        return ((1 - alpha) * hard + alpha * inner_divergences(logits)).mean()

    return after_fine_tuning("capeen-mix", "CapEEN (Bajpai & Hanawal 2024)", loss)
