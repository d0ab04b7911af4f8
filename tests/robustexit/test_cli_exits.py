"""fit-modules, calibrate and sweep as a user runs them, on generated reviews and a tiny model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def place(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    rows = [
        {"text": f"the {tone} story was {tone} number {i}", "label": label}
        for i in range(20)
        for label, tone in enumerate(("dull", "warm"))
    ]
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    return tmp_path


def test_fit_calibrate_sweep(place: Path, capsys, call) -> None:
    data = ["--labels", "negative,positive", "--store", "kept"]
    fit = ["fit-modules", "model", "--data", "texts.jsonl", "--module", "learning-to-exit", "--set", "epochs=2"]
    assert call(*fit, *data) == 0
    assert (place / "model/modules/learning-to-exit/module.json").exists()
    policy = ["--policy", "learning-to-exit", "--speedup", "1.2"]
    assert call("calibrate", "model", "--data", "texts.jsonl", *policy, *data) == 0
    shown = capsys.readouterr().out
    assert "temperature" in shown
    assert "reaches" in shown
    stored = json.loads((place / "model/exit_policy.json").read_text())
    assert stored["policy"] == "learning-to-exit"
    assert call("attack", "the dull story", "--model", "model", "--label", "0", "--policy", "stored") == 0
    risk = ["--policy", "entropy", "--risk", "0.7", "--loss", "disagreement", "--dry-run"]
    assert call("calibrate", "model", "--data", "texts.jsonl", *risk, *data) == 0
    assert "learn-then-test" in capsys.readouterr().out
    assert json.loads((place / "model/exit_policy.json").read_text())["policy"] == "learning-to-exit"
    names = [part for name in ("fixed", "entropy", "learning-to-exit") for part in ("--policy", name)]
    assert call("sweep", "model", "--data", "texts.jsonl", *names, *data, "--out", "out") == 0
    found = pd.read_csv(place / "out/table.csv")
    assert set(found["policy"]) == {"entropy", "learning-to-exit"}
    assert (found["n"] == 20).all()
    text = (place / "out/sweep.md").read_text()
    assert "learning-to-exit fitted on 40 texts of texts" in text
    assert (place / "out/curves.png").read_bytes().startswith(b"\x89PNG")
    assert (place / "out/curves.svg").read_text().startswith("<svg")


def test_the_exits_alone_are_a_sweep_without_a_table(place: Path, capsys, call) -> None:
    arguments = ["sweep", "model", "--data", "texts.jsonl", "--labels", "negative,positive", "--policy", "fixed"]
    assert call(*arguments) == 0
    assert len(pd.read_csv(place / "sweep/curve.csv")) == 4
    assert "Left out" not in (place / "sweep/sweep.md").read_text()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["fit-modules", "--module", "learning-to-exits"], "did you mean 'learning-to-exit'"),
        (["fit-modules", "--module", "learning-to-exit", "--set", "epoch=2"], "did you mean 'epochs'"),
        (["calibrate", "--policy", "entropi", "--speedup", "2"], "did you mean 'entropy'"),
        (["calibrate", "--policy", "entropy"], "expected exactly one"),
        (["calibrate", "--policy", "entropy", "--speedup", "2", "--delta", "0.1"], "belong to risk"),
        (["calibrate", "--policy", "entropy", "--risk", "0.01"], "texts"),
        (["calibrate", "--policy", "entropy", "--risk", "0.1", "--control", "luck"], "learn-then-test"),
        (["calibrate", "--policy", "learning-to-exit", "--speedup", "2"], "holds no fitted module"),
        (["calibrate", "--policy", "entropy", "--speedup", "2", "--labels", "a,b,c"], "must be the same classes"),
        (["calibrate", "--policy", "entropy", "--speedup", "2", "--labels", "positive,negative"], "in another order"),
        (["sweep", "--policy", "entropi"], "did you mean 'entropy'"),
        (["sweep", "--calibration", "texts.jsonl"], "are also in texts"),
    ],
)
def test_bad_requests(command, message, place: Path, capsys, call) -> None:
    name, *rest = command
    arguments = [name, "model", "--data", "texts.jsonl", *rest]  # labels are the model's by default
    assert call(*arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
