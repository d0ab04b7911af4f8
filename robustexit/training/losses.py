"""Losses over the exits' logits, the material that regimes are made of."""

from __future__ import annotations

import torch
from torch.nn import functional


def exit_cross_entropies(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return CE_i, the batch mean cross-entropy of every exit.

    Args:
        logits: Shape [B, K, C].
        labels: Shape [B], class indices.

    Returns:
        Shape [K], in nats.
    """
    batch, num_exits, _ = logits.shape
    rows = functional.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(num_exits), reduction="none")
    return rows.view(batch, num_exits).mean(0)


def exit_divergences(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return T^2 KL(teacher, student) of every exit, the batch mean, with no gradient to the teacher.

    The distillation loss of Hinton et al. (2015, arXiv 1503.02531).

    Args:
        student: Logits, shape [B, K, C].
        teacher: Logits, shape [B, K, C], or [B, 1, C] for one teacher of all exits.
        temperature: T, by which both are divided.

    Returns:
        Shape [K], in nats (times T^2).
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher.detach() / temperature, dim=-1)
    rows = (log_teacher.exp() * (log_teacher - log_student)).sum(-1)
    return temperature**2 * rows.mean(0)


def by_depth(per_exit: torch.Tensor) -> torch.Tensor:
    """Return sum_i i x_i / sum_i i of one value an exit, shape [K]."""
    depths = torch.arange(1, len(per_exit) + 1, dtype=per_exit.dtype, device=per_exit.device)
    return (depths * per_exit).sum() / depths.sum()


def sum_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return sum_i CE_i (logits [B, K, C], labels [B])."""
    return exit_cross_entropies(logits, labels).sum()


def depth_weighted_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return sum_i i CE_i / sum_i i (logits [B, K, C], labels [B])."""
    return by_depth(exit_cross_entropies(logits, labels))


def final_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return CE_K (logits [B, K, C], labels [B])."""
    return functional.cross_entropy(logits[:, -1], labels)


def inner_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return sum_{i<K} CE_i (logits [B, K, C], labels [B])."""
    return exit_cross_entropies(logits, labels)[:-1].sum()


def inner_divergences(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Return T^2 KL(p_K, p_i) of exits i < K, shape [K - 1] (logits [B, K, C]); exit K gets no gradient."""
    return exit_divergences(logits[:, :-1], logits[:, -1:], temperature)


def true_class_probabilities(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return what every exit gives to the true class, shape [B, K] (logits [B, K, C], labels [B])."""
    chosen = labels[:, None, None].expand(-1, logits.shape[1], 1)
    return functional.softmax(logits, dim=-1).gather(2, chosen).squeeze(2)
