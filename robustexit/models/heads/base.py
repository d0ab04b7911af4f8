"""What a head is: a factory of modules, its options, and what the module may read."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import nn

from robustexit.errors import ConfigError, unknown_name
from robustexit.models.heads.pooling import Pooling
from robustexit.registry import Registry

HeadFactory = Callable[..., nn.Module]
"""(width, classes, dropout) -> a module from [rows, width] to [rows, classes], or a `ContextHead`.

Keyword-only parameters are the head's options, with their defaults; three of them are filled in by the model:
``exit`` (1-based number of the exit), ``previous`` (the module of the exit before, None at the first) and
``pooling`` (the model's pooling function).
"""

FILLED_IN = ("exit", "previous", "pooling")
"""Keyword-only parameters of a factory that the model fills in."""

heads: Registry[HeadFactory] = Registry("head", "robustexit.heads")
"""Every head by name; other packages add theirs through the entry-point group `robustexit.heads`."""


@dataclass
class EarlierExits:
    """What the exits before have read and said, first exit first.

    Attributes:
        pooled: What each head read, of shape [rows, width].
        logits: What each head said, of shape [rows, classes].
    """

    pooled: list[torch.Tensor] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)

    def add(self, pooled: torch.Tensor, logits: torch.Tensor) -> None:
        """Remember one more exit."""
        self.pooled.append(pooled)
        self.logits.append(logits)

    def keep(self, rows: torch.Tensor) -> None:
        """Drop every row not in `rows` (indices into the current rows, in the order to keep)."""
        self.pooled = [value.index_select(0, rows.to(value.device)) for value in self.pooled]
        self.logits = [value.index_select(0, rows.to(value.device)) for value in self.logits]

    def detach(self) -> None:
        """Cut the gradients to the exits before."""
        self.pooled = [value.detach() for value in self.pooled]
        self.logits = [value.detach() for value in self.logits]


@dataclass(frozen=True)
class HeadInputs:
    """What a head may read at its exit.

    Attributes:
        pooled: This exit's pooled state, shape [rows, width].
        earlier: The exits before, for heads with `reads_earlier`.
        tokens: All token states of this exit's layer, shape [rows, tokens, width], for heads with `reads_tokens`.
        mask: 1 for tokens, 0 for padding, shape [rows, tokens]; there when `tokens` are.
    """

    pooled: torch.Tensor
    earlier: EarlierExits = field(default_factory=EarlierExits)
    tokens: torch.Tensor | None = None
    mask: torch.Tensor | None = None


class ContextHead(nn.Module):
    """A head that reads more than its own pooled state, in two steps.

    `gather` brings what is read into one vector a row; `classify` turns vectors into logits. A layer-by-layer pass
    calls `classify` with filler rows, because the kernel of a thin matrix product changes with the number of rows;
    so in `gather` only element-wise work and products over all tokens (as in the encoder's layers) are safe
    (docs/decisions.md, "Numerics").
    """

    reads_tokens: ClassVar[bool] = False
    """`gather` reads the token states."""

    reads_earlier: ClassVar[bool] = False
    """`gather` reads the exits before this one."""

    def gather(self, inputs: HeadInputs) -> torch.Tensor:
        """Return what `classify` reads, shape [rows, features]."""
        raise NotImplementedError

    def classify(self, gathered: torch.Tensor) -> torch.Tensor:
        """Return logits, shape [rows, classes]."""
        raise NotImplementedError

    def forward(self, inputs: HeadInputs) -> torch.Tensor:
        """Return logits, shape [rows, classes]."""
        return self.classify(self.gather(inputs))


def _keywords(name: str) -> dict[str, inspect.Parameter]:
    """Return the keyword-only parameters of a head's factory by name."""
    parameters = inspect.signature(heads.get(name)).parameters.values()
    return {parameter.name: parameter for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def head_options(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a head, those not given with their defaults.

    Args:
        name: Registered head name.
        given: Options by name.

    Raises:
        ConfigError: Unknown head or option, or an option without a default that is not given.
    """
    known = {key: value.default for key, value in _keywords(name).items() if key not in FILLED_IN}
    for option in given:
        if option not in known:
            raise ConfigError(unknown_name(f"option of the head {name!r}:", option, known))
    options = {**known, **given}
    missing = [option for option, value in options.items() if value is inspect.Parameter.empty]
    if missing:
        raise ConfigError(f"head {name!r}: expected the option {missing[0]!r}, got none; give it in head_options")
    return options


def build_head(
    name: str,
    width: int,
    classes: int,
    dropout: float,
    options: Mapping[str, Any],
    *,
    exit: int,
    previous: nn.Module | None,
    pooling: Pooling,
) -> nn.Module:
    """Build one exit's head.

    Args:
        name: Registered head name.
        width: Width of the encoder's states.
        classes: Number of classes.
        dropout: Dropout probability.
        options: Options of the head (see `head_options`).
        exit: 1-based number of the exit.
        previous: The module of the exit before, None at the first.
        pooling: The model's pooling function.

    Raises:
        ConfigError: Unknown head or option, or an option's value that cannot work.
    """
    filled_in = {"exit": exit, "previous": previous, "pooling": pooling}
    wanted = {key: value for key, value in filled_in.items() if key in _keywords(name)}
    return heads.get(name)(width, classes, dropout, **head_options(name, options), **wanted)
