"""A report as one HTML file that opens anywhere: no script, no request, light and dark."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from robustexit.reports.formats import UNIT_TITLES, show, visible
from robustexit.reports.model import Report, Row, Table, Value, Withheld
from robustexit.reports.provenance import text_of

OPEN_PANELS: Final = 12
"""Panels of a figure shown at once; the rest folds away under a line that says how many."""

SECTIONS: Final = (
    (
        "accuracy",
        "Answers",
        ("headline", "paired", "paired_by_attack", "worst_cases", "who_broke_what", "crafting"),
        ("differences",),
    ),
    ("exits", "Exits", ("by_outcome", "quadrants"), ("exit_histograms", "transitions")),
    ("depth-side", "Depth", ("accuracy_by_exit", "depth"), ("accuracy_by_exit",)),
    ("cost-side", "Cost", ("cost",), ()),
)
FOLDED: Final = frozenset({"paired_by_attack", "accuracy_by_exit", "software", "recipes"})
"""Long tables that start closed."""


def to_html(report: Report) -> str:
    """Render a report as one self-contained page."""
    environment = Environment(
        loader=PackageLoader("robustexit.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    environment.globals.update(show=show, groups=_groups, cells=_cells, unit_titles=UNIT_TITLES, text_of=text_of)
    environment.filters["svg"] = Markup
    # Package data may sit in a zip: read it through the loader of the package.
    style = files("robustexit.reports").joinpath("templates/report.css").read_text(encoding="utf-8")
    page = environment.get_template("report.html").render(
        report=report,
        style=Markup(style),
        definitions={one.key: one for one in report.definitions},
        sections=SECTIONS,
        folded=FOLDED,
        open_panels=OPEN_PANELS,
    )
    return page.strip() + "\n"


def _finalize(value: Any) -> Any:
    """Make hidden characters visible in whatever text the template prints."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _groups(table: Table) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        groups.setdefault(row.group, []).append(row)
    return list(groups.items())


def _cells(row: Row, table: Table) -> list[tuple[Value, str, int]]:
    """Return (value, unit, span) of every cell; neighbouring withheld cells become one."""
    merged: list[tuple[Value, str, int]] = []
    for value, column in zip(row.values, table.columns, strict=True):
        if isinstance(value, Withheld) and merged and isinstance(merged[-1][0], Withheld):
            merged[-1] = (value, column.unit, merged[-1][2] + 1)
        else:
            merged.append((value, column.unit, 1))
    return merged
