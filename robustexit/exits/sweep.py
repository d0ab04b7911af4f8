"""Accuracy against compute for every exit policy, from stored outputs: curves, and thresholds tuned elsewhere.

A curve shows every setting on the evaluated texts and chooses nothing. A row of the table is a setting chosen on
calibration texts for a stated speed-up, and what it does on the evaluated ones: what a user would get.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import pandas as pd

from robustexit.errors import ConfigError, ModelError, NotFittedError
from robustexit.exits.calibration import Point, evaluate, nearest, prototype
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import ExitPolicy, policies
from robustexit.exits.stream import StreamPolicy, summarise_stream
from robustexit.measures.statistics import wilson
from robustexit.measures.sweeps import COLUMNS, CONTROL, TUNED_COLUMNS, Sweep

SETTINGS = 48
"""Settings of a policy on its curve."""

TUNED = 128
"""Settings of a policy that are tried on the calibration texts for the table."""

SPEEDUPS = (1.25, 1.5, 2.0, 3.0)
"""Speed-ups that the table's thresholds are tuned to."""

NOT_FITTED = "their post-hoc modules are not fitted (`robustexit fit-modules MODEL --data train.jsonl` fits them)"

TOLERANCE = 0.1
"""A policy is taken to miss a speed-up if its nearest setting differs by more than this share of it."""

ORDERS = (0, 1, 2, 3, 4)
"""Orders of the texts that a live stream policy is run over."""


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


def sweep(
    names: Iterable[str],
    outputs: Outputs,
    *,
    speedups: Sequence[float] = SPEEDUPS,
    most: int = SETTINGS,
    orders: Sequence[int] = ORDERS,
    advance: Callable[[str], None] = lambda name: None,
) -> Sweep:
    """Evaluate policies over their settings.

    Args:
        names: Registered policies.
        outputs: Gives the outputs for a policy's module; raises RobustExitError where there is none.
        speedups: Speed-ups to tune thresholds to on the calibration texts.
        most: Settings on a curve.
        orders: Seeds of the orders in which live stream policies meet the evaluated texts.
        advance: Told each policy's name when it is done.

    Returns:
        Curves and table; a policy that cannot work here is skipped with the reason.

    Raises:
        ConfigError: An unknown policy.
    """
    found: list[_Rows] = []
    skipped: dict[str, str] = {}
    seconds: dict[str, float] = {}
    full_depth = float(outputs(None).evaluated.correct[:, -1].mean())
    for name, kind in {name: policies.get(name) for name in names}.items():
        started = time.perf_counter()
        try:
            found.append(_evaluate(name, outputs(kind.module), speedups, most, orders))
            seconds[name] = time.perf_counter() - started
        except NotFittedError:
            skipped[name] = NOT_FITTED
        except (ConfigError, ModelError) as error:
            skipped[name] = str(error)
        advance(name)
    return Sweep(
        curve=pd.DataFrame([row for one in found for row in one.curve], columns=[*COLUMNS, "source"]),
        table=pd.DataFrame([row for one in found for row in one.table], columns=[*COLUMNS, *TUNED_COLUMNS]),
        streams=pd.DataFrame([row for one in found for row in one.streams]),
        skipped=skipped,
        seconds=seconds,
        full_depth=full_depth,
    )


Row: TypeAlias = dict[str, object]


class _Rows(NamedTuple):
    """One policy's rows of the three tables."""

    curve: list[Row]
    table: list[Row]
    streams: list[Row]


def _evaluate(name: str, split: Split, speedups: Sequence[float], most: int, orders: Sequence[int]) -> _Rows:
    plain = prototype(name)
    start = plain.fitted(split.calibration)
    curve = [_row(point, split.evaluated) | {"source": plain.source} for point in _curve(start, split, most)]
    table = [] if name == CONTROL else _tuned(start, split, speedups)
    return _Rows(curve, table, _streams(plain, split, orders) if isinstance(plain, StreamPolicy) else [])


def _curve(start: ExitPolicy, split: Split, most: int) -> list[Point]:
    """Return every setting on the curve, on the evaluated texts.

    Raises:
        ConfigError: Under none of them does a text leave early.
    """
    found = [evaluate(policy, split.evaluated) for policy in start.settings(split.calibration, most)]
    if not any(point.early for point in found):
        reason = start.inert_reason(split.evaluated.num_exits, split.evaluated.num_classes)
        raise ConfigError(reason or "at no setting does any text leave early")
    return found


def _row(point: Point, evaluated: HeldOut) -> Row:
    n = len(evaluated.labels)
    low, high = wilson(round(point.accuracy * n), n)
    return {
        "policy": point.policy.name,
        "setting": point.policy.describe(),
        "parameters": json.dumps(point.policy.parameters),
        "speedup": point.speedup,
        "cost": 1 / point.speedup,
        "mean_exit": point.mean_exit,
        "early": point.early,
        "accuracy": point.accuracy,
        "low": low,
        "high": high,
        "n": n,
        "deployable": not point.policy.needs_labels,
    }


def _tuned(start: ExitPolicy, split: Split, targets: Sequence[float]) -> list[Row]:
    """Return a row a target: the setting that the calibration texts choose, and what it does on the evaluated ones."""
    tried = [evaluate(policy, split.calibration) for policy in start.settings(split.calibration, TUNED)]
    early = [point for point in tried if point.early > 0] or tried
    full_depth = float(split.evaluated.correct[:, -1].mean())
    rows: list[Row] = []
    for target in targets:
        chosen = nearest(early, target)
        point = evaluate(chosen.policy, split.evaluated)
        rows.append(
            {
                **_row(point, split.evaluated),
                "target": target,
                "reached": chosen.speedup,
                "missed": bool(abs(chosen.speedup - target) > TOLERANCE * target),
                "difference": point.accuracy - full_depth,
            }
        )
    return rows


def _streams(start: StreamPolicy, split: Split, orders: Sequence[int]) -> list[Row]:
    """Return a stream policy frozen after its burn-in on the calibration texts, and live on the evaluated ones."""
    frozen = evaluate(start.fitted(split.calibration), split.evaluated)
    live = summarise_stream(start, split.evaluated, orders)
    mode = {"policy": start.name, "n": len(split.evaluated.labels)}
    return [
        {
            **mode,
            "evaluation": "frozen",
            "orders": 1,
            "accuracy": frozen.accuracy,
            "accuracy_deviation": 0.0,
            "speedup": frozen.speedup,
            "speedup_deviation": 0.0,
            "arms": frozen.policy.describe(),
        },
        {
            **mode,
            "evaluation": "live",
            "orders": len(orders),
            "accuracy": live.accuracy.mean,
            "accuracy_deviation": live.accuracy.deviation,
            "speedup": live.speedup.mean,
            "speedup_deviation": live.speedup.deviation,
            "arms": "learned " + ", ".join(f"{arm:g}" for arm in live.learned_arms),
        },
    ]
