"""From a campaign's `DataSpec` to a checked `TextDataset`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from robustexit.data.labels import read_labels
from robustexit.data.reviews import Split, generate_reviews
from robustexit.data.sampling import stratified_sample
from robustexit.data.spec import DataSpec
from robustexit.data.tables import Table, is_null, read_hub, read_path, short
from robustexit.data.types import Example, Fields, TextDataset
from robustexit.errors import DataError, did_you_mean, unknown_name

_USUAL_FIELDS: Final = (
    ("text",),
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question", "sentence"),
    ("sentence",),
)
_DEFAULT_REVIEWS: Final = 1_000


def load_dataset_spec(
    spec: DataSpec,
    *,
    name: str,
    base: Path,
    allow_network: bool = False,
    unlabelled: Sequence[str] | None = None,
) -> TextDataset:
    """Load, check and sample the dataset that a campaign names.

    Args:
        spec: What the campaign says.
        name: The dataset's name in records and reports.
        base: Folder that relative paths start from (the campaign file's).
        allow_network: Whether a Hub dataset may be downloaded.
        unlabelled: Names of the labels that the rows could have, where they need none: without a label column, or
            with -1 or nothing in all of it, every label is -1, and a note says so. None: labels are needed.

    Returns:
        The dataset, in the order of its source; notes say what was left out.

    Raises:
        DataError: The data cannot be used as it stands; the message names the file, the rows and the remedy.
    """
    if spec.builtin is not None:
        dataset = _generated(spec, name)
    elif spec.path is not None:
        dataset = _checked(spec, name, read_path(spec.path, spec.split, base), unlabelled)
    else:
        assert spec.hub is not None  # DataSpec holds exactly one of the three
        table = read_hub(spec.hub, spec.config, spec.revision, spec.split, base, allow_network)
        dataset = _checked(spec, name, table, unlabelled)
    return dataset if spec.sample is None else stratified_sample(dataset, spec.sample, spec.seed)


def _generated(spec: DataSpec, name: str) -> TextDataset:
    if spec.split not in (None, "train", "test"):
        raise DataError(f"{name}: {unknown_name('split of reviews', str(spec.split), ('train', 'test'))}")
    split: Split = "test" if spec.split == "test" else "train"
    made = generate_reviews(spec.n or _DEFAULT_REVIEWS, spec.seed, split, spec.difficulty)
    return TextDataset(name, made.examples, made.label_names, made.source, made.synthetic, made.notes)


def _checked(spec: DataSpec, name: str, table: Table, unlabelled: Sequence[str] | None) -> TextDataset:
    if not len(table):
        raise DataError(f"{table.where}: expected at least one row, got none; is this the right file or split?")
    columns = _field_columns(spec, table)
    bare = unlabelled is not None and _has_no_labels(table, spec.label)
    if not bare:
        _require(table, "label", spec.label)
    ids = _own_ids(spec, table)
    texts = _texts(table, columns, ids)
    if unlabelled is not None and bare:
        label_names, labels = tuple(unlabelled), [-1] * len(table)
    else:
        label_names, labels = read_labels(table, spec.label, spec.labels, ids)
    kept, notes = _distinct(spec, table, texts, labels, ids)
    if ids is None:
        ids = [content_id(fields) for fields in texts]
    if bare:
        notes.append(f"no labels: {_without(table, spec.label)}")
    else:
        notes += [f"no row has label {label_names[i]!r}" for i in range(len(label_names)) if i not in set(labels)]
    if spec.language != "en":
        notes.append(f"language: {spec.language}")
    examples = tuple(Example(ids[i], texts[i], labels[i]) for i in kept)
    return TextDataset(name, examples, label_names, table.source, notes=tuple(notes))


def _has_no_labels(table: Table, column: str) -> bool:
    return column not in table.columns or all(is_null(value) or str(value) == "-1" for value in table.values(column))


def _without(table: Table, column: str) -> str:
    if column not in table.columns:
        return f"there is no column {column!r}"
    return f"every row of column {column!r} is -1 or empty"


def _require(table: Table, setting: str, column: str) -> None:
    if column not in table.columns:
        raise DataError(
            f"{table.where}: no column {column!r} for {setting!r}{did_you_mean(column, table.columns)}; "
            f"the columns are: {', '.join(table.columns)}; set {setting!r} to one of them"
        )


def _field_columns(spec: DataSpec, table: Table) -> dict[str, str]:
    if spec.fields is None:
        for usual in _USUAL_FIELDS:
            if all(column in table.columns for column in usual):
                return {column: column for column in usual}
        raise DataError(
            f"{table.where}: found no text column by its usual name; name one or two in 'fields'; "
            f"the columns are: {', '.join(table.columns)}"
        )
    if isinstance(spec.fields, str):
        columns = {spec.fields: spec.fields}
    elif isinstance(spec.fields, dict):
        columns = dict(spec.fields)
    else:
        columns = {column: column for column in spec.fields}
    for column in columns.values():
        _require(table, "fields", column)
    return columns


def _texts(table: Table, columns: Mapping[str, str], ids: Sequence[str] | None) -> list[Fields]:
    texts: list[dict[str, str]] = [{} for _ in range(len(table))]
    for name, column in columns.items():
        values = table.values(column)
        where = f"{table.where}: column {column!r}"
        empty = [i for i, v in enumerate(values) if is_null(v) or (isinstance(v, str) and not v.strip())]
        if empty:
            raise DataError(
                f"{where}: expected a text in every row, got an empty or missing one at "
                f"{table.positions(empty, ids)}; fill it in or remove the row"
            )
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise DataError(
                    f"{where}: expected a text, got {type(value).__name__} {short(value)} at "
                    f"{table.positions([i], ids)}; choose another column in 'fields' or write it as a string"
                )
            if not _is_unicode(value):
                raise DataError(
                    f"{where}: expected Unicode text, got half of a surrogate pair in {short(value)} at "
                    f"{table.positions([i], ids)}; remove that character"
                )
            texts[i][name] = value
    return list(texts)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _own_ids(spec: DataSpec, table: Table) -> list[str] | None:
    """Read the ids that the data brings; None where a hash of the texts has to do."""
    column = spec.id if spec.id is not None else "id"
    if column is False or (spec.id is None and column not in table.columns):
        return None
    _require(table, "id", column)
    raw = table.values(column)
    where = f"{table.where}: column {column!r}"
    ids: dict[str, int] = {}
    for i, value in enumerate(raw):
        if is_null(value) or isinstance(value, bool) or not isinstance(value, (str, int)):
            raise DataError(
                f"{where}: expected an id (string or integer), got {short(value)} at {table.position(i)}; "
                "fill it in, name another column in 'id', or hash the texts (`id: false`)"
            )
        first = ids.setdefault(str(value), i)
        if first != i:
            raise DataError(
                f"{where}: expected each id once, got {str(value)!r} at {table.positions((first, i))}; "
                "name another column in 'id', or hash the texts (`id: false`)"
            )
    return list(ids)


def content_id(fields: Fields) -> str:
    """Return the id of an example whose data has none: a hash of its texts."""
    content = json.dumps(list(fields.values()), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _distinct(
    spec: DataSpec, table: Table, texts: Sequence[Fields], labels: Sequence[int], ids: Sequence[str] | None
) -> tuple[list[int], list[str]]:
    """Return the rows to keep, in order, and what there is to say about the others."""
    first: dict[tuple[str, ...], int] = {}
    repeats = []
    for i, fields in enumerate(texts):
        original = first.setdefault(tuple(fields.values()), i)
        if original != i:
            repeats.append((original, i))
    if repeats and spec.duplicates == "error" and ids is None:
        original, again = repeats[0]
        raise DataError(
            f"{table.where}: {len(repeats)} of {len(table)} rows repeat an earlier row's texts (first: "
            f"{table.position(original)} and {table.position(again)}), and no id column tells them apart; "
            "set 'id' to a column of unique ids, or `duplicates: drop` to keep the first of each"
        )
    if not repeats or spec.duplicates == "error":
        return list(range(len(table))), []
    contrary = sum(labels[original] != labels[again] for original, again in repeats)
    note = f"{len(repeats)} of {len(table)} rows dropped for repeating an earlier text"
    return list(first.values()), [f"{note} ({contrary} of them with another label)"]
