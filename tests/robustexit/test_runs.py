"""The run folder: what is written is read back, what is broken is named, nothing finished is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from robustexit import load_run
from robustexit.errors import RunError
from robustexit.records import ATTEMPT_KEYS, COLUMNS, SCHEMA, document
from robustexit.runs import RunFolder, write_atomically

DOCS = Path(__file__).resolve().parents[2] / "docs" / "records.md"


def row(example_id: str = "a", **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = dict.fromkeys((column.name for column in COLUMNS), None)
    return {
        **base,
        "dataset": "d",
        "example_id": example_id,
        "label": 1,
        "victim": "v",
        "policy": "full-depth",
        "defense": "none",
        "recipe": "pwws",
        "goal": "deployed",
        "view": "scores",
        "seed": 0,
        "outcome": "failed",
        "text": {"premise": "a", "hypothesis": "b"},
        "probs_clean": [[0.25, 0.75]],
        **changes,
    }


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(tmp_path / "run")
    made.write_manifest({"campaign": {"name": "x"}})
    return made


def test_what_is_written_is_read_back(folder: RunFolder) -> None:
    folder.write_part([row("b"), row("a", text_attacked={"premise": "a", "hypothesis": "c"})])
    run = load_run(folder.path)
    assert run.manifest["campaign"] == {"name": "x"}
    assert run.records["example_id"].tolist() == ["a", "b"]
    assert list(run.records["text"][0]) == ["premise", "hypothesis"]
    assert run.records["text_attacked"][0] == {"premise": "a", "hypothesis": "c"}
    assert run.records["text_attacked"][1] is None
    assert [list(p) for p in run.records["probs_clean"][0]] == [[0.25, 0.75]]
    assert list(run.records.columns) == SCHEMA.names


def test_an_empty_run_is_a_frame_with_every_column(folder: RunFolder) -> None:
    assert list(load_run(folder.path).records.columns) == SCHEMA.names
    assert folder.finished() == set()


def test_finished_keys_and_repeated_rows(folder: RunFolder) -> None:
    folder.write_part([row("a")])
    folder.write_part([row("a"), row("b")])
    assert folder.finished() == {tuple(row(i)[key] for key in ATTEMPT_KEYS) for i in "ab"}
    assert len(load_run(folder.path).records) == 2


def test_a_leftover_temporary_file_is_ignored(folder: RunFolder) -> None:
    folder.write_part([row("a")])
    (folder.path / "parts" / ".tmp-123").write_bytes(b"half a fi")
    assert len(load_run(folder.path).records) == 1


def test_a_cut_off_part_is_named(folder: RunFolder) -> None:
    part = folder.write_part([row("a")])
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(RunError, match=f"{part.name} is corrupt or cut off"):
        load_run(folder.path)
    with pytest.raises(RunError, match="remove this file and run the campaign again"):
        folder.finished()


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run folder: expected manifest\.json"):
        load_run(tmp_path)


def test_a_broken_manifest_is_named(folder: RunFolder) -> None:
    (folder.path / "manifest.json").write_text('{"campaign": ')
    with pytest.raises(RunError, match="cannot be read as JSON"):
        load_run(folder.path)


def test_another_schema_is_refused(folder: RunFolder) -> None:
    path = folder.path / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(RunError, match="records schema 99; this version of RobustExit reads schema"):
        load_run(folder.path)


def test_a_full_disk_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_key_columns_are_never_empty(folder: RunFolder) -> None:
    with pytest.raises(Exception, match="null"):
        folder.write_part([row("a", victim=None)])


def test_the_documentation_lists_the_columns() -> None:
    assert document() in DOCS.read_text(encoding="utf-8")


def test_parts_written_before_a_column_came_are_read(folder: RunFolder) -> None:
    path = folder.write_part([row("a")])
    old = pq.read_table(path).drop_columns(["order_seed"])
    pq.write_table(old, path)
    assert load_run(folder.path).records["order_seed"].isna().all()
    folder.write_part([row("b", order_seed=3)])
    assert load_run(folder.path).records["order_seed"].tolist()[1] == 3
