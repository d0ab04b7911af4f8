"""What several modules are fitted with: every exit's loss, and where a way that may stop at each exit ends."""

from __future__ import annotations

import torch
from torch.nn import functional


def cross_entropies(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return every exit's cross-entropy: logits [N, K, C] and labels [N] -> [N, K]."""
    same = labels[:, None].expand(logits.shape[:2])
    return functional.cross_entropy(logits.transpose(1, 2), same, reduction="none")


def first_exit_log_probabilities(scores: torch.Tensor) -> torch.Tensor:
    """Return log P(leave at i) where every exit i < K is taken with probability sigmoid(score_i), exit K otherwise.

    Args:
        scores: Of exits 1 to K - 1, shape [rows, K - 1].

    Returns:
        Shape [rows, K]; the probabilities sum to 1.
    """
    nothing = torch.zeros(len(scores), 1)
    stay = functional.logsigmoid(-scores).cumsum(dim=1)
    return torch.cat([nothing, stay], dim=1) + torch.cat([functional.logsigmoid(scores), nothing], dim=1)
