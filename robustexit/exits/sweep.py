"""Accuracy against compute for every exit policy, from stored outputs: curves, and thresholds tuned elsewhere.

A curve shows every setting on the evaluated texts and chooses nothing. A row of the table is a setting chosen on
calibration texts for a stated speed-up, and what it does on the evaluated ones: what a user would get.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from robustexit.errors import ConfigError, ModelError
from robustexit.exits.calibration import Point, evaluate, prototype
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import ExitPolicy, policies

SETTINGS = 48
"""Settings of a policy on its curve."""

SPEEDUPS = (1.25, 1.5, 2.0, 3.0)
"""Speed-ups that the table's thresholds are tuned to."""

TOLERANCE = 0.1
"""A policy is taken to miss a speed-up if its nearest setting differs by more than this share of it."""

CONTROL = "fixed"
"""The policy whose points are the exits alone."""


@dataclass(frozen=True)
class Split:
    """Outputs on two disjoint sets of texts, as a policy sees them.

    Attributes:
        calibration: Where a policy learns what it learns, and where thresholds are tuned.
        evaluated: Where it is judged.
    """

    calibration: HeldOut
    evaluated: HeldOut


Outputs = Callable[[str | None], Split]
"""Post-hoc module (None for none) -> the outputs as read by it."""


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
        skipped: Policy -> why it is not there.
        seconds: Policy -> seconds spent.
        full_depth: Accuracy of exit K on the evaluated texts.
    """

    curve: pd.DataFrame
    table: pd.DataFrame
    skipped: dict[str, str]
    seconds: dict[str, float]
    full_depth: float


def sweep(
    names: Iterable[str],
    outputs: Outputs,
    *,
    speedups: Sequence[float] = SPEEDUPS,
    most: int = SETTINGS,
    advance: Callable[[str], None] = lambda name: None,
) -> Sweep:
    """Evaluate policies over their settings.

    Args:
        names: Registered policies.
        outputs: Gives the outputs for a policy's module; raises RobustExitError where there is none.
        speedups: Speed-ups to tune thresholds to on the calibration texts.
        most: Settings on a curve.
        advance: Told each policy's name when it is done.

    Returns:
        Curves and table; a policy that cannot work here is skipped with the reason.

    Raises:
        ConfigError: An unknown policy.
    """
    curve, table, skipped, seconds = [], [], {}, {}
    full_depth = float(outputs(None).evaluated.correct[:, -1].mean())
    for name in names:
        started = time.perf_counter()
        kind = policies.get(name)
        try:
            split = outputs(kind.module)
            start = prototype(name).fitted(split.calibration)
            points = _points(start, split, most)
        except (ConfigError, ModelError) as error:
            skipped[name] = str(error)
            continue
        curve += [_row(point, split.evaluated) | {"source": kind.source} for _, point in points]
        if name != CONTROL:
            table += [_at(target, points, split.evaluated, full_depth) for target in speedups]
        seconds[name] = time.perf_counter() - started
        advance(name)
    return Sweep(pd.DataFrame(curve), pd.DataFrame(table), skipped, seconds, full_depth)


def _points(start: ExitPolicy, split: Split, most: int) -> list[tuple[float, Point]]:
    """Return, for every setting that lets a text leave early, its calibration speed-up and its evaluation."""
    found = []
    for policy in start.settings(split.calibration, most):
        tuned = evaluate(policy, split.calibration)
        point = evaluate(policy, split.evaluated)
        found.append((tuned.speedup, point))
    if not any(point.early for _, point in found):
        reason = start.inert_reason(split.evaluated.num_exits, split.evaluated.num_classes)
        raise ConfigError(reason or "at no setting does any text leave early")
    return found


def _row(point: Point, evaluated: HeldOut) -> dict[str, object]:
    n = len(evaluated.labels)
    interval = stats.binomtest(round(point.accuracy * n), n).proportion_ci(method="wilson")
    return {
        "policy": point.policy.name,
        "setting": point.policy.describe(),
        "parameters": json.dumps(point.policy.parameters),
        "speedup": point.speedup,
        "cost": 1 / point.speedup,
        "mean_exit": point.mean_exit,
        "early": point.early,
        "accuracy": point.accuracy,
        "low": float(interval.low),
        "high": float(interval.high),
        "n": n,
        "deployable": not point.policy.needs_labels,
    }


def _at(
    target: float, points: Sequence[tuple[float, Point]], evaluated: HeldOut, full_depth: float
) -> dict[str, object]:
    early = [(reached, point) for reached, point in points if reached > 1] or list(points)
    distance = [abs(reached - target) for reached, _ in early]
    reached, point = early[int(np.argmin(distance))]
    return {
        **_row(point, evaluated),
        "target": target,
        "reached": reached,
        "missed": bool(abs(reached - target) > TOLERANCE * target),
        "difference": point.accuracy - full_depth,
    }
