"""Intervals and tests. The example is the unit: all its rows are drawn together."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from scipy import stats

from robustexit.measures.attempts import BoolArray, FloatArray, IntArray
from robustexit.measures.base import UNDEFINED, Estimate

RESAMPLES: Final = 2000
SEED: Final = 20_241_107
CONFIDENCE: Final = 0.95
_BATCH_NUMBERS: Final = 4_000_000


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the Wilson score interval of `hits` out of `n` > 0."""
    interval = stats.binomtest(hits, n).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided McNemar p-value from the two discordant counts (1 where there are none)."""
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values for one family, in the given order (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return [float(value) for value in adjusted]


BINS: Final = 10
"""Equal bins of confidence in the calibration error."""


def expected_calibration_error(confidence: FloatArray, right: FloatArray) -> float:
    """Return the mean over texts of the absolute gap between a bin's confidence and its accuracy (Guo et al. 2017).

    Args:
        confidence: Largest probability of each answer, shape [N], N at least 1.
        right: 1 where the answer is right, 0 elsewhere, shape [N].
    """
    bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gaps = np.abs(np.bincount(bins, weights=confidence - right, minlength=BINS))
    return float(gaps.sum() / len(confidence))


def once_each(units: IntArray) -> bool:
    """Whether every example has one row."""
    return bool(len(units) == 0 or units.max() + 1 == len(units))


def compact(units: IntArray) -> IntArray:
    """Renumber units 0..m-1 after rows were left out."""
    return np.unique(units, return_inverse=True)[1].astype(np.int64)


def bootstrap(statistic: Callable[..., Any], samples: Sequence[FloatArray]) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a statistic of samples that are drawn together.

    Args:
        statistic: Called with the samples and ``axis``; vectorised over the leading axis.
        samples: Arrays of one length, one entry per example.

    Returns:
        The 95 % interval, or None for fewer than two examples or an undefined resample.
    """
    n = len(samples[0])
    if n < 2:
        return None
    with np.errstate(divide="ignore", invalid="ignore"), warnings.catch_warnings():
        # A constant sample has a point for an interval, which is what we want of it.
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        interval = stats.bootstrap(
            tuple(samples),
            statistic,
            paired=True,
            vectorized=True,
            n_resamples=RESAMPLES,
            batch=max(1, _BATCH_NUMBERS // n),
            confidence_level=CONFIDENCE,
            method="percentile",
            random_state=np.random.default_rng(SEED),
        ).confidence_interval
    low, high = float(interval.low), float(interval.high)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None


def from_sums(function: Callable[..., Any], columns: Sequence[FloatArray], units: IntArray) -> Estimate:
    """Estimate a function of column totals (a mean, a ratio of means), with a bootstrap over examples.

    Args:
        function: Totals, one argument a column -> value; elementwise on arrays.
        columns: Arrays of shape [rows].
        units: Example index of each row, shape [rows]; rows with a missing value must be left out before.
    """
    n = len(units)
    if n == 0:
        return UNDEFINED
    groups = compact(units)
    totals = [np.bincount(groups, weights=column).astype(np.float64) for column in columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(function(*(total.sum() for total in totals)))
    if not math.isfinite(value):
        return Estimate(math.nan, n=n)

    def statistic(*samples: FloatArray, axis: int = -1) -> Any:
        return function(*(sample.sum(axis=axis) for sample in samples))

    low, high = bootstrap(statistic, totals) or (None, None)
    return Estimate(value, low, high, n)


def mean(values: FloatArray | IntArray | BoolArray, units: IntArray) -> Estimate:
    """Estimate a mean over rows, missing values left out."""
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    numbers = numbers[known]
    return from_sums(np.divide, (numbers, np.ones_like(numbers)), units[known])


def median(values: FloatArray | IntArray, units: IntArray) -> Estimate:
    """Estimate a median over rows, missing values left out; no interval where examples have several rows."""
    numbers = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(numbers)
    numbers, units = numbers[known], compact(units[known])
    if not len(numbers):
        return UNDEFINED
    low, high = (bootstrap(np.median, (numbers,)) if once_each(units) else None) or (None, None)
    return Estimate(float(np.median(numbers)), low, high, len(numbers))


def proportion(hits: BoolArray, units: IntArray, errors: int = 0) -> Estimate:
    """Estimate a share of rows.

    Args:
        hits: Shape [rows].
        units: Example index of each row.
        errors: Attempts that left the denominator because they failed to run; they give `Estimate.bounds`.

    Returns:
        The share with its Wilson interval; a bootstrap over examples where examples have several rows.
    """
    n, count = len(hits), int(hits.sum())
    bounds = (count / (n + errors), (count + errors) / (n + errors)) if errors else None
    if n == 0:
        return Estimate(math.nan, n=0, bounds=bounds)
    if not once_each(compact(units)):
        pooled = mean(hits, units)
        return Estimate(pooled.value, pooled.low, pooled.high, n, bounds)
    low, high = wilson(count, n)
    return Estimate(count / n, low, high, n, bounds)
