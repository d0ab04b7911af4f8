"""A report as Markdown: the same sentences and tables, for a repository or an issue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from robustexit.measures import Estimate
from robustexit.reports.formats import UNIT_TITLES, show, visible
from robustexit.reports.model import Change, Column, Report, Row, Segment, ShownExample, Side, Table, Withheld


def escape(text: str) -> str:
    """Return text that Markdown and HTML both show as it is, on one line."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~$@-])", r"\\\1", shown)


def to_markdown(report: Report) -> str:
    """Render a report; figures are given as their numbers in words."""
    lines = [f"# {escape(report.title)}", "", f"**{escape(report.answer)}**", ""]
    lines += [f"- {escape(sentence)}" for sentence in report.details]
    lines += [f"\n> **{escape(banner)}**" for banner in report.banners]
    lines += ["", *(f"- {name}: {escape(value)}" for name, value in report.summary)]
    lines += ["", "## Flags", "", *_flags(report)]
    for table in report.tables.values():
        lines += ["", *_table(table)]
    for figure in report.figures.values():
        lines += ["", f"## {escape(figure.title)} (figure in words)", "", escape(figure.intro), ""]
        lines += [f"- {escape(panel.alt)}" for panel in figure.panels]
    lines += ["", "## Examples", "", escape(report.examples_note), ""]
    for example in report.examples:
        lines += [*_example(example), ""]
    lines += ["## Definitions", ""]
    lines += [f"- **{escape(d.title)}** (`{d.key}`{_unit(d.unit)}): {escape(d.text)}" for d in report.definitions]
    return "\n".join(lines) + "\n"


def _unit(unit: str) -> str:
    return f", {unit}" if unit else ""


def _flags(report: Report) -> Iterator[str]:
    if not report.flags:
        yield "None: every self-check passed."
    for flag in report.flags:
        where = " · ".join(part for part in (flag.dataset, flag.victim, flag.attack) if part)
        yield f"- **{flag.severity}** `{flag.code}` {escape(where)}: {escape(flag.message)}"


def _table(table: Table) -> Iterator[str]:
    yield from (f"## {escape(table.title)}", "", escape(table.intro))
    if not table.rows:
        yield from ("", escape(table.empty))
        return
    for group, rows in _groups(table.rows):
        yield ""
        if group:
            yield from (f"**{escape(group)}**", "")
        yield "| " + " | ".join(escape(_heading(column)) for column in table.columns) + " |"
        yield "| " + " | ".join("---:" if column.unit else "---" for column in table.columns) + " |"
        for row in rows:
            yield "| " + " | ".join(_cells(row, table.columns)) + " |"
    if table.notes:
        yield ""
    yield from (f"- {escape(note)}" for note in table.notes)


def _heading(column: Column) -> str:
    unit = UNIT_TITLES.get(column.unit, "")
    return f"{column.title}, {unit}" if unit else column.title


def _groups(rows: Iterable[Row]) -> Iterator[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    yield from groups.items()


def _cells(row: Row, columns: Iterable[Column]) -> Iterator[str]:
    said = False
    for value, column in zip(row.values, columns, strict=True):
        if isinstance(value, Withheld) and said:
            yield "withheld"
            continue
        said = said or isinstance(value, Withheld)
        shown = show(value, column.unit)
        remark = f"({shown.remark})" if shown.remark and isinstance(value, (Estimate, Change)) else shown.remark
        yield " ".join(escape(part) for part in (shown.main, shown.interval, remark) if part)


def _example(example: ShownExample) -> Iterator[str]:
    yield f"### {escape(example.kind)}: {escape(example.example_id)}"
    yield ""
    yield (
        f"{escape(example.dataset)} · {escape(example.victim)} · {escape(example.attack)} · label "
        f"{escape(example.label)} · {escape(example.outcome)}"
    )
    yield ""
    for name, segments in example.diff.items():
        yield f"- {escape(name)}: {''.join(_segment(segment) for segment in segments)}"
    for title, side in (("before", example.before), ("after", example.after)):
        yield f"- {title}: {_side(side, example.num_exits)}"


def _side(side: Side, num_exits: int) -> str:
    verdict = "right" if side.right else "wrong"
    steps = ", ".join(f"{s.exit}: {escape(s.answer)} {100 * s.confidence:.0f} %" for s in side.steps)
    confidence = f", confidence {100 * side.confidence:.0f} %" if side.confidence == side.confidence else ""
    tail = f"; exits {steps}" if steps else ""
    return f"{escape(side.answer)} ({verdict}) at exit {side.exit} of {num_exits}{confidence}{tail}"


def _segment(segment: Segment) -> str:
    text = f"⟦{segment.text}⟧" if segment.hidden else escape(segment.text)
    if segment.name:
        text += f"⟦{segment.name.split()[0]}⟧"
    if segment.mark == "delete":
        return f"<del>{text}</del>"
    return f"<ins>{text}</ins>" if segment.mark == "insert" else text
