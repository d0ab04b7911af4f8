"""What a sweep over exit policies found: accuracy against compute, as tables with their columns defined once."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

COLUMNS = (
    *("policy", "setting", "parameters", "speedup", "cost", "mean_exit", "early"),
    *("accuracy", "low", "high", "n", "deployable"),
)
"""Columns of the curve, and of the table."""

TUNED_COLUMNS = ("target", "reached", "missed", "difference")
"""Columns of the table that the curve has not."""

CONTROL = "fixed"
"""The policy whose points are the exits alone."""


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes:
        curve: One row a policy and setting: policy, setting (as shown), parameters (JSON), speedup, cost (mean
            share of full depth), mean_exit, early (share leaving before exit K), accuracy, low, high, n, source,
            deployable.
        table: One row a policy and target speed-up: the columns of the curve, and target, reached (speed-up on the
            calibration texts), missed (no setting comes near it there), difference (accuracy less full depth's on
            the same texts).
        streams: Two rows a stream policy, frozen after its burn-in on the calibration texts and live on the evaluated
            ones from nothing: policy, evaluation, orders (of the texts), accuracy and speedup with their standard
            deviations over the orders, arms, n. Empty without stream policies.
        skipped: Policy -> why it is not there.
        seconds: Policy -> seconds spent.
        full_depth: Accuracy of exit K on the evaluated texts.
    """

    curve: pd.DataFrame
    table: pd.DataFrame
    streams: pd.DataFrame
    skipped: dict[str, str]
    seconds: dict[str, float]
    full_depth: float
