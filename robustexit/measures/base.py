"""What a measure is: a definition, a direction, a unit and the one function that computes it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

import pandas as pd

from robustexit.measures.attempts import Attempts

Direction: TypeAlias = Literal["higher", "lower", "none"]
"""Which way is better for the one who deploys the victim."""

Unit: TypeAlias = Literal["%", "points", "exits", "layers", "x", "count", "number", "MACs"]
"""`%` and `points` hold shares in [0, 1] and [-1, 1]; only their rendering multiplies by 100."""

Result = TypeVar("Result", covariant=True)


@dataclass(frozen=True)
class Estimate:
    """A number with what is known of its error.

    Attributes:
        value: The estimate; NaN where it is undefined (no example to take it over).
        low: Lower end of the 95 % interval, None where an interval makes no sense.
        high: Upper end.
        n: Rows in the denominator.
        bounds: Where attempts ended in errors: the value if all of them had counted against, and for.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    bounds: tuple[float, float] | None = None

    @property
    def defined(self) -> bool:
        """Whether there is a number at all."""
        return math.isfinite(self.value)

    def excludes_zero(self) -> bool:
        """Whether the interval is there and lies on one side of zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)

    def __neg__(self) -> Estimate:
        low, high = (None if end is None else -end for end in (self.high, self.low))
        bounds = None if self.bounds is None else (-self.bounds[1], -self.bounds[0])
        return Estimate(-self.value, low, high, self.n, bounds)


UNDEFINED = Estimate(math.nan)


@dataclass(frozen=True)
class Measure(Generic[Result]):
    """One measure, written once: the documentation, footnotes and tooltips all read it here.

    Attributes:
        name: Key in JSON and in links.
        title: Name in tables.
        definition: What it is, with its denominator.
        direction: Which way is better for the deployed system.
        unit: Unit of the value.
        compute: Evaluated attempts of one cell -> result.
    """

    name: str
    title: str
    definition: str
    direction: Direction
    unit: Unit
    compute: Callable[[Attempts], Result]

    def __call__(self, cell: pd.DataFrame | Attempts) -> Result:
        """Compute the measure on one cell's records.

        Args:
            cell: Records of one cell (columns of `robustexit.records`), or the attempts made from them.

        Raises:
            DataError: The records lack a column or mix victims with different numbers of exits.
        """
        return self.compute(cell if isinstance(cell, Attempts) else Attempts.of(cell))


def measure(title: str, direction: Direction, unit: Unit) -> Callable[[Callable[[Attempts], Result]], Measure[Result]]:
    """Turn a documented function into a `Measure`: its name is the key, its docstring the definition."""

    def wrap(compute: Callable[[Attempts], Result]) -> Measure[Result]:
        definition = " ".join((inspect.getdoc(compute) or "").split())
        return Measure(compute.__name__, title, definition, direction, unit, compute)

    return wrap
