"""The run folder: a manifest and Parquet parts, written so that a kill at any moment loses nothing finished."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from robustexit.errors import RunError
from robustexit.records import ATTEMPT_KEYS, COLUMNS, SCHEMA, SCHEMA_VERSION, TEXT

MANIFEST: Final = "manifest.json"
PARTS: Final = "parts"

_UMASK: Final = os.umask(0)
os.umask(_UMASK)  # it can only be read by setting it


@dataclass(frozen=True)
class Run:
    """A run as read from disk.

    Attributes:
        records: One row an attempt, columns as in `robustexit.records`, sorted by cell and example.
        manifest: What was run, on what, with what.
        path: The folder.
    """

    records: pd.DataFrame
    manifest: dict[str, Any]
    path: Path


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it holds either the old content or the new one, never half of it.

    Raises:
        RunError: The disk is full or the folder cannot be written; nothing was overwritten.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".tmp-", delete=False) as file:
            temporary = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_UMASK)  # temporary files are private to their maker
        temporary.replace(path)
    except OSError as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror or error}; free space or choose another --out") from error


class RunFolder:
    """Write access to one run.

    Args:
        path: The folder; made when first written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def started(self) -> bool:
        """Whether a run was started here."""
        return (self.path / MANIFEST).exists()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the folder, made if it does not exist, so that two processes never write the same run.

        Raises:
            RunError: It cannot be made, or another process holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot make the run folder {self.path}: {error.strerror}; choose another --out") from error
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            raise RunError(
                f"{self.path} is being written by another process; wait for it or choose another --out"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def read_manifest(self) -> dict[str, Any]:
        """Return the manifest.

        Raises:
            RunError: No run here, or a manifest that cannot be read.
        """
        return _read_manifest(self.path)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """Write the manifest atomically."""
        text = json.dumps({"schema_version": SCHEMA_VERSION, **manifest}, indent=2, ensure_ascii=False, sort_keys=True)
        write_atomically(self.path / MANIFEST, text.encode())

    def write_part(self, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write finished attempts as one part file, atomically.

        Raises:
            RunError: The part cannot be written.
        """
        columns = {
            column.name: pa.array([_to_arrow(row[column.name], column.type) for row in rows], column.type)
            for column in COLUMNS
        }
        sink = pa.BufferOutputStream()
        pq.write_table(pa.table(columns, schema=SCHEMA), sink, compression="zstd")
        path = self.path / PARTS / f"{uuid.uuid4().hex}.parquet"
        write_atomically(path, sink.getvalue().to_pybytes())
        return path

    def finished(self) -> set[tuple[Any, ...]]:
        """Return the keys (`ATTEMPT_KEYS`) of every attempt on disk.

        Raises:
            RunError: A part file cannot be read.
        """
        done: set[tuple[Any, ...]] = set()
        for path in _part_paths(self.path):
            table = _read_part(path, list(ATTEMPT_KEYS))
            done.update(zip(*(table[key].to_pylist() for key in ATTEMPT_KEYS), strict=True))
        return done


def load_run(path: str | Path) -> Run:
    """Read a run folder.

    Args:
        path: Folder of a finished or unfinished run.

    Returns:
        Records as a pandas frame (text columns are dicts, probabilities nested lists), and the manifest.

    Raises:
        RunError: No run there, a corrupt file, or a schema that this version cannot read.
    """
    folder = Path(path)
    manifest = _read_manifest(folder)
    tables = [_read_part(part, None) for part in _part_paths(folder)]
    # Columns that came later are empty in parts written before them.
    frame = pa.concat_tables([SCHEMA.empty_table(), *tables], promote_options="default").to_pandas()
    for column in COLUMNS:
        if column.type == TEXT:
            frame[column.name] = [None if value is None else dict(value) for value in frame[column.name]]
    frame = frame.sort_values(list(ATTEMPT_KEYS), kind="stable").reset_index(drop=True)
    repeated = frame.duplicated(subset=list(ATTEMPT_KEYS))
    return Run(frame[~repeated].reset_index(drop=True), manifest, folder)


def _to_arrow(value: Any, type_: pa.DataType) -> Any:
    if value is None:
        return None
    return list(value.items()) if type_ == TEXT else value


def _part_paths(folder: Path) -> list[Path]:
    return sorted((folder / PARTS).glob("*.parquet"))


def _read_part(path: Path, columns: Iterable[str] | None) -> pa.Table:
    try:
        table = pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise RunError(
            f"{path} is corrupt or cut off ({error}); remove this file and run the campaign again, "
            "it redoes only what the file held"
        ) from error
    version = (table.schema.metadata or {}).get(b"robustexit_schema_version", b"?").decode()
    _require_version(version, path)
    return table


def _read_manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.exists():
        raise RunError(f"{folder} is no run folder: expected {MANIFEST} in it")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RunError(
            f"{path} cannot be read as JSON ({error}); restore it or start the run in a new folder"
        ) from error
    _require_version(str(manifest.get("schema_version", "?")), path)
    return manifest


def _require_version(version: str, path: Path) -> None:
    if version != str(SCHEMA_VERSION):
        raise RunError(
            f"{path} has records schema {version}; this version of RobustExit reads schema {SCHEMA_VERSION}. "
            "Read it with the RobustExit version named in its manifest, or run the campaign again"
        )
