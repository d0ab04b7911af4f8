"""The settings that every module fitted by gradient descent has, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from robustexit.errors import ConfigError
from robustexit.parameters import require_count, require_number


@dataclass(frozen=True)
class FitSettings:
    """How a module is fitted with `robustexit.modules.fitting.minimise`; modules add theirs and set other defaults.

    Subclasses name their module in `where`, which stands first in messages.

    Attributes:
        epochs: Passes over the stored outputs.
        learning_rate: Peak rate of AdamW.
        batch_size: Texts a step.
    """

    where: ClassVar[str]

    epochs: int = 20
    learning_rate: float = 1e-2
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Check the values."""
        require_count(self.where, "epochs", self.epochs)
        require_count(self.where, "batch_size", self.batch_size)
        require_positive(self.where, "learning_rate", self.learning_rate)


def require_positive(where: str, parameter: str, value: object) -> None:
    """Refuse a module's hyper-parameter that is not a finite number above 0.

    Raises:
        ConfigError: It is none.
    """
    require_number(where, parameter, value)
    if not 0 < value < math.inf:  # type: ignore[operator]
        raise ConfigError(f"{where}: expected a number above 0 for {parameter}, got {value!r}")
