"""Print a run's attacks as one Markdown table: what was left of answers and savings, and what it cost.

    python benchmarks/attack_table.py runs/attacks

One row for each victim, recipe, goal and view: n, robust accuracy (Wilson), goal success, mean exit before and after
with its shift (paired bootstrap), speed-up before and after, median queries and seconds an attempt.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from robustexit import load_run
from robustexit.measures import Attempts, Estimate, measure_named

COLUMNS = (
    "victim",
    "recipe",
    "goal",
    "view",
    "n",
    "robust accuracy, %",
    "goal met, %",
    "mean exit",
    "shift",
    "speed-up",
    "queries, median",
    "seconds, median",
)


def interval(one: Estimate, scale: float = 1, digits: int = 0) -> str:
    if not one.defined:
        return "-"
    return f"{scale * one.value:.{digits}f} [{scale * one.low:.{digits}f}, {scale * one.high:.{digits}f}]"


def row(keys: tuple[str, ...], cell: pd.DataFrame) -> tuple[str, ...]:
    attempts = Attempts.of(cell)

    def value(name: str) -> Estimate:
        found: Estimate = measure_named(name)(attempts)
        return found

    def moved(stem: str) -> str:
        return f"{value(f'{stem}_clean').value:.2f} → {value(f'{stem}_attacked').value:.2f}"

    return (
        *keys,
        str(len(attempts)),
        interval(value("robust_accuracy"), 100),
        interval(value("goal_success"), 100),
        moved("exit"),
        interval(value("shift_mean"), digits=2),
        moved("speedup"),
        f"{value('queries_median').value:.0f}",
        f"{attempts.frame['seconds'].median():.2f}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    records = load_run(parser.parse_args().run).records
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for keys, cell in records.groupby(["view", "goal", "recipe", "victim"], sort=True):
        view, goal, recipe, victim = map(str, keys)
        print(f"| {' | '.join(row((victim, f'`{recipe}`', goal.replace('|', chr(92) + '|'), view), cell))} |")


if __name__ == "__main__":
    main()
