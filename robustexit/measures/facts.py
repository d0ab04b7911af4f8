"""What the measures need to know about a run beside its records, read from a manifest that may lack it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class VictimFacts:
    """One victim.

    Attributes:
        name: Its name in the campaign.
        policy: Its exit policy with parameters.
        num_exits: K.
        exit_layers: Encoder layer of each exit; empty where unknown.
        full_depth: The policy always takes exit K.
        control: The full-depth victim with the same weights, if the run has one.
        calibrations: How its threshold was chosen on each dataset (target, reached speed-up, accuracies), by dataset.
    """

    name: str
    policy: str
    num_exits: int
    exit_layers: tuple[int, ...] = ()
    full_depth: bool = False
    control: str | None = None
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class DatasetFacts:
    """One dataset.

    Attributes:
        name: Its name in the campaign.
        labels: Label names by index; empty where unknown.
        majority_rate: Accuracy of always answering the most frequent label.
        synthetic: Its texts were generated.
        windows: Of each recipe with a sentence constraint that skips short texts: its window in words, and how many
            of the attacked texts are shorter.
    """

    name: str
    labels: tuple[str, ...]
    majority_rate: float
    synthetic: bool = False
    windows: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """Victims and datasets that occur in the records, in order of appearance.

    Attributes:
        victims: By name.
        datasets: By name.
        weak: (recipe, goal, view) of the attacks whose search the view leaves without a score to climb.
    """

    victims: Mapping[str, VictimFacts]
    datasets: Mapping[str, DatasetFacts]
    weak: frozenset[tuple[str, str, str]] = frozenset()

    @staticmethod
    def of(records: pd.DataFrame, manifest: Mapping[str, Any]) -> Facts:
        """Read the manifest, and take from the records what it does not say.

        Args:
            records: Records of the run.
            manifest: The run's manifest; every key is optional.
        """
        victims, datasets = manifest.get("victims") or {}, manifest.get("datasets") or {}
        windows = manifest.get("windows") or {}
        return Facts(
            {str(name): _victim(str(name), rows, victims.get(name) or {}) for name, rows in _groups(records, "victim")},
            {
                str(name): _dataset(str(name), rows, {**(datasets.get(name) or {}), "windows": windows.get(name) or {}})
                for name, rows in _groups(records, "dataset")
            },
            frozenset((weak["recipe"], weak["goal"], weak["view"]) for weak in manifest.get("weak_attacks") or ()),
        )


def _groups(records: pd.DataFrame, key: str) -> list[tuple[Any, pd.DataFrame]]:
    return list(records.groupby(key, sort=False))


def _victim(name: str, rows: pd.DataFrame, said: Mapping[str, Any]) -> VictimFacts:
    known = rows["num_exits"].dropna() if "num_exits" in rows.columns else pd.Series(dtype=float)
    num_exits = int(said.get("num_exits") or (known.max() if len(known) else 1))
    policies = rows["policy"].astype(str).unique() if "policy" in rows.columns else [str(said.get("policy", ""))]
    policy = " / ".join(policies)  # one for each dataset it was calibrated on
    full_depth = said.get("full_depth")
    return VictimFacts(
        name=name,
        policy=policy,
        num_exits=num_exits,
        exit_layers=tuple(int(layer) for layer in said.get("exit_layers") or ()),
        full_depth=bool(full_depth) if full_depth is not None else _always_last(policy, num_exits),
        control=said.get("full_depth_of_same_weights"),
        calibrations=said.get("calibrations") or {},
    )


def _always_last(policy: str, num_exits: int) -> bool:
    fixed = re.fullmatch(r"fixed\((?:k\s*=\s*)?(\d+)\)", policy)
    return num_exits == 1 or (fixed is not None and int(fixed[1]) == num_exits)


def _dataset(name: str, rows: pd.DataFrame, said: Mapping[str, Any]) -> DatasetFacts:
    rate = said.get("majority_rate")
    if rate is None:
        labels = rows.drop_duplicates("example_id")["label"]
        rate = float(labels.value_counts(normalize=True).max())
    return DatasetFacts(
        name=name,
        labels=tuple(str(label) for label in said.get("labels") or ()),
        majority_rate=float(rate),
        synthetic=bool(said.get("synthetic", False)),
        windows=said.get("windows") or {},
    )
