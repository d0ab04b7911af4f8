"""The loop that fits post-hoc modules on stored outputs, and the outputs as tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from robustexit.errors import ModelError
from robustexit.modules.base import FitData
from robustexit.modules.fit_settings import FitSettings
from robustexit.tensors import own_copy


def minimise(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[torch.Tensor], torch.Tensor],
    settings: FitSettings,
    *,
    rows: int,
    seed: int,
    learning_rate: float | None = None,
    weight_decay: float = 0.0,
) -> float:
    """Minimise a loss over mini-batches with AdamW and a cosine schedule.

    Args:
        parameters: What learns.
        loss: Row numbers of a batch, shape [B], int64 -> scalar mean loss with gradients.
        settings: Passes over the data, peak rate (it falls to zero) and rows a step.
        rows: Number of rows in the data.
        seed: Seeds the order.
        learning_rate: Another peak rate than the settings'.
        weight_decay: Decoupled weight decay.

    Returns:
        Mean loss of the last epoch.

    Raises:
        ModelError: The loss is not finite.
    """
    rate = settings.learning_rate if learning_rate is None else learning_rate
    optimizer = torch.optim.AdamW(list(parameters), lr=rate, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.epochs * -(-rows // settings.batch_size))
    generator = torch.Generator().manual_seed(seed)
    mean = float("nan")
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for batch in torch.split(torch.randperm(rows, generator=generator), settings.batch_size):
            value = loss(batch)
            if not bool(torch.isfinite(value.detach())):
                raise ModelError(
                    f"expected a finite loss, got {float(value.detach())} in epoch {epoch} of the fit; "
                    "lower its learning rate"
                )
            optimizer.zero_grad(set_to_none=True)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += float(value.detach()) * len(batch)
        mean = total / rows
    return mean


def as_tensors(data: FitData) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return pooled states [N, K, D], logits [N, K, C] and labels [N] as tensors."""
    return own_copy(data.pooled), own_copy(data.logits), own_copy(data.labels)


def rounding(states: torch.Tensor) -> torch.Tensor:
    """Return the mean squared size that rounding alone can give to differences between states [..., D], a scalar."""
    return torch.finfo(states.dtype).eps ** 2 * states.square().sum(dim=-1).mean()
