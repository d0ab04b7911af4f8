"""Crafting matrices: what texts made against one exit do to every exit; and who broke what in a worst case."""

from __future__ import annotations

import re
from typing import Final

import pandas as pd

from robustexit.measures.attempts import Attempts
from robustexit.measures.base import measure
from robustexit.measures.depth import recorded
from robustexit.measures.statistics import proportion

_CRAFTED: Final = re.compile(r"exit\(k=(\d+)\)")


def crafted_exit(goal: str) -> int | None:
    """Return the exit that a goal attacks alone, 1-based; None for any other goal."""
    found = _CRAFTED.fullmatch(goal)
    return int(found[1]) if found else None


@measure("Crafting matrix", "higher", "%")
def crafting_matrix(attempts: Attempts) -> pd.DataFrame:
    """A[i, j], accuracy of exit j on texts crafted against exit i (goal `exit(k=i)`), and T[i, j], their transfer.

    T[i, j] is the share on which exit j is wrong. Its denominator: texts whose originals exits i and j both get
    right, and on which exit i is wrong. Denominator of A: attempts of D with the probabilities of all exits. Wilson
    intervals.
    """
    part = recorded(attempts)
    goals = part.frame["goal"].astype(str)
    rows = []
    for goal in sorted(goals.unique(), key=lambda name: crafted_exit(name) or 0):
        i = crafted_exit(goal)
        if i is None:
            continue
        mine = part.where((goals == goal).to_numpy())
        clean, attacked = mine.right_by_exit_clean, mine.right_by_exit_attacked
        for j in range(1, mine.num_exits + 1):
            broken = clean[:, i - 1] & clean[:, j - 1] & ~attacked[:, i - 1]
            rows.append(
                {
                    "crafted": i,
                    "exit": j,
                    "accuracy": proportion(attacked[:, j - 1], mine.units),
                    "transfer": proportion(~attacked[broken, j - 1], mine.units[broken]),
                }
            )
    return pd.DataFrame(rows, columns=["crafted", "exit", "accuracy", "transfer"])


@measure("Who broke what", "none", "%")
def broken_by(attempts: Attempts) -> pd.DataFrame:
    """Of a worst case: share of examples that each of its attacks was the first to break, cheapest first.

    Denominator: attempts of D. Wilson intervals.
    """
    names = attempts.frame["broken_by"]
    found = names.dropna().value_counts().index
    return pd.DataFrame(
        [{"attack": name, "broken": proportion((names == name).to_numpy(), attempts.units)} for name in found],
        columns=["attack", "broken"],
    )


CRAFTING_TABLES: Final = (crafting_matrix, broken_by)
