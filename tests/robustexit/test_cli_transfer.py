"""`transfer`, `import-textattack` and `trigger` on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustexit import load_run

LOG = """\
"original_text","perturbed_text","original_score","perturbed_score","original_output","perturbed_output",\
"ground_truth_output","num_queries","result_type"
"a [[fine]] story","a [[fien]] story",0.1,0.9,1,0,1,12,"Successful"
"a slow story","a slow story",0.2,0.2,0,0,0,30,"Failed"
"a dull cast","a dull cast",0.9,0.9,0,0,1,1,"Skipped"
"""
ROWS = "text,label\n" + "".join(f"the story was {word},{i % 2}\n" for i, word in enumerate("abcdefgh"))
HELD = "text,label\n" + "".join(f"the cast was {word},{i % 2}\n" for i, word in enumerate("abcdefgh"))


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "train.csv").write_text(ROWS)
    (tmp_path / "held.csv").write_text(HELD)
    (tmp_path / "model").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_log_goes_through_all_of_it(place: Path, capsys: pytest.CaptureFixture[str], call: Any) -> None:
    assert call("import-textattack", "log.csv", "-o", "imported", "--labels", "negative,positive") == 0
    printed = capsys.readouterr().out
    assert "3 results, fields text, changed words marked: file" in printed
    for line in ("attack success rate, %", "50", "average queries", "21"):
        assert line in printed
    assert call("report", "imported") == 0
    assert (place / "imported" / "report.html").exists()
    capsys.readouterr()

    victims = {"v": {"model": "m", "policy": {"name": "patience", "t": 1}}}
    (place / "victims.yaml").write_text(yaml.safe_dump({"models": {"m": {"path": "model"}}, "victims": victims}))
    assert call("transfer", "imported", "--victims", "victims.yaml", "--model", "model", "--name", "full") == 0
    printed = capsys.readouterr().out
    assert "run: " in printed and "imported-transfer" in printed
    moved = load_run(place / "imported-transfer")
    assert set(moved.records["victim"]) == {"v", "full"}
    assert set(moved.records["recipe"]) == {"textattack@textattack"}
    assert call("report", "imported-transfer") == 0
    report = json.loads((place / "imported-transfer" / "report.json").read_text())
    assert {row["group"] for row in report["tables"]["headline"]["rows"]} == {
        "log · textattack@textattack, goal deployed"
    }


def test_policy_and_its_parameters(place: Path, capsys: pytest.CaptureFixture[str], call: Any) -> None:
    assert call("import-textattack", "log.csv", "-o", "imported") == 0
    arguments = ["--model", "model", "--policy", "patience", "--set", "t=2", "--out", "moved"]
    assert call("transfer", "imported", *arguments) == 0
    assert set(load_run(place / "moved").records["policy"]) == {"patience(t=2)"}
    assert call("transfer", "imported", *arguments) == 0
    assert "continuing: 3 of 3 rows are on disk" in capsys.readouterr().err
    assert call("transfer", "imported", *arguments, "--set", "t=1") == 2


def test_a_trigger(place: Path, capsys: pytest.CaptureFixture[str], call: Any) -> None:
    arguments = ["--train", "train.csv", "--eval", "held.csv", "--labels", "negative,positive", "--length", "1"]
    arguments += ["--policy", "patience", "--set", "t=1", "--passes", "1", "--out", "found"]
    assert call("trigger", "model", *arguments) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "trigger: '" in printed
    assert "Robust accuracy, %" in printed
    run = load_run(place / "found")
    assert len(run.records) == 8
    assert run.manifest["campaign"]["search"]["place"] == "prefix"
    assert call("report", "found") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["transfer", "nowhere", "--model", "model"], "no run folder"),
        (["import-textattack", "nowhere.csv", "-o", "x"], "no such file"),
        (["import-textattack", "train.csv", "-o", "x"], "line 1: no column 'original_text'"),
        (["import-textattack", "log.csv", "-o", "x", "--markers", "brackets"], "unknown markers 'brackets'"),
        (["trigger", "model", "--train", "train.csv", "--eval", "train.csv"], "also training texts"),
        (["trigger", "model", "--train", "train.csv", "--eval", "held.csv", "--place", "middle"], "prefix, suffix"),
        (["trigger", "model", "--train", "train.csv", "--eval", "held.csv", "--goal", "slowdown"], "cannot apply"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str], call: Any
) -> None:
    assert call(*arguments) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "error:" in error
    assert "Traceback" not in error
    assert message in error
    assert not (place / "x").exists()


def test_nothing_to_transfer_to(place: Path, capsys: pytest.CaptureFixture[str], call: Any) -> None:
    assert call("import-textattack", "log.csv", "-o", "imported") == 0
    assert call("transfer", "imported") == 2
    assert "--victims CAMPAIGN.yaml, or --model" in " ".join(capsys.readouterr().err.split())
