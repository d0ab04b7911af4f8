"""`robustexit train`: every kind of setting reaches the training run, and bad ones end with exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from robustexit.cli import main

TRAIN = [
    ("the story was fine and warm", "positive"),
    ("the cast was dull", "negative"),
    ("a great end", "positive"),
    ("bad jokes and no heart", "negative"),
    ("warm and great", "positive"),
    ("slow, dull and bad", "negative"),
    ("a fine cast", "positive"),
    ("the end was slow", "negative"),
]
TARGET = [
    ("the phone was great", "positive"),
    ("a bad screen", "negative"),
    ("fine sound", "positive"),
    ("the sound was dull", "negative"),
]


def csv(rows: list[tuple[str, ...]], header: str = "text,label") -> str:
    return "\n".join([header, *(",".join(f'"{value}"' for value in row) for row in rows)]) + "\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "train.csv").write_text(csv(TRAIN))
    (tmp_path / "target.csv").write_text(csv(TARGET))
    (tmp_path / "bare.csv").write_text(csv([(text,) for text, _ in TARGET], "text"))
    (tmp_path / "secret.csv").write_text(csv([(text, "-1") for text, _ in TARGET]))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def train(place: Path, tiny_encoder: Path, monkeypatch: pytest.MonkeyPatch):
    """Train on the small file; returns the exit code."""

    def run(*arguments: str, out: str = "out") -> int:
        command = ["--data", "train.csv", "--eval", "train.csv", "--backbone", str(tiny_encoder), "--out", out]
        monkeypatch.setattr(sys, "argv", ["robustexit", "train", *command, "--max-length", "16", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run


CASES: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "a regime's option": (
        "--regime capeen-mix --regime-option alpha=0.3",
        {"regime_options": {"alpha": 0.3}},
        None,
    ),
    "a number that YAML takes for a word": (
        "--regime ema-teacher --regime-option decay=9e-1 --regime-option teacher_exit=last",
        {"regime_options": {"decay": 0.9, "teacher_exit": "last"}},
        None,
    ),
    "what a regime learned": (
        "--regime sparse-exits --regime-option k=2",
        {"regime_options": {"k": 2}},
        "learned (sparse-exits): kept: exit",
    ),
    "weights of loss terms": (
        "--regime mutual-distillation --regime-option share=0.25 --exits 2,4",
        {"regime_options": {"share": 0.25}, "exit_layers": [2, 4]},
        "learned (mutual-distillation): term_weights: CE_1 ",
    ),
    "a head's option": (
        "--regime frozen-heads --head random-projection --head-option projection=8 --set feature_epochs=2",
        {"head_options": {"projection": 8}, "feature_epochs": 2},
        None,
    ),
    "a head that reads tokens": (
        "--regime frozen-self-distillation --head attention --head-option cla_hidden_size=8",
        {"head_options": {"cla_hidden_size": 8}},
        None,
    ),
    "a yes or no": (
        "--head scalar-mix --head-option add_previous_layer_logits=false",
        {"head_options": {"add_previous_layer_logits": False}},
        None,
    ),
    "a head inside a head": (
        "--regime frozen-heads --head shared --head-option head=random-projection "
        "--head-option options={projection:\u00a08}",
        {"head_options": {"head": "random-projection", "options": {"projection": 8}}},
        None,
    ),
    "settings without an option of their own": (
        "--head binary --set precision=bf16 --set head_learning_rate=2e-3 --set weight_decay=0 --set warmup_ratio=0",
        {"precision": "bf16", "head_learning_rate": 0.002, "weight_decay": 0, "warmup_ratio": 0},
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_settings_reach_the_run(case: str, train, place: Path, capsys: pytest.CaptureFixture) -> None:
    arguments, expected, printed = CASES[case]
    assert train(*(word.replace("\u00a0", " ") for word in arguments.split(" "))) == 0
    output = capsys.readouterr().out
    record = json.loads((place / "out" / "training.json").read_text())
    assert {name: record["spec"][name] for name in expected} == expected
    assert output.count("accuracy") == len(record["exits"])
    assert "target" not in output
    if printed:
        assert printed in output


def test_another_domain(train, place: Path, capsys: pytest.CaptureFixture) -> None:
    outputs, weights, records = {}, {}, {}
    for name in ("target", "bare", "secret"):
        assert train("--regime", "domain-adapted", "--target", f"{name}.csv", out=name) == 0
        outputs[name] = capsys.readouterr().out
        weights[name] = load_file(place / name / "model.safetensors")
        records[name] = json.loads((place / name / "training.json").read_text())
    # Labels only report: without them the model is the same, and nothing is said about the target texts.
    for name in ("bare", "secret"):
        assert all((weights[name][part] == weights["target"][part]).all() for part in weights["target"])
    assert outputs["target"].count("accuracy on the target texts") == 4
    for name in ("bare", "secret"):
        assert "accuracy on the target texts" not in outputs[name]
        assert "the target texts have no labels" in outputs[name]
    assert records["target"]["data"]["target"]["classes"] == {"negative": 2, "positive": 2}
    assert records["bare"]["data"]["target"]["notes"] == ["no labels: there is no column 'label'"]
    assert records["secret"]["data"]["target"]["notes"] == ["no labels: every row of column 'label' is -1 or empty"]


def test_a_sample_of_the_target(train, place: Path) -> None:
    assert train("--regime", "domain-adapted", "--target", "target.csv", "--target-sample", "2") == 0
    assert json.loads((place / "out" / "training.json").read_text())["data"]["target"]["size"] == 2


BAD = {
    "unknown regime": ("--regime jiont", "did you mean 'joint'"),
    "unknown regime option": ("--regime capeen-mix --regime-option alhpa=1", "did you mean 'alpha'"),
    "option of no regime": ("--regime joint --regime-option alpha=1", "unknown option of training regime 'joint'"),
    "impossible regime option": ("--regime capeen-mix --regime-option alpha=2", "alpha: expected a number"),
    "empty regime option": ("--regime capeen-mix --regime-option alpha=", "alpha: expected a number"),
    "no value": ("--regime capeen-mix --regime-option alpha", "--regime-option: expected name=value, got 'alpha'"),
    "no name": ("--head-option =3", "--head-option: expected name=value, got '=3'"),
    "an option twice": ("--head-option a=1 --head-option a=2", "--head-option: expected 'a' once"),
    "no YAML": ("--head-option a={", "--head-option: expected a YAML value for 'a', got '{'"),
    "no JSON": ("--head-option a=2020-01-01", "head_options.a"),
    "unknown head": ("--head lienar", "did you mean 'linear'"),
    "unknown head option": ("--head random-projection --head-option projektion=3", "did you mean 'projection'"),
    "impossible head option": ("--head random-projection --head-option projection=64", "projection of at most 32"),
    "impossible inner head": ("--head shared --head-option head=scalar-mix", "which reads the exits before"),
    "unknown option of an inner head": (
        "--head shared --head-option head=mlp --head-option options={x:\u00a01}",
        "unknown option of the head 'mlp': 'x'",
    ),
    "heads that cannot learn apart": ("--regime two-stage --head shared", "expected heads that can learn apart"),
    "unknown setting": ("--set epoch_count=3", "unknown key 'epoch_count'"),
    "a setting with an option of its own": ("--set epochs=3", "use --epochs"),
    "exits as a setting": ("--set exit_layers=[1]", "use --exits"),
    "impossible setting": ("--set precision=fp16", "precision"),
    "rate of zero": ("--learning-rate 0", "learning_rate"),
    "too few exits": ("--regime two-stage --exits 2", "expected at least 2 exits, got 1"),
    "no such layer": ("--exits 9", "9"),
    "layers in words": ("--exits two", "exit_layers.0"),
    "no target": ("--regime domain-adapted", "expected a target dataset"),
    "target of no use": ("--target target.csv", "expected no target dataset"),
    "target not there": ("--regime domain-adapted --target nowhere.csv", "nowhere.csv"),
    "sample of no target": ("--regime domain-adapted --target-sample 4", "--target-sample: expected --target"),
    "sample too large": ("--regime domain-adapted --target target.csv --target-sample 9", "sample of 1 to 4"),
    "policy without an aim": ("--policy entropy", "expected"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case: str, train, place: Path, capsys: pytest.CaptureFixture) -> None:
    arguments, message = BAD[case]
    assert train(*(word.replace("\u00a0", " ") for word in arguments.split(" "))) == 2
    error = capsys.readouterr().err
    assert "error:" in error and "Traceback" not in error
    assert message in " ".join(error.split()), error
    assert not (place / "out" / "training.json").exists()


@pytest.mark.parametrize(
    ("rows", "header", "message"),
    [
        ([("the phone was great", "-1"), ("a bad screen", "negative")], "text,label", "unknown label '-1'"),
        ([("the phone was great", "good"), ("a bad screen", "bad")], "text,label", "unknown label 'good'"),
        ([("the phone was great",)], "review", "found no text column"),
        ([("", "-1")], "text,label", "expected a text in every row"),
    ],
)
def test_bad_targets(rows, header, message, train, place: Path, capsys: pytest.CaptureFixture) -> None:
    (place / "target.csv").write_text(csv(rows, header))
    names = "negative,positive"
    assert train("--regime", "domain-adapted", "--target", "target.csv", "--labels", names) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_exit_that_may_be_no_better_than_the_most_frequent_label_is_named(
    train, place: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = ["--regime", "frozen-heads", "--set", "feature_epochs=200", "--set", "feature_learning_rate=1e-1"]
    assert train(*settings) == 0
    learned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("exit")]
    assert learned == [f"exit {i} (layer {i}): accuracy 1.000 [0.676, 1.000]" for i in (1, 2, 3, 4)]
    assert train("--regime", "frozen-heads", "--set", "feature_epochs=1", out="weak") == 0
    weak = [line for line in capsys.readouterr().out.splitlines() if line.startswith("exit")]
    assert len(weak) == 4 and all("; the most frequent label alone: 0.500" in line for line in weak)
