"""The manifest: everything a run's records depend on, and the readable difference to another one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from robustexit.attacks.recipes import Recipe, describe_recipes, describe_resources, effective_name, hash_resources
from robustexit.campaign.prepare import Splits, VictimBuilder, read_calibration
from robustexit.campaign.provenance import git_state, machine, versions
from robustexit.campaign.spec import CampaignSpec
from robustexit.campaign.worker import THREADS, describe_policy
from robustexit.victims.base import Victim
from robustexit.victims.live import order_seed

BINDING = ("campaign", "data_hashes", "fingerprints", "recipes", "resource_hashes", "versions")
"""What must be equal for a run to be continued; the rest is described, and may differ."""


def describe_campaign(spec: CampaignSpec, splits: Mapping[str, Splits], base: Path) -> dict[str, Any]:
    """Describe what is known before any model is loaded."""
    return {
        "campaign": spec.model_dump(mode="json"),
        "data_hashes": {name: split.attacked.content_hash() for name, split in splits.items()},
        "datasets": {name: _dataset(split) for name, split in splits.items()},
        "windows": {name: _windows(split, spec.all_recipes) for name, split in splits.items()},
        "recipes": {found["effective_name"]: found for found in describe_recipes(spec.all_recipes).values()},
        "resources": describe_resources(spec.all_recipes),
        "resource_hashes": hash_resources(spec.all_recipes),
        "versions": versions(),
        "git": git_state(base),
        "machine": machine(THREADS),
    }


def _dataset(split: Splits) -> dict[str, Any]:
    labels = split.attacked.labels
    counts = [labels.count(label) for label in range(len(split.whole.label_names))]
    return {
        "labels": list(split.whole.label_names),
        "fields": list(split.whole.field_names),
        "protected": list(split.protect),
        "synthetic": split.whole.synthetic,
        "source": split.whole.source,
        "notes": list(split.attacked.notes),
        "n": len(split.attacked),
        "n_calibration": len(split.calibration) if split.calibration else 0,
        "hash": split.attacked.content_hash(),
        "calibration_hash": split.calibration.content_hash() if split.calibration else None,
        "majority_rate": max(counts) / len(labels),
        "language": split.language,
    }


def _windows(split: Splits, recipes: Iterable[Recipe]) -> dict[str, dict[str, int]]:
    """Count the attacked texts that a recipe's sentence constraint does not look at: those under its window."""
    words = [sum(len(text.split()) for text in fields.values()) for fields in split.attacked.texts]
    return {
        effective_name(recipe): {"window": recipe.window, "below": sum(n < recipe.window for n in words)}
        for recipe in recipes
        if recipe.window is not None
    }


def describe_victims(
    spec: CampaignSpec, run: Path, victims: Mapping[tuple[str, str], Victim], builder: VictimBuilder
) -> dict[str, Any]:
    """Describe the victims once their models are there."""
    described: dict[str, Any] = {}
    for name, victim_spec in spec.victims.items():
        mine = {dataset: victim for (dataset, owner), victim in victims.items() if owner == name}
        one = next(iter(mine.values()))
        calibrations = {dataset: read_calibration(run, dataset, name) for dataset in mine}
        described[name] = {
            "model": victim_spec.model,
            "policy": describe_policy(one),
            "policies": {dataset: describe_policy(victim) for dataset, victim in mine.items()},
            "exit_layers": list(one.exit_layers),
            "num_exits": one.num_exits,
            "full_depth": one.full_depth,
            "order_seed": order_seed(one),
            "full_depth_of_same_weights": _control(spec, name, victims),
            "calibrations": {dataset: found.as_dict() for dataset, found in calibrations.items() if found},
        }
    weights = {
        name: builder.deployed(name).loaded.weights_hash
        for name, model in spec.models.items()
        if model.factory is None and any(victim.model == name for victim in spec.victims.values())
    }
    fingerprints = {f"{dataset}.{name}": victim.fingerprint for (dataset, name), victim in victims.items()}
    return {"victims": described, "weights": weights, "fingerprints": fingerprints}


def _control(spec: CampaignSpec, name: str, victims: Mapping[tuple[str, str], Victim]) -> str | None:
    """Name of the victim that runs the same weights to full depth, if the campaign has one."""
    for (_, other), victim in victims.items():
        policy = spec.victims[other].policy
        full = victim.full_depth and policy.name == "fixed" and not policy.parameters.get("k")
        if full and other != name and spec.victims[other].model == spec.victims[name].model:
            return other
    return None


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return one readable line for each binding value that differs; keys absent on a side are not held."""
    lines: list[str] = []
    for key in BINDING:
        if key in old and key in new:
            lines += _differences(key, old[key], new[key])
    return lines


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            here = f"{path}.{key}"
            if key not in old and new[key] is None:
                continue  # a setting that came later and is not used
            if key not in old:
                yield f"{here}: new, {_short(new[key])}"
            elif key not in new:
                yield f"{here}: gone, was {_short(old[key])}"
            else:
                yield from _differences(here, old[key], new[key])
    elif old != new:
        yield f"{path}: was {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
