"""A campaign from its file to its records: complete, repeatable, restartable, never lost."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from robustexit import load_run
from robustexit.campaign.manifest import changes
from robustexit.campaign.run import Settings, run_campaign_file
from robustexit.errors import ConfigError, RunError
from robustexit.permissions import Permissions
from robustexit.records import TIME_COLUMNS

CAMPAIGN: dict[str, Any] = {
    "name": "tiny",
    "datasets": {
        "reviews": {
            "data": {"builtin": "reviews", "split": "test", "n": 60},
            "calibration": {"fraction": 0.5},
            "attacked": {"sample": 6},
        }
    },
    "models": {"tiny": {}},
    "victims": {
        "full-depth": {"model": "tiny", "policy": "fixed"},
        "entropy": {"model": "tiny", "policy": "entropy", "calibrate": {"speedup": 1.5}},
        "patience": {"model": "tiny", "policy": {"name": "patience", "t": 1}},
    },
    "recipes": ["deepwordbug", "input-reduction"],
    "goals": ["deployed", "slowdown-uniform"],
}


def write(path: Path, tiny_model: Path, **changes: Any) -> Path:
    content = {**copy.deepcopy(CAMPAIGN), "models": {"tiny": {"path": str(tiny_model)}}, **changes}
    path.write_text(yaml.safe_dump(content))
    return path


def comparable(frame: pd.DataFrame) -> pd.DataFrame:
    """Records without what may differ between two runs; nested probabilities as plain lists."""
    kept = frame.drop(columns=list(TIME_COLUMNS)).copy()
    for column in ("probs_clean", "probs_attacked"):
        kept[column] = [None if value is None else [list(map(float, row)) for row in value] for value in kept[column]]
    return kept


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    path = write(folder / "tiny.yaml", tiny_model)
    run_campaign_file(path, Settings(folder / "run", workers=1))
    return folder


def test_every_cell_and_example_has_a_row(finished: Path) -> None:
    records = load_run(finished / "run").records
    assert not (records["outcome"] == "error").any(), records["error"].tolist()
    sizes = records.groupby(["victim", "recipe", "goal"]).size()
    assert set(sizes) == {6}
    # 3 victims x (deepwordbug x 2 goals + input-reduction x its own), less slowdown on the full-depth control
    assert len(sizes) == 3 * 3 - 1
    own = records[records["recipe"].str.startswith("input-reduction")]
    assert set(own["goal"]) == {"input-reduction"}
    assert set(own["outcome"]) <= {"maximized", "skipped"}


def test_records_agree_with_themselves(finished: Path) -> None:
    records = load_run(finished / "run").records
    right = records["pred_clean"] == records["label"]
    wrong_after = records["pred_attacked"] != records["label"]
    assert (records["flipped"] == (right & wrong_after)).all()
    assert (records["slower"] == (records["exit_attacked"] > records["exit_clean"])).all()
    skipped = records[records["outcome"] == "skipped"]
    assert (skipped["text"] == skipped["text_attacked"]).all()
    assert (skipped["char_edits"] == 0).all()
    full = records[records["victim"] == "full-depth"]
    assert (full["cost_clean"] == 1).all()
    assert (records["layer_forwards"] <= 4 * records["forwards"]).all()
    assert (records["forwards"] <= records["queries"]).all()


def test_the_manifest_says_what_was_run(finished: Path) -> None:
    manifest = load_run(finished / "run").manifest
    assert manifest["status"] == "complete"
    assert manifest["datasets"]["reviews"]["synthetic"] is True
    assert manifest["victims"]["entropy"]["full_depth_of_same_weights"] == "full-depth"
    assert manifest["victims"]["entropy"]["calibrations"]["reviews"]["n"] == 30
    assert manifest["machine"]["threads_per_worker"] == 1
    dropped = manifest["dropped_cells"]
    assert [(cell["victim"], cell["goal"]) for cell in dropped] == [("full-depth", "slowdown-uniform")]
    assert "nothing to slow down" in dropped[0]["reason"]


def test_workers_change_nothing(finished: Path, tmp_path: Path) -> None:
    two = run_campaign_file(finished / "tiny.yaml", Settings(tmp_path / "run", workers=2))
    pd.testing.assert_frame_equal(comparable(two.records), comparable(load_run(finished / "run").records))


def test_a_finished_run_is_not_run_again(finished: Path) -> None:
    before = sorted(path.stat().st_mtime_ns for path in (finished / "run" / "parts").iterdir())
    run_campaign_file(finished / "tiny.yaml", Settings(finished / "run", workers=1))
    assert before == sorted(path.stat().st_mtime_ns for path in (finished / "run" / "parts").iterdir())


def test_a_changed_campaign_is_refused_with_what_changed(finished: Path, tiny_model: Path) -> None:
    changed = write(finished / "changed.yaml", tiny_model, recipes=["deepwordbug"], seeds=[1])
    with pytest.raises(RunError) as caught:
        run_campaign_file(changed, Settings(finished / "run"))
    assert "campaign.seeds: was [0], now [1]" in str(caught.value)
    assert "campaign.recipes" in str(caught.value)
    assert "--out" in str(caught.value)


def test_kill_and_resume_gives_the_same_table(finished: Path, tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path / "tiny.yaml", tiny_model)
    command = [sys.executable, "-m", "robustexit", "run", str(path), "--out", str(tmp_path / "run"), "--workers", "2"]
    parts = tmp_path / "run" / "parts"
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline and len(list(parts.glob("*.parquet"))) < 2:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = len(load_run(tmp_path / "run").records)
    assert kept > 0, process.stderr.read().decode() if process.stderr else ""
    time.sleep(3)  # orphaned workers notice and stop
    again = run_campaign_file(path, Settings(tmp_path / "run", workers=2))
    uninterrupted = load_run(finished / "run").records
    assert kept < len(uninterrupted)
    pd.testing.assert_frame_equal(comparable(again.records), comparable(uninterrupted))


FACTORY = """
import numpy as np
from robustexit.victims.custom import FunctionVictim

