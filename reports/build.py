"""From records to a report: everything is computed here once; the renderers only write it down."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from robustexit.errors import DataError
from robustexit.measures import MEASURES, TABLES
from robustexit.measures.paired import MCNEMAR_DEFINITION, PAIRED_DEFINITION
from robustexit.records import ATTEMPT_KEYS
from robustexit.reports.as_json import to_json
from robustexit.reports.context import Context
from robustexit.reports.examples import KINDS, LIMIT, SEED, sample_examples
from robustexit.reports.figures import build_figures
from robustexit.reports.headline import first_line
from robustexit.reports.html import to_html
from robustexit.reports.markdown import to_markdown
from robustexit.reports.model import Definition, Report
from robustexit.reports.provenance import banners, provenance_tables
from robustexit.reports.tables import build_tables

_BETTER: Final = {"higher": "higher is better", "lower": "lower is better", "none": ""}


def build_report(records: pd.DataFrame, manifest: Mapping[str, Any]) -> Report:
    """Build a report.

    Args:
        records: Records of a run (columns of `robustexit.records`), any number of cells.
        manifest: The run's manifest; every key is optional, and what is absent is said to be.

    Returns:
        The report, with every table, figure, example, flag and definition.

    Raises:
        DataError: There are no records, an attempt stands in them twice, or a column is missing.
    """
    _check(records)
    context = Context(records, manifest)
    answer, details = first_line(context)
    name = (manifest.get("campaign") or {}).get("name", "")
    return Report(
        title=f"Early exit under attack: {name}" if name else "Early exit under attack",
        answer=answer,
        details=details,
        banners=banners(context),
        summary=_summary(context),
        tables={**build_tables(context), **provenance_tables(context)},
        figures=build_figures(context),
        examples=sample_examples(context),
        examples_note=_examples_note(),
        flags=tuple(context.flags),
        definitions=_definitions(),
        provenance=dict(manifest),
    )


def write_report(records: pd.DataFrame, manifest: Mapping[str, Any], folder: str | Path) -> list[Path]:
    """Build a report and write ``report.html``, ``report.md`` and ``report.json`` into a folder.

    Args:
        records: As for `build_report`.
        manifest: As for `build_report`.
        folder: Made if it does not exist; files of these names are replaced.

    Returns:
        The files written.
    """
    return render_report(build_report(records, manifest), folder)


def render_report(report: Report, folder: str | Path) -> list[Path]:
    """Write a built report as ``report.html``, ``report.md`` and ``report.json``; see `write_report`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for file, render in (("report.html", to_html), ("report.md", to_markdown), ("report.json", to_json)):
        path = folder / file
        path.write_text(render(report), encoding="utf-8", newline="\n")
        written.append(path)
    return written


def _check(records: pd.DataFrame) -> None:
    missing = [key for key in (*ATTEMPT_KEYS, "outcome") if key not in records.columns]
    if missing:
        raise DataError(f"expected records with the columns of robustexit.records, got none called {missing}")
    if records.empty:
        raise DataError("expected at least one record, got an empty table; run the campaign before reporting it")
    twice = int(records.duplicated(list(ATTEMPT_KEYS)).sum())
    if twice:
        raise DataError(
            f"expected one record an attempt, got {twice} that stand in the table twice; give each run folder once"
        )


def _summary(context: Context) -> tuple[tuple[str, str], ...]:
    records = context.records
    outcomes = records["outcome"].value_counts()
    return (
        ("Datasets", ", ".join(context.facts.datasets)),
        ("Victims", ", ".join(context.facts.victims)),
        ("Recipes", ", ".join(dict.fromkeys(records["recipe"].astype(str)))),
        ("Goals", ", ".join(dict.fromkeys(records["goal"].astype(str)))),
        ("Seeds", ", ".join(str(seed) for seed in sorted(records["seed"].unique()))),
        ("Attempts", f"{len(records):,} ({', '.join(f'{count:,} {name}' for name, count in outcomes.items())})"),
    )


def _examples_note() -> str:
    kinds = "; ".join(f"{kind}: {meaning}" for kind, meaning in KINDS.items())
    return (
        f"Up to {LIMIT} attacked texts, drawn in turn from each kind with seed {SEED}; not chosen by hand, "
        f"and not in "
        f"proportion to how often a kind occurs. Kinds: {kinds}."
    )


def _definitions() -> tuple[Definition, ...]:
    own = [Definition(m.name, m.title, m.unit, _BETTER[m.direction], m.definition) for m in (*MEASURES, *TABLES)]
    return (
        *own,
        Definition("difference", "Paired difference", "points", _BETTER["higher"], PAIRED_DEFINITION),
        Definition("p_value", "McNemar and Holm", "", "", MCNEMAR_DEFINITION),
    )
