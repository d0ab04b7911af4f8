"""CALM's meta-classifier: a linear probe that says whether an exit already has the answer of exit K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import RowLinear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings
from robustexit.modules.fitting import as_tensors, minimise
from robustexit.modules.leaving import first_exit_log_probabilities
from robustexit.parameters import require_one_of

OBJECTIVES = ("independent", "geometric")


@dataclass(frozen=True)
class CalmMetaSettings(FitSettings):
    """How the probe is fitted.

    Attributes:
        objective: ``independent``: cross-entropy of every exit's agreement, agreeing and disagreeing texts of an exit
            balanced (what the paper uses); ``geometric``: likelihood of the first exit that agrees.
        shared: One probe for all exits, as in the paper, or one an exit.
    """

    where: ClassVar[str] = "post-hoc module 'calm-meta'"

    objective: str = "independent"
    shared: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        require_one_of(self.where, "objective", self.objective, OBJECTIVES)


@modules.register("calm-meta")
class CalmMeta(ExitModule):
    """m_i = sigmoid(w . h_i + b) predicts 1[y_i = y_K]; the scalar ``agreement`` is m_i, and 1 at exit K.

    CALM's early-exit classifier (Schuster et al. 2022, arXiv 2207.07061; code: google-research/t5x, contrib/calm), for
    the one decision of a text classifier in place of every token's. Balance weights come from the whole data (theirs
    from each batch) and are left out where they would all vanish, every exit being of one mind. In the geometric
    objective exit K takes the probability that is left, so that the exits' probabilities sum to 1 (theirs are
    normalised by a softmax over log-probabilities).
    """

    name: ClassVar[str] = "calm-meta"
    source: ClassVar[str] = "CALM, Schuster et al. 2022, arXiv 2207.07061"
    Settings = CalmMetaSettings

    def __init__(self, shape: ModuleShape, settings: CalmMetaSettings) -> None:
        super().__init__(shape, settings)
        early = shape.num_exits - 1
        self.probes = nn.ModuleList(
            RowLinear(shape.width, 1) for _ in range(min(early, 1) if settings.shared else early)
        )

    def score(self, index: int, pooled: torch.Tensor) -> torch.Tensor:
        """Return w . h + b of the early exit `index` (0-based) for states [rows, D], shape [rows]."""
        probe = self.probes[0 if self.settings.shared else index]
        scores: torch.Tensor = probe(pooled).squeeze(-1)
        return scores

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the head's own logits and the probability of agreement."""
        if exit == self.shape.num_exits:
            agreement = torch.ones(len(pooled))
        else:
            agreement = torch.sigmoid(self.score(exit - 1, pooled))
        return Reading(state, logits, {"agreement": agreement})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit to the agreement of exits 1 to K - 1 with exit K; labels are not used."""
        pooled, logits, _ = as_tensors(data)
        answers = logits.argmax(-1)
        agrees = (answers[:, :-1] == answers[:, -1:]).float()
        if agrees.shape[1] == 0:
            return {}
        weights = balance(agrees)
        first = torch.cat([agrees, torch.ones(len(agrees), 1)], dim=1).argmax(-1)

        def loss(rows: torch.Tensor) -> torch.Tensor:
            scores = torch.stack([self.score(i, pooled[rows, i]) for i in range(agrees.shape[1])], dim=1)
            if settings.objective == "geometric":
                return functional.nll_loss(first_exit_log_probabilities(scores), first[rows])
            return functional.binary_cross_entropy_with_logits(scores, agrees[rows], weights[rows])

        settings: CalmMetaSettings = self.settings
        value = minimise(self.parameters(), loss, settings, rows=len(agrees), seed=seed)
        return {"loss": value, "agreement_share": float(agrees.mean())}


def balance(agrees: torch.Tensor) -> torch.Tensor:
    """Weigh agreeing texts with the share of the others and the reverse, exit by exit.

    Args:
        agrees: 1 or 0, shape [N, exits].

    Returns:
        Weights of the same shape; all 1 where no exit has both kinds.
    """
    share = agrees.mean(dim=0, keepdim=True)
    weights = agrees * (1 - share) + (1 - agrees) * share
    return weights if bool(weights.any()) else torch.ones_like(weights)
