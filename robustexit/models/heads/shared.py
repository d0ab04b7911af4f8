"""One head for all exits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from robustexit.errors import ConfigError
from robustexit.models.heads.base import ContextHead, build_head, heads
from robustexit.models.heads.pooling import Pooling

NAME = "shared"


@heads.register(NAME)
def shared_head(
    width: int,
    classes: int,
    dropout: float,
    *,
    previous: nn.Module | None,
    pooling: Pooling,
    head: str = "linear",
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Return the head of the exit before, or a new one at the first exit: all exits read with the same weights.

    As in CALM (Schuster et al., 2022) and the tied classifiers of the depth-adaptive transformer (Elbayad et al.,
    2020). A LayerNorm between pooling and head (`head_norm`) stays one for each exit.

    Args:
        width: Width of the encoder's states.
        classes: Number of classes.
        dropout: Dropout probability.
        previous: The module of the exit before.
        pooling: The model's pooling function.
        head: Registered name of the head that is shared.
        options: Options of that head.

    Raises:
        ConfigError: A head that cannot be shared, or options that it does not have.
    """
    if previous is not None:
        return previous
    if head == NAME:
        raise ConfigError(
            f"head {NAME!r}: expected another head to share, got {NAME!r} itself; name one, e.g. 'linear'"
        )
    built = build_head(head, width, classes, dropout, options or {}, exit=1, previous=None, pooling=pooling)
    if isinstance(built, ContextHead) and built.reads_earlier:
        raise ConfigError(
            f"head {NAME!r}: expected a head that is alike at every exit, got {head!r}, which reads the exits before; "
            "share another one, e.g. 'mlp'"
        )
    return built
