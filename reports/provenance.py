"""Where the numbers come from: data, victims, recipes, software, as tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from robustexit.measures import Estimate
from robustexit.reports.context import Context
from robustexit.reports.formats import number, policy
from robustexit.reports.model import Column, Label, Row, Table, Value


def banners(context: Context) -> tuple[str, ...]:
    """Return what must be read before any number."""
    synthetic = [name for name, dataset in context.facts.datasets.items() if dataset.synthetic]
    found = []
    if synthetic:
        found.append(
            f"SYNTHETIC DATA: {', '.join(synthetic)} was generated. These numbers show that the programs "
            f"work; "
            "they say nothing about real text."
        )
    hidden = sorted({f"{victim} on {dataset}" for dataset, victim in context.withheld})
    if hidden:
        found.append(f"Attack results withheld for {', '.join(hidden)}: not clearly better than the majority class.")
    return tuple(found)


def provenance_tables(context: Context) -> dict[str, Table]:
    """Build the tables on data, victims, recipes and software."""
    tables = (_datasets(context), _victims(context), _recipes(context), _software(context))
    return {table.key: table for table in tables}


def _said(context: Context, key: str) -> Mapping[str, Any]:
    found = context.manifest.get(key)
    return found if isinstance(found, Mapping) else {}


def text_of(value: Any) -> str:
    """Return any manifest value as short text."""
    if value is None:
        return ""
    if isinstance(value, (str, int, bool)):
        return str(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)) and all(isinstance(part, (str, int, float, bool)) for part in value):
        return ", ".join(text_of(part) for part in value)
    return json.dumps(value, ensure_ascii=False, default=str, sort_keys=True)


def _datasets(context: Context) -> Table:
    rows = []
    for name, dataset in context.facts.datasets.items():
        said = _said(context, "datasets").get(name) or {}
        examples = context.records.loc[context.records["dataset"] == name, "example_id"].nunique()
        rows.append(
            Row(
                (
                    Label(name, "SYNTHETIC" if dataset.synthetic else ""),
                    Estimate(float(examples)),
                    ", ".join(dataset.labels) or None,
                    Estimate(dataset.majority_rate, n=examples),
                    text_of(said.get("source")) or None,
                    text_of(said.get("notes")) or None,
                    text_of(said.get("hash")) or None,
                )
            )
        )
    columns = (
        Column("dataset", "Dataset"),
        Column("n", "Attacked examples", "count"),
        Column("labels", "Labels"),
        Column("majority_rate", "Majority rate", "%"),
        Column("source", "Source"),
        Column("notes", "Notes"),
        Column("hash", "Content hash"),
    )
    return Table("datasets", "Data", "What was attacked.", columns, tuple(rows))


def _victims(context: Context) -> Table:
    rows = []
    for victim in context.facts.victims.values():
        said = _said(context, "victims").get(victim.name) or {}
        rows.append(
            Row(
                (
                    Label(victim.name, policy(victim.policy)),
                    text_of(said.get("model")) or None,
                    Estimate(float(victim.num_exits)),
                    text_of(list(victim.exit_layers)) or None,
                    victim.control or ("itself" if victim.full_depth else None),
                    _calibrations(victim.calibrations) or None,
                )
            )
        )
    columns = (
        Column("victim", "Victim"),
        Column("model", "Model"),
        Column("num_exits", "Exits", "count"),
        Column("layers", "At layers"),
        Column("control", "Full depth of the same weights"),
        Column("calibration", "Threshold calibration"),
    )
    return Table("victims", "Victims", "The deployed systems that were attacked.", columns, tuple(rows))


def _calibrations(calibrations: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence for each dataset; the dataset is named where there are several."""
    said = {dataset: _calibration(found) for dataset, found in calibrations.items()}
    return "; ".join(f"{dataset}: {words}" if len(said) > 1 else words for dataset, words in said.items())


def _calibration(calibration: Mapping[str, Any]) -> str:
    parts = []
    if calibration.get("target") is not None:
        parts.append(f"asked for {text_of(calibration['target'])}")
    if calibration.get("reached_speedup") is not None:
        parts.append(f"reached {number(float(calibration['reached_speedup']), 'x')}")
    for key, words in (("clean_accuracy", "accuracy"), ("full_depth_accuracy", "full depth")):
        if calibration.get(key) is not None:
            parts.append(f"{words} {number(float(calibration[key]), '%')} %")
    if parts and calibration.get("n") is not None:
        parts.append(f"n = {calibration['n']}")
    return ", ".join(parts)


def _recipes(context: Context) -> Table:
    known = _said(context, "recipes")
    rows: list[Row] = []
    for name in dict.fromkeys(context.records["recipe"].astype(str)):
        said = known.get(name) or {}
        substituted = f"substituted resource: {name.partition('+')[2]}" if "+" in name else ""
        values: tuple[Value, ...] = (
            Label(name, substituted),
            text_of(said.get("citation")) or None,
            text_of(said.get("url")) or None,
        )
        rows.append(Row(values))
    columns = (Column("recipe", "Recipe"), Column("citation", "Reference"), Column("url", "Where"))
    return Table("recipes", "Attack recipes", "Cite the recipes that you report.", columns, tuple(rows))


def _software(context: Context) -> Table:
    rows = [Row((f"{name} version", text_of(version))) for name, version in _said(context, "versions").items()]
    for key in ("git", "machine", "resources", "campaign"):
        said = context.manifest.get(key)
        pairs = said.items() if isinstance(said, Mapping) else [("", said)] if said else []
        rows += [Row((f"{key} {name}".strip(), text_of(value))) for name, value in pairs]
    columns = (Column("name", "Name"), Column("value", "Value"))
    return Table(
        "software",
        "Software, machine and campaign",
        "From the run's manifest.",
        columns,
        tuple(rows),
        empty="The manifest says nothing about them.",
    )
