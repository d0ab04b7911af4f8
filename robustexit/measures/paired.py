"""Two victims on the same examples: discordant counts, exact McNemar, paired differences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd

from robustexit.errors import DataError
from robustexit.measures.attempts import Attempts, BoolArray
from robustexit.measures.base import UNDEFINED, Estimate
from robustexit.measures.statistics import holm, mcnemar, mean, wilson

ATTACK_KEYS: Final = ("recipe", "goal", "view", "seed")
PAIR_KEYS: Final = ("dataset", "example_id", *ATTACK_KEYS)

PAIRED_DEFINITION: Final = (
    "Robust accuracy of the victim less that of its control, on the same examples under the same attacks "
    "(dataset, recipe, goal, view, seed); where several attacks are taken together, an example counts as "
    "robust "
    "only if it withstands all of them. Denominator: examples that both were evaluated on, under every one "
    "of "
    "these attacks. Paired bootstrap interval over examples; without any discordant example, plus and minus "
    "the "
    "Wilson bound of their share."
)
MCNEMAR_DEFINITION: Final = (
    "Exact two-sided McNemar test on the discordant examples (right for one victim only); "
    "Holm: adjusted for all comparisons of the table."
)


@dataclass(frozen=True)
class Comparison:
    """One victim against one control on one dataset.

    Attributes:
        dataset: Dataset name.
        victim: The victim in question.
        control: What it is compared with (the full depth of the same weights).
        attacks: (recipe, goal, view, seed) of every attack that was run on both.
        n: Examples compared.
        both: Examples robust for both.
        only_victim: Robust for the victim only.
        only_control: Robust for the control only.
        neither: Robust for neither.
        p_value: Exact McNemar; NaN where nothing was compared.
        p_holm: The same adjusted for its family, equal to `p_value` until `adjusted` sets it.
        difference: Robust accuracy, victim less control, in [-1, 1].
        clean_difference: Clean accuracy, victim less control.
        unmatched: Examples of either that had no partner under every attack.
    """

    dataset: str
    victim: str
    control: str
    attacks: tuple[tuple[str, str, str, int], ...]
    n: int
    both: int
    only_victim: int
    only_control: int
    neither: int
    p_value: float
    p_holm: float
    difference: Estimate
    clean_difference: Estimate
    unmatched: int


def compare(victim: pd.DataFrame, control: pd.DataFrame) -> Comparison:
    """Compare two victims of one dataset on the examples and attacks that both have.

    Args:
        victim: Records of one victim on one dataset, one attack or several.
        control: Records of the other one; attacks that only one of the two has are left out.

    Raises:
        DataError: A table holds no rows, or those of several victims or datasets.
    """
    names = [_only(table, side) for table, side in ((victim, "victim"), (control, "control"))]
    if names[0][0] != names[1][0]:
        raise DataError(f"expected one dataset to compare on, got {names[0][0]!r} and {names[1][0]!r}")
    attacks = _shared_attacks(victim, control)
    first, second = (_verdicts(table, attacks) for table in (victim, control))
    merged = first.join(second, how="inner", lsuffix="_victim", rsuffix="_control")
    robust = merged["robust_victim"].to_numpy(dtype=bool), merged["robust_control"].to_numpy(dtype=bool)
    clean = merged["clean_victim"].to_numpy(dtype=bool), merged["clean_control"].to_numpy(dtype=bool)
    only_victim, only_control = int((robust[0] & ~robust[1]).sum()), int((robust[1] & ~robust[0]).sum())
    p_value = mcnemar(only_victim, only_control) if len(merged) else math.nan
    return Comparison(
        dataset=names[0][0],
        victim=names[0][1],
        control=names[1][1],
        attacks=attacks,
        n=len(merged),
        both=int((robust[0] & robust[1]).sum()),
        only_victim=only_victim,
        only_control=only_control,
        neither=int((~robust[0] & ~robust[1]).sum()),
        p_value=p_value,
        p_holm=p_value,
        difference=difference(*robust),
        clean_difference=difference(*clean),
        unmatched=len(first.index.symmetric_difference(second.index)),
    )


def difference(first: BoolArray, second: BoolArray) -> Estimate:
    """Estimate the difference of two shares over the same examples (`PAIRED_DEFINITION`).

    Args:
        first: Shape [examples].
        second: The same examples, in the same order.
    """
    n = len(first)
    if n == 0:
        return UNDEFINED
    if (first == second).all():
        bound = wilson(0, n)[1]
        return Estimate(0.0, -bound, bound, n)
    return mean(first.astype(np.float64) - second.astype(np.float64), np.arange(n))


def adjusted(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with Holm's adjustment over all of them (those that compared anything)."""
    family = [comparison.p_value for comparison in comparisons if comparison.n]
    corrected = iter(holm(family))
    return [replace(c, p_holm=next(corrected)) if c.n else c for c in comparisons]


def worst_case(records: pd.DataFrame) -> pd.Series[bool]:
    """Return per example whether it withstands every attack in `records` (one victim, one dataset).

    Only examples evaluated under all of those attacks stand in the result; the index is the example id.
    """
    return _verdicts(records, _shared_attacks(records, records))["robust"]


def on_attacks(records: pd.DataFrame, attacks: Iterable[tuple[str, str, str, int]]) -> pd.DataFrame:
    """Return the rows made by one of `attacks`."""
    wanted = pd.MultiIndex.from_tuples(list(attacks), names=list(ATTACK_KEYS)) if attacks else None
    if wanted is None:
        return records.iloc[:0]
    return records.loc[pd.MultiIndex.from_frame(records[list(ATTACK_KEYS)]).isin(wanted)]


def _only(table: pd.DataFrame, side: str) -> tuple[str, str]:
    names = table[["dataset", "victim"]].drop_duplicates()
    if len(names) != 1:
        raise DataError(f"expected the {side}'s records of one dataset and victim, got {len(names)} combinations")
    return str(names.iloc[0, 0]), str(names.iloc[0, 1])


def _shared_attacks(first: pd.DataFrame, second: pd.DataFrame) -> tuple[tuple[str, str, str, int], ...]:
    keys = list(ATTACK_KEYS)
    shared = first[keys].drop_duplicates().merge(second[keys].drop_duplicates(), on=keys).sort_values(keys)
    return tuple((str(r), str(g), str(v), int(s)) for r, g, v, s in shared.itertuples(index=False, name=None))


def _verdicts(records: pd.DataFrame, attacks: tuple[tuple[str, str, str, int], ...]) -> pd.DataFrame:
    """Return one row an example evaluated under all attacks: robust under all, right on the original."""
    rows = on_attacks(records, attacks)
    attempts = Attempts.of(rows)
    table = pd.DataFrame(
        {
            "example_id": attempts.frame["example_id"].to_numpy(),
            "robust": attempts.right_attacked,
            "clean": attempts.right_clean,
        }
    ).groupby("example_id", sort=True)
    verdicts = table.all()
    return verdicts.loc[table.size() == len(attacks)]
