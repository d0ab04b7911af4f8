"""From the label column of a table to names and indices."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from robustexit.data.tables import Table, is_null, short
from robustexit.errors import DataError, did_you_mean

LabelNames: TypeAlias = Sequence[str] | Mapping[str | int | bool, str]

_INTEGER: Final = re.compile(r"[+-]?\d+")
_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_labels(
    table: Table, column: str, given: LabelNames | None, ids: Sequence[str] | None
) -> tuple[tuple[str, ...], list[int]]:
    """Read a column of class labels.

    Args:
        table: The data.
        column: Its label column.
        given: Names in index order, or raw value -> name; None to take them from the column.
        ids: The rows' own ids for messages, if they have any.

    Returns:
        The label names, and every row's index into them.

    Raises:
        DataError: A missing, numeric, multiple or unknown label, unnamed integers, fewer than two classes.
    """
    where = f"{table.where}: column {column!r}"
    values: Sequence[object] = table.values(column)
    missing = [i for i, value in enumerate(values) if is_null(value)]
    if missing:
        raise DataError(
            f"{where}: expected a label in every row, got none at {table.positions(missing, ids)}; "
            "fill it in or remove the row"
        )
    if table.untyped:
        values = _typed([str(value) for value in values], given)
    _check_kinds(where, table, values, ids)
    names, index = _coding(where, given, table.class_names.get(column), values)
    unknown = [i for i, value in enumerate(values) if _key(value) not in index]
    if unknown:
        places = table.positions(unknown, ids)
        raise DataError(f"{where}: {_unknown(values[unknown[0]], index, names)}; found at {places}")
    if len(names) < 2:
        raise DataError(
            f"{where}: expected at least two classes, got only {names[0]!r}; if the others are merely absent "
            "from this file, give all names in 'labels'"
        )
    return names, [index[_key(value)] for value in values]


def _key(value: object) -> str:
    # YAML reads `true`, `1` and "1" as three types, and a file may hold any of them.
    return str(value).lower() if isinstance(value, bool) else str(value)


def _typed(values: list[str], given: LabelNames | None) -> Sequence[object]:
    """Give the values of a format without types the type that all of them can have."""
    if given is not None and set(values) <= {_key(known) for known in given}:
        return values
    if all(_INTEGER.fullmatch(value) for value in values):
        return [int(value) for value in values]
    if all(_NUMBER.fullmatch(value) for value in values):
        return [float(value) for value in values]
    if all(value.lower() in ("true", "false") for value in values):
        return [value.lower() == "true" for value in values]
    return values


def _check_kinds(where: str, table: Table, values: Sequence[object], ids: Sequence[str] | None) -> None:
    for i, value in enumerate(values):
        if isinstance(value, (str, int)) and type(value) is type(values[0]):
            continue
        place = table.positions([i], ids)
        if isinstance(value, float):
            raise DataError(
                f"{where}: expected class labels (strings or integers), got the number {value} at {place}; "
                "scores and ratings (regression) are not supported: turn them into classes first"
            )
        if isinstance(value, (list, tuple, dict)):
            raise DataError(
                f"{where}: expected one label a row, got {short(value)} at {place}; several labels a row "
                "(multi-label) are not supported: choose one"
            )
        raise DataError(
            f"{where}: expected labels of one type, got {type(values[0]).__name__} {short(values[0])} at "
            f"{table.positions([0], ids)} and {type(value).__name__} {short(value)} at {place}; write them "
            "all alike"
        )


def _coding(
    where: str, given: LabelNames | None, own: tuple[str, ...] | None, values: Sequence[object]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the names and, for every raw value that may occur, its index."""
    if isinstance(given, Mapping):
        names = tuple(dict.fromkeys(given.values()))
        index = {_key(raw): names.index(name) for raw, name in given.items()}
        for i, name in enumerate(own or ()):
            if name in index:
                index.setdefault(str(i), index[name])
        return names, index
    if given is not None and own is not None and len(given) != len(own):
        raise DataError(
            f"{where}: expected {len(own)} names in 'labels' for the classes {', '.join(own)}, got "
            f"{len(given)}; "
            "give one a class, or map the classes to fewer names (labels: {class: name, ...})"
        )
    names = tuple(given) if given is not None else own or _inferred(where, values)
    if isinstance(values[0], str):
        return names, {name: i for i, name in enumerate(names)}
    if isinstance(values[0], bool):
        return names, {"false": 0, "true": 1} if len(names) == 2 else {}
    return names, {str(i): i for i in range(len(names))}


def _inferred(where: str, values: Sequence[object]) -> tuple[str, ...]:
    if isinstance(values[0], str):
        return tuple(sorted({str(value) for value in values}))
    if isinstance(values[0], bool):
        return ("false", "true")
    found = sorted({int(str(value)) for value in values})
    shown = ", ".join(map(str, found[:10])) + (", ..." if len(found) > 10 else "")
    raise DataError(
        f"{where}: the labels are integers ({shown}) without names; give the names in index order, for "
        "example `labels: [negative, positive]` for 0 and 1, or a mapping such as `labels: {1: bad, 5: good}`"
    )


def _unknown(value: object, index: Mapping[str, int], names: Sequence[str]) -> str:
    if value == -1:
        return "label -1 stands for a label that was kept secret (test sets of shared tasks); use another split"
    numbered = isinstance(value, int) and not isinstance(value, bool)
    known = list(index)
    shown = ", ".join(f"{raw} ({names[i]})" if raw != names[i] else raw for raw, i in list(index.items())[:20])
    hint = "" if numbered else did_you_mean(str(value), known)
    return f"unknown label {value!r}{hint}; expected one of: {shown or 'none'}; correct it or set 'labels'"
