"""The command line: bad input ends with exit code 2, one clear message, no traceback, nothing overwritten."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustexit.cli import main

GOOD: dict[str, Any] = {
    "name": "x",
    "datasets": {"d": {"data": {"path": "data.csv", "labels": ["bad", "good"]}}},
    "models": {"m": {"path": "model"}},
    "victims": {"v": {"model": "m"}},
    "recipes": ["deepwordbug"],
}
ROWS = "id,text,label\na,a fine story,good\nb,a slow story,bad\n"


def changed(path: str, value: Any) -> dict[str, Any]:
    content = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    place: Any = content
    for key in parents:
        place = place[key]
    place[last] = value
    return content


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data.csv").write_text(ROWS)
    (tmp_path / "model").symlink_to(tiny_model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


BAD = {
    "missing file": (changed("datasets.d.data.path", "nowhere.csv"), None, "nowhere.csv"),
    "wrong column": (changed("datasets.d.data.fields", ["txet"]), None, "did you mean 'text'"),
    "label outside the names": (GOOD, ROWS + "c,a story,great\n", "great"),
    "empty text": (GOOD, ROWS + "c,,good\n", "empty"),
    "duplicate id": (GOOD, ROWS + "a,another story,good\n", "more than once|repeat|duplicate"),
    "unknown policy": (changed("victims.v.policy", "entropi"), None, "did you mean 'entropy'"),
    "unknown recipe": (changed("recipes", ["deepwordbugg"]), None, "did you mean 'deepwordbug'"),
    "unknown goal": (changed("goals", ["deploid"]), None, "did you mean 'deployed'"),
    "unknown model": (changed("victims.v.model", "n"), None, "unknown model 'n'"),
    "unknown key": (changed("datasets.d.atacked", {}), None, "did you mean 'attacked'"),
    "unknown goal parameter": (changed("goals", [{"name": "deployed", "k": 2}]), None, "k"),
    "nothing can leave early": (changed("victims.v.policy", {"name": "patience", "t": 6}), None, "cannot leave early"),
    "missing threshold": (changed("victims.v.policy", "entropy"), None, "needs t"),
    "calibration without data": (changed("victims.v.calibrate", {"speedup": 1.5}), None, "fraction: 0.5"),
    "thresholds tuned on the attacked texts": (
        changed("datasets.d.calibration", {"data": {"path": "data.csv", "labels": ["bad", "good"]}}),
        None,
        "2 of 2 attacked texts are also in its calibration data",
    ),
    "protected field": (changed("datasets.d.protect", ["premise"]), None, "its fields are text"),
    "no model there": (changed("models.m.path", "no-model"), None, "no-model"),
    "both sources": (changed("models.m.factory", "a:b"), None, "exactly one of path, train and factory"),
    "missing resources": (changed("recipes", ["textfooler"]), None, "textfooler|counter-fitted"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_campaigns(case: str, place: Path, capsys: pytest.CaptureFixture, call) -> None:
    content, rows, message = BAD[case]
    (place / "c.yaml").write_text(yaml.safe_dump(content))
    if rows is not None:
        (place / "data.csv").write_text(rows)
    assert call("run", "c.yaml") == 2
    error = capsys.readouterr().err
    assert "error:" in error
    assert "Traceback" not in error
    assert re.search(message, " ".join(error.split())), error
    assert not list(place.glob("runs/*/parts/*"))


def test_missing_wordnet(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, call) -> None:
    from robustexit.attacks import resources

    missing = resources.Resource("wordnet", False, "nowhere", None, "install it")
    finders = {**resources.finders._members, "wordnet": resources.Finder(lambda: missing)}
    monkeypatch.setattr(resources.finders, "_members", finders)
    (place / "c.yaml").write_text(yaml.safe_dump(changed("recipes", ["pwws"])))
    assert call("run", "c.yaml") == 2
    assert "wordnet" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [", "not valid YAML"), ("just text", "expected a mapping"), ("name: x\n", "datasets: missing")],
)
def test_unreadable_campaigns(content, message, place, capsys, call) -> None:
    (place / "c.yaml").write_text(content)
    assert call("run", "c.yaml") == 2
    assert message in capsys.readouterr().err


def test_no_campaign_file(place, capsys, call) -> None:
    assert call("run", "nowhere.yaml") == 2
    assert "no campaign file at nowhere.yaml" in capsys.readouterr().err


def test_a_corrupt_checkpoint(place: Path, tiny_model: Path, capsys, call) -> None:
    import shutil

    (place / "model").unlink()
    shutil.copytree(tiny_model, place / "model")
    weights = place / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    (place / "c.yaml").write_text(yaml.safe_dump(GOOD))
    assert call("run", "c.yaml") == 2
    assert "model" in capsys.readouterr().err


def test_report_of_no_run(place, capsys, call) -> None:
    assert call("report", str(place)) == 2
    assert "no run folder" in capsys.readouterr().err


def test_attack_prints_every_exit(place: Path, monkeypatch, capsys) -> None:
    arguments = ["attack", "a fine story", "--model", "model", "--label", "positive", "--policy", "patience"]
    monkeypatch.setattr(sys, "argv", ["robustexit", *arguments, "--set", "t=1"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code
    printed = capsys.readouterr().out
    assert "patience(t=1)" in printed
    assert "outcome:" in printed
    assert "queries" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "postive"], "did you mean 'positive'"),
        (["--label", "positive", "--set", "t"], "expected name=value"),
        (["--label", "positive", "--policy", "stored"], "no stored exit policy"),
        (["--label", "positive", "--goal", "slowdown-uniform"], "cannot apply"),
    ],
)
def test_bad_attacks(arguments, message, place, capsys, call) -> None:
    assert call("attack", "a fine story", "--model", "model", *arguments) == 2
    assert message in capsys.readouterr().err


def test_train_stores_a_calibrated_policy_that_attack_uses(place: Path, tiny_encoder: Path, capsys, call) -> None:
    command = ["train", "--data", "reviews", "--sample", "64", "--eval", "reviews", "--backbone", str(tiny_encoder)]
    command += ["--out", "trained", "--regime", "frozen-heads", "--max-length", "48"]
    command += ["--policy", "entropy", "--speedup", "1.3"]
    assert call(*command) == 0
    assert "reaches" in capsys.readouterr().out
    stored = json.loads((place / "trained" / "exit_policy.json").read_text())
    assert stored["calibration"]["target"] == "speed-up 1.3x"
    attack = ["attack", "a fine story", "--model", "trained", "--label", "positive", "--policy", "stored"]
    assert call(*attack) == 0
    assert "entropy(t=" in capsys.readouterr().out


def test_lists(capsys, call) -> None:
    for kind, member in (("policies", "patience"), ("goals", "deployed"), ("recipes", "pwws"), ("heads", "mlp")):
        assert call("list", kind) == 0
        assert member in capsys.readouterr().out
    assert call("doctor") == 0
    assert "textfooler" in capsys.readouterr().out


def test_importing_and_help_load_nothing_heavy() -> None:
    code = (
        "import sys, robustexit, robustexit.cli; "
        "heavy = {'torch', 'transformers', 'textattack', 'pandas', 'altair', 'datasets'}; "
        "print(heavy & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert result.stdout.strip() == "set()"
