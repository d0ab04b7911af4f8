"""Training multi-exit classifiers: regimes, settings, and a trainer that survives being killed.

`train` and the regimes load torch and transformers, so they are looked up when asked for: settings can be
checked without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustexit.training.arguments import TrainSpec
    from robustexit.training.objectives import Objective
    from robustexit.training.regimes import Regime, Stage, build_regime
    from robustexit.training.results import EpochRecord, ExitAccuracy, TrainResult, read_result
    from robustexit.training.trainer import train

__all__ = [
    "EpochRecord",
    "ExitAccuracy",
    "Objective",
    "Regime",
    "Stage",
    "TrainResult",
    "TrainSpec",
    "build_regime",
    "read_result",
    "train",
]

_HOMES = {
    "TrainSpec": "arguments",
    "Objective": "objectives",
    "Regime": "regimes",
    "Stage": "regimes",
    "build_regime": "regimes",
    "EpochRecord": "results",
    "ExitAccuracy": "results",
    "TrainResult": "results",
    "read_result": "results",
    "train": "trainer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
