"""Cost: what early exit saves, and what of it the attack takes away."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from robustexit.measures.attempts import Attempts, FloatArray
from robustexit.measures.base import Estimate, measure
from robustexit.measures.statistics import from_sums, mean

LEAST_SAVING: Final = 1.01
"""Clean speed-up under which there is nothing to lose, so that the share lost is undefined."""


def _columns(attempts: Attempts, *names: str) -> tuple[list[FloatArray], Attempts]:
    """Return columns over the rows that have all of them above zero."""
    columns = [attempts.number(name) for name in names]
    known = np.logical_and.reduce([column > 0 for column in columns])
    return [column[known] for column in columns], attempts.where(known)


def _speedup(attempts: Attempts, name: str) -> Estimate:
    (cost,), part = _columns(attempts, name)
    return from_sums(np.divide, (np.ones_like(cost), cost), part.units)


@measure("Speed-up, clean", "higher", "x")
def speedup_clean(attempts: Attempts) -> Estimate:
    """One over the mean cost on originals; cost is MACs spent over those of the full-depth control.

    Denominator: all of D. Bootstrap interval.
    """
    return _speedup(attempts, "cost_clean")


@measure("Speed-up, attacked", "higher", "x")
def speedup_attacked(attempts: Attempts) -> Estimate:
    """One over the mean cost on final texts; cost is MACs spent over those of the full-depth control on them.

    Denominator: all of D. Bootstrap interval.
    """
    return _speedup(attempts, "cost_attacked")


def _lost(rows: Any, clean: Any, attacked: Any) -> Any:
    before, after = rows / clean, rows / attacked
    return (before - after) / np.where(before >= LEAST_SAVING, before - 1, np.nan)


@measure("Efficiency lost", "lower", "%")
def efficiency_lost(attempts: Attempts) -> Estimate:
    """Share of the saving that the attack took: (S_clean - S_attacked) / (S_clean - 1), S the speed-up.

    Undefined where the clean speed-up is under 1.01. Over all of D. Bootstrap interval.
    """
    (clean, attacked), part = _columns(attempts, "cost_clean", "cost_attacked")
    return from_sums(_lost, (np.ones_like(clean), clean, attacked), part.units)


@measure("MACs, clean", "lower", "MACs")
def macs_clean(attempts: Attempts) -> Estimate:
    """Mean multiply-accumulates spent on the original, heads included. Denominator: all of D.

    Bootstrap interval.
    """
    return mean(attempts.number("macs_clean"), attempts.units)


@measure("MACs, attacked", "lower", "MACs")
def macs_attacked(attempts: Attempts) -> Estimate:
    """Mean multiply-accumulates spent on the final text, heads included. Denominator: all of D.

    Bootstrap interval.
    """
    return mean(attempts.number("macs_attacked"), attempts.units)


def _spent_and_full(attempts: Attempts) -> tuple[list[FloatArray], Attempts]:
    """Return MACs spent (clean, attacked) and MACs of full depth (clean, attacked)."""
    names = ("macs_clean", "macs_attacked", "cost_clean", "cost_attacked")
    (clean, attacked, cost_clean, cost_attacked), part = _columns(attempts, *names)
    return [clean, attacked, clean / cost_clean, attacked / cost_attacked], part


@measure("Cost inflation", "lower", "x")
def cost_inflation(attempts: Attempts) -> Estimate:
    """Mean MACs on final texts over mean MACs on originals; equals depth part times length part.

    Over all of D. Bootstrap interval.
    """
    (clean, attacked, _, _), part = _spent_and_full(attempts)
    return from_sums(np.divide, (attacked, clean), part.units)


@measure("Depth part", "lower", "x")
def inflation_depth(attempts: Attempts) -> Estimate:
    """Part of the cost inflation from leaving later: MACs spent over MACs of full depth, attacked over clean.

    (sum of MACs spent on final texts / sum of full-depth MACs on them) / (the same on originals), where a
    text's full-depth MACs are its MACs spent over its cost. Over all of D. Bootstrap interval.
    """
    (clean, attacked, full_clean, full_attacked), part = _spent_and_full(attempts)
    return from_sums(
        lambda m, m_full, m_clean, m_clean_full: (m / m_full) / (m_clean / m_clean_full),
        (attacked, full_attacked, clean, full_clean),
        part.units,
    )


@measure("Length part", "lower", "x")
def inflation_length(attempts: Attempts) -> Estimate:
    """Part of the cost inflation from longer texts: full-depth MACs on final texts over those on originals.

    A text's full-depth MACs are its MACs spent over its cost. Over all of D. Bootstrap interval.
    """
    (_, _, full_clean, full_attacked), part = _spent_and_full(attempts)
    return from_sums(np.divide, (full_attacked, full_clean), part.units)


def exit_costs(attempts: Attempts) -> FloatArray:
    """Return the cost of each exit relative to exit K's, shape [K + 1], from 0 for "no exit" to 1.

    The mean recorded cost of the texts that left there (originals and final texts); an exit nobody took lies
    on the line between its neighbours, exit K at the full-depth cost.
    """
    k = attempts.num_exits
    exits = np.concatenate([attempts.exit_clean, attempts.exit_attacked])
    costs = np.concatenate([attempts.number("cost_clean"), attempts.number("cost_attacked")])
    known = costs > 0
    counts = np.bincount(exits[known], minlength=k + 1)
    sums = np.bincount(exits[known], weights=costs[known], minlength=k + 1)
    taken = np.flatnonzero(counts)
    at = {0: 0.0, **{int(i): float(sums[i] / counts[i]) for i in taken}}
    at.setdefault(k, max(1.0, *at.values()))
    places = sorted(at)
    line = np.interp(np.arange(k + 1), places, [at[place] for place in places])
    line = np.maximum.accumulate(line)
    return np.asarray(line / line[-1])


def _efficacy(attempts: Attempts, side: str) -> Estimate:
    costs = exit_costs(attempts)
    middle = (costs[1:] + costs[:-1]) / 2
    exits = attempts.exit_clean if side == "clean" else attempts.exit_attacked
    return mean(1 - middle[exits - 1], attempts.units)


@measure("Efficacy, clean", "higher", "number")
def efficacy_clean(attempts: Attempts) -> Estimate:
    """Area under (cost of exit i, share of originals out by exit i), trapezoids from (0, 0) to (1, 1).

    DeepSloth's efficacy; with equal layer costs 1 - (mean exit - 1/2) / K. Costs are those of the texts that
    left at each exit over exit K's. Over all of D. Bootstrap interval with the costs held fixed.
    """
    return _efficacy(attempts, "clean")


@measure("Efficacy, attacked", "higher", "number")
def efficacy_attacked(attempts: Attempts) -> Estimate:
    """Area under (cost of exit i, share of final texts out by exit i), trapezoids from (0, 0) to (1, 1).

    DeepSloth's efficacy; with equal layer costs 1 - (mean exit - 1/2) / K. Costs are those of the texts that
    left at each exit over exit K's. Over all of D. Bootstrap interval with the costs held fixed.
    """
    return _efficacy(attempts, "attacked")


COST = (
    speedup_clean,
    speedup_attacked,
    efficiency_lost,
    macs_clean,
    macs_attacked,
    cost_inflation,
    inflation_depth,
    inflation_length,
    efficacy_clean,
    efficacy_attacked,
)
