"""What policies with more than one parameter share: how settings spread over them, and learned values per exit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from robustexit.errors import ConfigError
from robustexit.exits.policy import require_number

T = TypeVar("T")


def thinned(values: Sequence[T], most: int) -> list[T]:
    """Return at most `most` values, both ends among them, spread evenly over their positions."""
    if len(values) <= most:
        return list(values)
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, max(most, 1)).round().astype(int))]


def combinations(most: int, *axes: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Return combinations of candidate values, at most `most` of them, the budget shared between the parameters.

    A parameter with few candidates keeps them all; what it leaves over goes to the longer ones, which are thinned.

    Args:
        most: Combinations wanted.
        *axes: The candidates of each parameter, in the order in which they are to be varied (the last one fastest).

    Returns:
        Tuples with one value of each axis; none if an axis is empty.
    """
    budget, chosen = max(most, 1), dict[int, list[Any]]()
    by_length = sorted(range(len(axes)), key=lambda axis: len(axes[axis]))
    for place, axis in enumerate(by_length):
        share = max(1, int(budget ** (1 / (len(axes) - place)) + 1e-9))
        chosen[axis] = thinned(axes[axis], share)
        budget = max(1, budget // max(len(chosen[axis]), 1))
    return itertools.product(*(chosen[axis] for axis in range(len(axes))))


def require_numbers(policy: str, parameter: str, values: object) -> None:
    """Refuse per-exit values that are not a tuple of numbers; None (to be learned) passes.

    Raises:
        ConfigError: `values` is something else.
    """
    if values is None:
        return
    if not isinstance(values, tuple):
        raise ConfigError(f"exit policy {policy!r}: expected a list of numbers for {parameter}, got {values!r}")
    for value in values:
        require_number(policy, parameter, value)


def require_learned(policy: str, parameter: str, value: T | None) -> T:
    """Return a parameter, or refuse to run a policy for which it has neither been given nor learned.

    Raises:
        ConfigError: `value` is None.
    """
    if value is None:
        raise ConfigError(
            f"exit policy {policy!r} needs {parameter}: give it, or calibrate the policy, which learns it from "
            "held-out data"
        )
    return value


def require_per_exit(
    policy: str, parameter: str, values: tuple[float, ...] | None, num_exits: int
) -> tuple[float, ...]:
    """Return per-exit values, or refuse those that are missing or made for a model with another number of exits.

    Raises:
        ConfigError: They are.
    """
    known = require_learned(policy, parameter, values)
    if len(known) != num_exits:
        raise ConfigError(
            f"exit policy {policy!r}: expected {num_exits} values of {parameter}, one an exit of this model, got "
            f"{len(known)}; calibrate the policy on this model"
        )
    return known
