"""Transfer: what texts crafted on one victim do to others."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from robustexit.errors import DataError
from robustexit.measures.attempts import BoolArray
from robustexit.measures.base import Estimate
from robustexit.measures.statistics import proportion

MARK: Final = "@"
ATTACK: Final = ("dataset", "recipe", "goal", "view")
_PAIRED: Final = (*ATTACK, "seed", "example_id")

TRANSFER_DEFINITIONS: Final = {
    "accuracy": "Deployed answer of the victim on the crafted texts is the label. Denominator: every transferred text "
    "that was evaluated.",
    "transfer_rate": "The victim is wrong on the crafted text. Denominator: texts whose originals both victims answer "
    "rightly and that break the one they were crafted on.",
    "slowdown_rate": "The victim leaves later on the crafted text than on the original. Denominator: texts on which "
    "the victim they were crafted on leaves later.",
}


def transferred_recipe(recipe: str, crafted_on: str) -> str:
    """Return a recipe's name for texts taken from another run: ``deepwordbug@entropy``.

    The victim stands in the name because nothing else of a record's key tells texts crafted on two victims apart, and
    so that a transferred attack is never taken for an adaptive one.
    """
    return recipe if MARK in recipe else f"{recipe}{MARK}{crafted_on}"


def transfer_matrix(transferred: pd.DataFrame, source: pd.DataFrame) -> pd.DataFrame:
    """Return how texts crafted on each victim fare on every victim.

    Args:
        transferred: Records that `robustexit transfer` made; rows without `crafted_on` went to the very victim that
            they were crafted on.
        source: Records of the run that the texts come from, for what they did there.

    Returns:
        One row for each dataset, recipe (as in `source`), goal, view, crafted_on and victim, seeds pooled, with the
        number of texts `n` and the estimates of `TRANSFER_DEFINITIONS` (Wilson intervals; a bootstrap over examples
        where an example has several rows). Rates over no text are undefined.

    Raises:
        DataError: There are no transferred records.
    """
    if transferred.empty:
        raise DataError("expected transferred records, got none; run `robustexit transfer` first")
    names = ["broken_source", "later_source"]
    rows = _transferred(transferred).merge(_at_source(source), on=[*_PAIRED, "origin"], how="left")
    rows[names] = rows[names].fillna(False).astype(bool)
    keys = [*ATTACK, "crafted_on", "victim"]
    return pd.DataFrame(
        [
            {**dict(zip(keys, values, strict=True)), "n": len(cell), **_estimates(cell)}
            for values, cell in rows.groupby(keys, sort=True)
        ]
    )


def as_matrix(cells: pd.DataFrame, measure: str = "accuracy") -> pd.DataFrame:
    """Return one dataset's and attack's cells as a table of estimates: rows crafted_on, columns victim.

    Raises:
        DataError: The cells are of several datasets or attacks.
    """
    if len(cells[list(ATTACK)].drop_duplicates()) != 1:
        raise DataError("expected the cells of one dataset and attack; choose them by dataset, recipe, goal and view")
    return cells.pivot(index="crafted_on", columns="victim", values=measure)


def _transferred(records: pd.DataFrame) -> pd.DataFrame:
    rows = records.loc[records["outcome"] != "error"]
    crafted_on = rows["crafted_on"].where(rows["crafted_on"].notna(), rows["victim"]).astype(str)
    return rows.assign(
        crafted_on=crafted_on,
        origin=[name.rpartition("/")[2] for name in crafted_on],  # run/victim: another run's victim of the same name
        recipe=_attacks(rows),
        right_clean=rows["pred_clean"] == rows["label"],
        right=rows["pred_attacked"] == rows["label"],
        wrong=rows["pred_attacked"] != rows["label"],
        later=rows["exit_attacked"] > rows["exit_clean"],
    )[[*_PAIRED, "crafted_on", "origin", "victim", "right_clean", "right", "wrong", "later"]]


def _attacks(rows: pd.DataFrame) -> list[str]:
    return [str(recipe).partition(MARK)[0] for recipe in rows["recipe"]]


def _at_source(records: pd.DataFrame) -> pd.DataFrame:
    """What the texts did to the victim that they were crafted on."""
    rows = records.loc[(records["outcome"] != "error") & records["crafted_on"].isna()]
    right = rows["pred_clean"] == rows["label"]
    return rows.assign(
        origin=rows["victim"].astype(str),
        recipe=_attacks(rows),
        broken_source=right & (rows["pred_attacked"] != rows["label"]),
        later_source=rows["exit_attacked"] > rows["exit_clean"],
    )[[*_PAIRED, "origin", "broken_source", "later_source"]]


def _estimates(cell: pd.DataFrame) -> dict[str, Estimate]:
    units = pd.factorize(cell["example_id"])[0].astype(np.int64)

    def share(hits: str, part: BoolArray) -> Estimate:
        return proportion(cell[hits].to_numpy(dtype=bool)[part], units[part])

    return {
        "accuracy": share("right", np.ones(len(cell), dtype=bool)),
        "transfer_rate": share("wrong", (cell["right_clean"] & cell["broken_source"]).to_numpy(dtype=bool)),
        "slowdown_rate": share("later", cell["later_source"].to_numpy(dtype=bool)),
    }
