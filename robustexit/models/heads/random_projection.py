"""A compressed head: a fixed random projection before the classifier."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import nn

from robustexit.errors import ConfigError
from robustexit.models.heads.base import heads
from robustexit.models.heads.row_linear import RowLinear, row_linear
from robustexit.parameters import require_count


class RandomProjection(nn.Module):
    """A fixed Gaussian matrix that keeps lengths on average (Johnson and Lindenstrauss, 1984).

    It is drawn once and saved with the model, so that a change in a random generator changes no answers.

    Args:
        width: D.
        projection: d.
        seed: Seeds the draw; the global random state is neither read nor changed.

    Attributes:
        matrix: Shape [d, D], entries of variance 1/d.
    """

    def __init__(self, width: int, projection: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(projection, width, generator=generator, device="cpu") / math.sqrt(projection)
        # On the default device, which may hold shapes without numbers.
        self.register_buffer("matrix", torch.empty(projection, width).copy_(drawn))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return projected states, shape [rows, d]."""
        return row_linear(states, cast(torch.Tensor, self.matrix).to(states.dtype))


@heads.register("random-projection")
def random_projection_head(
    width: int, classes: int, dropout: float, *, exit: int, projection: int = 64, seed: int = 0
) -> nn.Module:
    """Return a fixed random projection to `projection` dimensions and a linear layer, the only part that learns.

    Compressed learning (Calderbank et al., 2009) at every exit; no early-exit paper proposes it, so the sizes are ours.
    Exit i draws its matrix with seed + i.

    Args:
        width: Width of the encoder's states.
        classes: Number of classes.
        dropout: Dropout probability.
        exit: 1-based number of the exit.
        projection: Dimensions after the projection, at most `width`.
        seed: Seeds the projections.

    Raises:
        ConfigError: A size or seed that cannot work.
    """
    where = "head 'random-projection'"
    require_count(where, "projection", projection)
    if projection > width:
        raise ConfigError(
            f"{where}: expected a projection of at most {width} (the encoder's width), got {projection}; choose fewer"
        )
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"{where}: expected a seed of at least 0, got {seed!r}")
    return nn.Sequential(
        nn.Dropout(dropout), RandomProjection(width, projection, seed + exit), RowLinear(projection, classes)
    )
