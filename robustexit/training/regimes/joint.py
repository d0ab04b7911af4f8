"""Encoder and all heads together, or one exit alone: plain sums of cross-entropies."""

from __future__ import annotations

from robustexit.training.losses import depth_weighted_loss, final_loss, sum_loss
from robustexit.training.regimes.base import Regime, Stage, every_head, last_head, regimes


@regimes.register("joint")
def joint() -> Regime:
    """Train encoder and all heads on sum_i CE_i.

    ElasticBERT's fine-tuning (Liu et al. 2022, arXiv 2110.07038).
    """
    return Regime(
        "joint",
        "ElasticBERT fine-tuning (Liu et al. 2022)",
        (Stage("joint", True, every_head, sum_loss),),
    )


@regimes.register("depth-weighted")
def depth_weighted() -> Regime:
    """Train encoder and all heads on sum_i i CE_i / sum_i i.

    PABEE (Zhou et al. 2020, arXiv 2006.04152).
    """
    return Regime(
        "depth-weighted", "PABEE (Zhou et al. 2020)", (Stage("joint", True, every_head, depth_weighted_loss),)
    )


@regimes.register("final")
def final() -> Regime:
    """Fine-tune one exit with its cross-entropy: the plain control.

    BERT's fine-tuning (Devlin et al. 2019, arXiv 1810.04805).
    """
    return Regime(
        "final",
        "plain fine-tuning (Devlin et al. 2019)",
        (Stage("final-exit", True, last_head, final_loss),),
        max_exits=1,
    )
