"""Limits on one attempt, off by default: with a time limit, records depend on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from robustexit.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """How much one attempt may cost.

    Attributes:
        queries: Model queries as TextAttack counts them; reaching it ends the attempt as ``budget``.
        seconds: Wall-clock seconds, checked before every call of the victim; ends it as ``timeout``.
    """

    queries: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("queries", "seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"limit {name} must be positive, got {value!r}; leave it out for no limit")


class LimitReached(Exception):  # noqa: N818  # the end of a search, not a mistake
    """A search ran into one of its limits.

    Attributes:
        outcome: The outcome of the attempt.
    """

    def __init__(self, outcome: Literal["timeout", "budget"]) -> None:
        super().__init__(outcome)
        self.outcome: Literal["timeout", "budget"] = outcome
