"""Reads files, saved folders and Hub datasets into one shape of table, with the place of every row."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from robustexit.errors import DataError, did_you_mean, unknown_name

if TYPE_CHECKING:
    import datasets

_SHOWN: Final = 5


@dataclass(frozen=True)
class Table:
    """Rows as they stand in the source, nothing interpreted yet.

    Attributes:
        where: Name of the source in messages.
        source: Name of the source in the manifest.
        columns: Column name -> values, as a list or an Arrow column.
        numbers: Where each row is: a line number from 1, or an index from 0.
        unit: What the numbers count: ``"line"`` or ``"row"``.
        class_names: Column name -> names of its classes, for columns that carry them.
        untyped: Every value is a string because the format knows nothing else (CSV, TSV).
    """

    where: str
    source: str
    columns: Mapping[str, Any]
    numbers: Sequence[int]
    unit: str
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    untyped: bool = False

    def __len__(self) -> int:
        return len(self.numbers)

    def values(self, column: str) -> list[object]:
        """Return one column as Python values."""
        values = self.columns[column]
        return list(values.to_pylist() if isinstance(values, pa.ChunkedArray) else values)

    def position(self, index: int) -> str:
        """Say where a row is, in the words of the source (``line 4``, ``row 3``)."""
        return f"{self.unit} {self.numbers[index]}"

    def positions(self, indices: Iterable[int], ids: Sequence[str] | None = None) -> str:
        """List where rows are (the first five), with their ids where they have their own."""
        found = list(indices)
        shown = [self.position(i) + (f" (id {ids[i]!r})" if ids else "") for i in found[:_SHOWN]]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        return ", ".join(shown) + more


def is_null(value: object) -> bool:
    """Whether a cell holds nothing: null, NaN or the empty string."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def short(value: object) -> str:
    """Show a value in a message, cut to 60 characters."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _text_of(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}: line {line} is not UTF-8 ({error.reason}); save the file as UTF-8") from error


def _read_delimited(path: Path, source: str, delimiter: str) -> Table:
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    numbers: list[int] = []
    start = 1
    try:
        for row in reader:
            if not header:
                header = row
            elif row:
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: line {start}: expected {len(header)} values as in the header, got "
                        f"{len(row)}; quote texts that contain the separator {delimiter!r} or line breaks"
                    )
                rows.append(row)
                numbers.append(start)
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path}: cannot be read from line {start} on ({error}); a quotation mark may be unclosed there: "
            'write texts with quotation marks as "...", doubling the marks inside, or use JSONL'
        ) from error
    _check_header(path, header)
    columns = {name: [row[i] for row in rows] for i, name in enumerate(header)}
    return Table(str(path), source, columns, numbers, "line", untyped=True)


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not header:
        raise DataError(f"{path}: expected a header line with the column names, got an empty file")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise DataError(f"{path}: column names stand twice in the header: {', '.join(repeated)}; rename one of them")


def _read_csv(path: Path, source: str) -> Table:
    return _read_delimited(path, source, ",")


def _read_tsv(path: Path, source: str) -> Table:
    return _read_delimited(path, source, "\t")


def _from_objects(path: Path, source: str, objects: Sequence[object], numbers: Sequence[int], unit: str) -> Table:
    names: dict[str, None] = {}
    for number, item in zip(numbers, objects, strict=True):
        if not isinstance(item, dict):
            raise DataError(
                f'{path}: {unit} {number}: expected an object such as {{"text": ..., "label": ...}}, '
                f"got {type(item).__name__}"
            )
        names.update(dict.fromkeys(item))
    columns = {name: [item.get(name) for item in objects if isinstance(item, dict)] for name in names}
    return Table(str(path), source, columns, numbers, unit)


def _read_jsonl(path: Path, source: str) -> Table:
    objects: list[object] = []
    numbers: list[int] = []
    for number, line in enumerate(_text_of(path).split("\n"), start=1):
        if line.strip():
            try:
                objects.append(json.loads(line))
            except ValueError as error:
                raise DataError(
                    f"{path}: line {number} is not JSON ({error}); expected one object a line; "
                    "the file may have been cut off there"
                ) from error
            numbers.append(number)
    return _from_objects(path, source, objects, numbers, "line")


def _read_json(path: Path, source: str) -> Table:
    text = _text_of(path)
    if text.lstrip().startswith("{"):
        # `Dataset.to_json` and many Hub repositories write JSON lines under this extension.
        return _read_jsonl(path, source)
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}: line {error.lineno} is not JSON ({error.msg}); expected an array of objects or one "
            "object a line; "
            "the file may have been cut off there"
        ) from error
    if not isinstance(items, list):
        raise DataError(f"{path}: expected an array of objects or one object a line, got {type(items).__name__}")
    return _from_objects(path, source, items, range(len(items)), "row")


def _read_parquet(path: Path, source: str) -> Table:
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{path}: cannot be read as Parquet ({error}); the file may be cut off: copy it again"
        ) from error
    class_names: dict[str, tuple[str, ...]] = {}
    if b"huggingface" in (table.schema.metadata or {}):
        from datasets import Features  # seconds to import: only for files that carry its types

        class_names = _class_names(Features.from_arrow_schema(table.schema))
    return _from_arrow(str(path), source, table, class_names)


_READERS: Final[Mapping[str, Callable[[Path, str], Table]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _from_arrow(where: str, source: str, table: Any, class_names: Mapping[str, tuple[str, ...]]) -> Table:
    columns = {name: table.column(name) for name in table.column_names}
    return Table(where, source, columns, range(table.num_rows), "row", class_names)


def _class_names(features: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    from datasets import ClassLabel

    return {name: tuple(kind.names) for name, kind in features.items() if isinstance(kind, ClassLabel)}


def _from_dataset(where: str, source: str, dataset: datasets.Dataset) -> Table:
    return _from_arrow(where, source, dataset.with_format("arrow")[:], _class_names(dataset.features))


def read_path(path: str, split: str | None, base: Path) -> Table:
    """Read a local file, or a folder written by ``datasets.save_to_disk``.

    Args:
        path: As it stands in the campaign file, relative to `base` or absolute.
        split: Split of a saved folder with several.
        base: Folder that relative paths start from.

    Raises:
        DataError: Nothing there, an unknown format, a damaged file (with its line), or a missing split.
    """
    full = base / Path(path).expanduser()
    if full.is_dir():
        return _read_saved(full, path, split)
    if not full.exists():
        siblings = [p.name for p in full.parent.iterdir()] if full.parent.is_dir() else []
        raise DataError(
            f"{full}: no such file{did_you_mean(full.name, siblings)}; relative paths start from the "
            f"campaign file's folder, {base}"
        )
    if split is not None:
        raise DataError(f"{full}: 'split' is for hub datasets and saved folders; a file has none: remove it")
    if full.suffix.lower() not in _READERS:
        raise DataError(f"{full}: {unknown_name('file extension', full.suffix, _READERS)}, or a saved folder")
    try:
        return _READERS[full.suffix.lower()](full, path)
    except OSError as error:
        raise DataError(f"{full}: cannot be read ({error})") from error


def _read_saved(full: Path, path: str, split: str | None) -> Table:
    if not any((full / marker).exists() for marker in ("state.json", "dataset_dict.json")):
        raise DataError(
            f"{full}: expected a file or a folder written by datasets.save_to_disk, got another folder; "
            "for a folder of Parquet or JSONL files write `hub:` instead of `path:`"
        )
    import datasets

    try:
        loaded = datasets.load_from_disk(str(full))
    except Exception as error:  # the library raises what its files make it raise
        raise DataError(f"{full}: cannot be read as a saved dataset ({error}); save it again") from error
    return _pick_split(str(full), path, loaded, split)


def _pick_split(where: str, source: str, loaded: Any, split: str | None) -> Table:
    import datasets

    if isinstance(loaded, datasets.Dataset):
        if split is not None:
            raise DataError(f"{where}: 'split' is {split!r}, but the folder holds one split without a name: remove it")
        return _from_dataset(where, source, loaded)
    names = sorted(loaded)
    if split is None:
        if len(names) > 1:
            raise DataError(f"{where}: 'split' is missing; expected one of: {', '.join(names)}")
        split = names[0]
    if split not in loaded:
        raise DataError(f"{where}: {unknown_name('split', split, names)}")
    return _from_dataset(where, f"{source}[{split}]", loaded[split])


@contextmanager
def _quiet_datasets(offline: bool) -> Iterator[None]:
    """Keep the datasets library off the network (its own switch) and off the terminal."""
    import datasets
    from datasets.utils.logging import get_verbosity, set_verbosity, set_verbosity_error

    was_offline, bars_off = datasets.config.HF_HUB_OFFLINE, datasets.are_progress_bars_disabled()
    verbosity = get_verbosity()
    datasets.config.HF_HUB_OFFLINE = was_offline or offline
    datasets.disable_progress_bars()
    set_verbosity_error()
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = was_offline
        set_verbosity(verbosity)
        if not bars_off:
            datasets.enable_progress_bars()


def read_hub(
    hub: str, config: str | None, revision: str | None, split: str | None, base: Path, allow_network: bool
) -> Table:
    """Read a dataset with the datasets library: from a local folder, its cache, or (if allowed) the Hub.

    Args:
        hub: Hub id, or a local folder of data files, relative to `base` or absolute.
        config: Configuration name.
        revision: Commit, branch or tag; not for local folders.
        split: Split or slice; may be left out where there is only one split.
        base: Folder that relative paths start from.
        allow_network: Whether the Hub may be asked.

    Raises:
        DataError: The dataset cannot be had, the network is needed and not allowed, the cached copy is of
            another revision, or the split is not there.
    """
    folder = base / Path(hub).expanduser()
    local = folder.is_dir()
    if not local and (hub.startswith((".", "/", "~")) or hub.count("/") > 1):
        raise DataError(f"{folder}: no such folder; expected one, or a Hub id such as 'stanfordnlp/sst2'")
    if local and revision is not None:
        raise DataError(f"{folder}: 'revision' is for datasets on the Hub; a local folder has none: remove it")
    where = str(folder) if local else f"hub dataset {hub!r}"
    offline = local or not allow_network
    loaded = _load_hub(where, str(folder) if local else hub, config, revision, split, offline)
    source = "/".join(part for part in (hub, config) if part)
    if not local:
        commit = _commit(loaded)
        _check_revision(where, revision, commit, offline)
        source += f"@{commit or revision or 'main'}"
    if split is None:
        return _pick_split(where, source, loaded, split)
    return _from_dataset(where, f"{source}[{split}]", loaded)


def _load_hub(where: str, name: str, config: str | None, revision: str | None, split: str | None, offline: bool) -> Any:
    import datasets

    with _quiet_datasets(offline):
        try:
            return datasets.load_dataset(name, config, revision=revision, split=split)
        except Exception as error:  # the library, its builders and its transport raise many unrelated types
            if offline and isinstance(error, (ConnectionError, datasets.exceptions.DatasetNotFoundError)):
                raise DataError(
                    f"{where}: not in the local cache, and network not allowed: set allow_network "
                    "(--allow-network) to "
                    "download it, or give a local file (path:) or folder (hub: ./folder)"
                ) from error
            raise DataError(f"{where}: cannot be loaded ({error})") from error


def _commit(loaded: Any) -> str | None:
    """Find the commit that a Hub dataset was made from, as the library notes it with its downloads."""
    first = next(iter(loaded.values())) if isinstance(loaded, dict) else loaded
    for url in first.info.download_checksums or {}:
        _, found, rest = url.partition("@")
        if found:
            return str(rest.split("/", 1)[0])
    return None


def _check_revision(where: str, revision: str | None, commit: str | None, offline: bool) -> None:
    # Offline, the library hands out the newest cached copy without looking at the revision.
    if offline and revision is not None and not (commit or "").startswith(revision):
        raise DataError(
            f"{where}: expected revision {revision!r}, got a cached copy of commit {commit or 'unknown'}; "
            "allow the network once to fetch it, or give the commit's hash as revision"
        )
