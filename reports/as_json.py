"""A report as JSON: the same tables as numbers, under a versioned schema."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from robustexit.reports.formats import visible
from robustexit.reports.model import REPORT_SCHEMA, REPORT_VERSION, Report, Table, Withheld


def to_json(report: Report) -> str:
    """Render a report.

    Undefined numbers are null. Shares are in [0, 1] and differences in [-1, 1]; a column's `unit` says how the
    other renderings scale them. Pictures are left to the page; their numbers stand in their description.

    Returns:
        ASCII text that is also safe inside an HTML script element.
    """
    figures = {
        key: {
            "title": figure.title,
            "panels": [{"title": panel.title, "description": panel.alt} for panel in figure.panels],
        }
        for key, figure in report.figures.items()
    }
    document = {
        "schema": REPORT_SCHEMA,
        "version": REPORT_VERSION,
        **{f.name: getattr(report, f.name) for f in dataclasses.fields(report) if f.name not in ("tables", "figures")},
        "tables": {key: _table(table) for key, table in report.tables.items()},
        "figures": figures,
    }
    text = json.dumps(_plain(document), ensure_ascii=True, allow_nan=False, indent=1)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026") + "\n"


def _table(table: Table) -> dict[str, Any]:
    keys = [column.key for column in table.columns]
    rows = [{"group": row.group, **dict(zip(keys, row.values, strict=True))} for row in table.rows]
    return {"title": table.title, "intro": table.intro, "columns": table.columns, "rows": rows, "notes": table.notes}


def _plain(value: Any) -> Any:
    if isinstance(value, Withheld):
        return {"withheld": visible(value.reason)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {visible(str(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
        return [_plain(part) for part in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int)) else visible(str(value))
