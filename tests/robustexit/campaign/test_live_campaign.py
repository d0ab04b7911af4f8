"""Campaigns against victims that learn: one worker a cell, in a seeded order, whole or not at all."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from robustexit import load_run
from robustexit.attacks.limits import Limits
from robustexit.campaign.attempts import attempt_record
from robustexit.campaign.cells import Cell, RecipeAttack, Setting
from robustexit.campaign.prepare import VictimBuilder, load_splits
from robustexit.campaign.run import Settings, run_campaign_file
from robustexit.campaign.spec import CampaignSpec, GoalSpec, RecipeSpec, load_spec
from robustexit.errors import ConfigError
from robustexit.permissions import Permissions
from robustexit.records import TIME_COLUMNS
from robustexit.runs import RunFolder
from robustexit.victims.live import LiveVictim
from robustexit.victims.model_victim import ModelVictim

CAMPAIGN: dict[str, Any] = {
    "name": "live",
    "datasets": {
        "reviews": {
            "data": {"builtin": "reviews", "split": "test", "n": 60},
            "calibration": {"fraction": 0.5},
            "attacked": {"sample": 6},
        }
    },
    "victims": {
        "learning": {"model": "tiny", "policy": {"name": "ceebert", "evaluation": "live", "seed": 3}},
        "split": {"model": "tiny", "policy": {"name": "splitee-s", "evaluation": "live"}},
        "frozen": {"model": "tiny", "policy": {"name": "ceebert", "seed": 3}},
    },
    "recipes": ["deepwordbug"],
    "goals": ["deployed"],
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
    folder = tmp_path_factory.mktemp("live")
    path = write(folder / "live.yaml", tiny_model)
    run_campaign_file(path, Settings(folder / "run", workers=1))
    return folder


def parts_of(run: Path, victim: str) -> list[Path]:
    return [part for part in (run / "parts").glob("*.parquet") if victim in pq.read_table(part)["victim"].to_pylist()]


def test_records_name_the_order_or_the_arm(finished: Path) -> None:
    run = load_run(finished / "run")
    records = run.records
    assert not (records["outcome"] == "error").any(), records["error"].tolist()
    assert records.groupby("victim").size().to_dict() == {"frozen": 6, "learning": 6, "split": 6}
    by_victim = records.groupby("victim")["order_seed"].unique().map(list).to_dict()
    assert by_victim["learning"] == [3]
    assert by_victim["split"] == [0]
    assert pd.isna(by_victim["frozen"]).all()
    policy = records.groupby("victim")["policy"].first()
    assert "evaluation=live" in policy["learning"]
    assert "arm" not in policy["learning"]
    assert "evaluation=frozen" in policy["frozen"]
    assert "arm=0." in policy["frozen"]
    assert "seed=3" in policy["frozen"]
    learning = records[records["victim"] == "learning"]
    assert (learning["forwards"] == learning["queries"]).all()
    victims = run.manifest["victims"]
    assert (victims["learning"]["order_seed"], victims["frozen"]["order_seed"]) == (3, None)


def test_a_live_cell_is_written_whole(finished: Path) -> None:
    for victim in ("learning", "split"):
        (part,) = parts_of(finished / "run", victim)
        assert pq.read_table(part)["victim"].to_pylist() == [victim] * 6


def test_workers_change_nothing(finished: Path, tmp_path: Path) -> None:
    again = run_campaign_file(finished / "live.yaml", Settings(tmp_path / "run", workers=3))
    pd.testing.assert_frame_equal(comparable(again.records), comparable(load_run(finished / "run").records))


def test_kill_and_resume_gives_the_same_table(finished: Path, tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path / "live.yaml", tiny_model)
    command = [sys.executable, "-m", "robustexit", "run", str(path), "--out", str(tmp_path / "run"), "--workers", "1"]
    parts = tmp_path / "run" / "parts"
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline and not list(parts.glob("*.parquet")):
        time.sleep(0.02)
    process.kill()
    process.wait()
    kept = load_run(tmp_path / "run").records
    assert len(kept) > 0, process.stderr.read().decode() if process.stderr else ""
    live = kept[kept["victim"] != "frozen"]
    assert set(live.groupby("victim").size()) <= {6}
    time.sleep(3)  # the orphaned worker notices and stops
    again = run_campaign_file(path, Settings(tmp_path / "run", workers=2))
    uninterrupted = load_run(finished / "run").records
    assert len(kept) < len(uninterrupted)
    pd.testing.assert_frame_equal(comparable(again.records), comparable(uninterrupted))


def test_a_live_cell_that_lost_records_runs_again_from_its_start(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run", tmp_path / "run")
    (part,) = parts_of(tmp_path / "run", "learning")
    rows = pq.read_table(part).slice(0, 2).to_pylist()
    part.unlink()
    for row in rows:
        for field in ("text", "text_attacked"):
            row[field] = dict(row[field])
    RunFolder(tmp_path / "run").write_part(rows)
    again = run_campaign_file(finished / "live.yaml", Settings(tmp_path / "run", workers=1))
    pd.testing.assert_frame_equal(comparable(again.records), comparable(load_run(finished / "run").records))
    assert sum(pq.read_metadata(part).num_rows for part in (tmp_path / "run" / "parts").iterdir()) == 18


def build(folder: Path, tiny_model: Path, **changes: Any) -> tuple[CampaignSpec, VictimBuilder, Any]:
    spec = load_spec(write(folder / "c.yaml", tiny_model, **changes))
    permissions = Permissions()
    splits = load_splits("reviews", spec.datasets["reviews"], folder, permissions)
    return spec, VictimBuilder(spec, folder / "run", folder, permissions), splits


def test_the_evaluation_of_a_record_teaches_nothing(tmp_path: Path, tiny_model: Path) -> None:
    spec, builder, splits = build(tmp_path, tiny_model)
    victim = builder.build("learning", "reviews", splits)
    assert isinstance(victim, LiveVictim)
    assert victim.bandit.rounds == len(splits.calibration)
    attack = RecipeAttack(RecipeSpec(name="deepwordbug"), GoalSpec(name="deployed"))
    cell = Cell("reviews", "learning", attack, 0)
    attacker = attack.attacker(victim, Setting("scores", "en", splits.whole.field_names, Limits()))
    asked = 0
    for example in splits.attacked.examples[:3]:
        row = attempt_record(cell, victim, "p", attacker, example, ())
        asked += row["queries"]
        assert victim.bandit.rounds == len(splits.calibration) + asked
        assert row["probs_clean"] is not None
    assert spec.victims["learning"].policy.parameters["evaluation"] == "live"


def test_burn_in_needs_a_calibration_share_only_when_frozen(tmp_path: Path, tiny_model: Path) -> None:
    data = {"data": {"builtin": "reviews", "split": "test", "n": 60}, "attacked": {"sample": 6}}
    _, builder, splits = build(tmp_path, tiny_model, datasets={"reviews": data})
    victim = builder.build("learning", "reviews", splits)
    assert isinstance(victim, LiveVictim)
    assert victim.bandit.rounds == 0
    with pytest.raises(ConfigError, match="has not been burnt in"):
        builder.build("frozen", "reviews", splits)


def test_frozen_policies_are_calibrated_and_live_ones_are_not(tmp_path: Path, tiny_model: Path) -> None:
    frozen = {"model": "tiny", "policy": "uee-ucb", "calibrate": {"speedup": 1.5}}
    live = {**frozen, "policy": {"name": "uee-ucb", "evaluation": "live"}}
    _, builder, splits = build(tmp_path, tiny_model, victims={"frozen": frozen, "live": live})
    victim = builder.build("frozen", "reviews", splits)
    assert isinstance(victim, ModelVictim)
    assert victim.policy.parameters["arm"] in (1, 2, 3)
    with pytest.raises(ConfigError, match="no setting to calibrate"):
        builder.build("live", "reviews", splits)