def make(bad_word="zebra"):
    def logits(texts):
        if any(bad_word in text["text"] for text in texts):
            raise RuntimeError("no zebras")
        return np.array([[[0.0, 1.0 + len(text["text"]) % 7]] * 3 for text in texts])
    return FunctionVictim(logits, num_classes=2, num_exits=3)
"""


@pytest.fixture
def custom(tmp_path: Path, tiny_model: Path) -> Path:
    (tmp_path / "mine.py").write_text(FACTORY)
    rows = ["id,text,label", "a,a fine story,good", "b,a zebra story,good", "c,a slow story,bad"]
    (tmp_path / "data.csv").write_text("\n".join(rows))
    return write(
        tmp_path / "custom.yaml",
        tiny_model,
        datasets={"mine": {"data": {"path": "data.csv", "labels": ["bad", "good"]}}},
        models={"mine": {"factory": "mine:make"}},
        victims={"mine": {"model": "mine"}},
        recipes=["deepwordbug"],
        goals=["deployed"],
    )


def test_code_runs_only_when_allowed(custom: Path) -> None:
    with pytest.raises(ConfigError, match="--allow-code"):
        run_campaign_file(custom, Settings(custom.parent / "run"))


def test_one_bad_example_is_a_row(custom: Path) -> None:
    settings = Settings(custom.parent / "run", workers=1, permissions=Permissions(code=True))
    records = run_campaign_file(custom, settings).records.set_index("example_id")
    assert records.loc["b", "outcome"] == "error"
    assert "no zebras" in records.loc["b", "error"]
    assert records.loc["a", "outcome"] == "failed"
    assert records.loc["c", "outcome"] == "skipped"


def test_two_processes_cannot_write_one_run(finished: Path) -> None:
    from filelock import FileLock

    with (
        FileLock(finished / "run" / ".lock"),
        pytest.raises(RunError, match="being written by another process"),
    ):
        run_campaign_file(finished / "tiny.yaml", Settings(finished / "run"))


def test_a_campaign_trains_its_model_once(tmp_path: Path, tiny_encoder: Path) -> None:
    data = {"builtin": "reviews", "split": "train", "n": 40}
    training = {"backbone": str(tiny_encoder), "regime": "frozen-heads", "max_length": 48, "data": data}
    path = write(
        tmp_path / "c.yaml",
        tiny_encoder,
        models={"m": {"train": training}},
        victims={"v": {"model": "m"}},
        recipes=["deepwordbug"],
        goals=["deployed"],
    )
    settings = Settings(tmp_path / "run", workers=1)
    first = run_campaign_file(path, settings)
    weights = tmp_path / "run" / "models" / "m" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    again = run_campaign_file(path, settings)
    assert weights.stat().st_mtime_ns == before
    pd.testing.assert_frame_equal(comparable(first.records), comparable(again.records))


def test_a_setting_that_came_later_and_is_not_used_is_no_change() -> None:
    old = {"campaign": {"models": {"m": {"path": "p"}}}}
    assert changes(old, {"campaign": {"models": {"m": {"path": "p", "modules": None}}}}) == []
    used = changes(old, {"campaign": {"models": {"m": {"path": "p", "max_length": 64}}}})
    assert used == ["campaign.models.m.max_length: new, 64"]
