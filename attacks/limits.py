"""Limits on one attempt, off by default: with a time limit, records depend on the machine."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from robustexit.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """How much one attempt may cost.

    Attributes:
        queries: Model queries as TextAttack counts them; reaching it ends the attempt as ``budget``.
        candidates: Texts that transformations propose, whether or not a constraint lets them through; ends it as
            ``budget``.
        seconds: Wall-clock seconds, checked before every call of the victim and around every transformation (within
            those of masked language models too); ends it as ``timeout``.
    """

    queries: int | None = None
    candidates: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ConfigError(f"limit {field.name} must be positive, got {value!r}; leave it out for no limit")


class LimitReached(Exception):  # noqa: N818  # the end of a search, not a mistake
    """A search ran into one of its limits.

    Attributes:
        outcome: The outcome of the attempt.
    """

    def __init__(self, outcome: Literal["timeout", "budget"]) -> None:
        super().__init__(outcome)
        self.outcome: Literal["timeout", "budget"] = outcome
