"""What holds for all regimes: they learn, survive a kill bit for bit, and say what one exit means to them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from robustexit.errors import ConfigError
from robustexit.models.loading import load_model
from robustexit.training import features, finetuning, train
from robustexit.training.regimes import Regime, build_regime, regimes

NAMES = [
    "alternating",
    "capeen-mix",
    "depth-weighted",
    "domain-adapted",
    "ema-teacher",
    "exemplar-imitation",
    "final",
    "frozen-heads",
    "frozen-self-distillation",
    "joint",
    "joint-self-distillation",
    "mutual-distillation",
    "ranking-calibration",
    "separated",
    "sparse-exits",
    "two-stage",
]
STATEFUL = {"domain-adapted", "ema-teacher", "exemplar-imitation", "mutual-distillation", "sparse-exits"}
# Thresholds at which the tiny model's confidences fall on both sides, and a bank that overflows.
OPTIONS = {
    "exemplar-imitation": {"confident": 0.52, "uncertain": 0.48, "bank": 3, "hidden": 8, "output": 4},
    "domain-adapted": {"discriminator_learning_rate": 0.01, "clip_value": 0.5},
}


class Kill:
    """Stops training at the n-th step, counted over all stages, before the optimiser acts."""

    def __init__(self, monkeypatch) -> None:
        self.at, self.calls = 0, 0
        for module in (features, finetuning):
            monkeypatch.setattr(module, "check_loss", self)

    def __call__(self, *_):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt


def test_these_are_all_of_them():
    assert regimes.names() == NAMES


@pytest.mark.parametrize(("name", "at"), [*((name, 9) for name in NAMES), ("domain-adapted", 21)])
def test_a_killed_run_ends_with_the_uninterrupted_weights(
    name, at, spec, train_data, eval_data, make_data, tmp_path, monkeypatch
):
    kill = Kill(monkeypatch)
    spec = spec.model_copy(update={"regime": name, "regime_options": OPTIONS.get(name, {})})
    target = make_data(20, "target") if name == "domain-adapted" else None

    def run(output):
        return train(spec, train_data, eval_data, output, target_data=target, progress=False)

    whole = run(tmp_path / "whole")
    steps, kill.calls, kill.at = kill.calls, 0, at
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "out")
    # The stored-state fits take seconds: a killed one begins again. All others go on from step 8.
    states = list((tmp_path / "out").glob("checkpoints/stage-*/checkpoint-8/*.pt"))
    assert any(path.name == finetuning.OBJECTIVE_FILE for path in states) == (
        name in STATEFUL and (name, at) != ("domain-adapted", 9)
    )
    kill.calls, kill.at = 0, 0
    resumed = run(tmp_path / "out")
    assert name == "frozen-heads" or kill.calls < steps - 4

    first, second = (load_file(tmp_path / folder / "model.safetensors") for folder in ("whole", "out"))
    assert first.keys() == second.keys() and all(torch.equal(first[part], second[part]) for part in first)
    assert (resumed.history, resumed.exits) == (whole.history, whole.exits)
    learned = [json.loads((tmp_path / folder / "training.json").read_text())["learned"] for folder in ("whole", "out")]
    assert learned[0] == learned[1]
    assert load_model(tmp_path / "out").model.num_exits == (1 if name == "final" else 3)


@pytest.mark.parametrize("name", NAMES)
def test_one_exit_is_trained_or_refused(name, spec, make_data, tmp_path):
    spec = spec.model_copy(update={"regime": name, "exit_layers": (2,), "epochs": 1, "feature_epochs": 1})
    target = make_data(8, "target") if name == "domain-adapted" else None

    def run():
        return train(spec, make_data(16), make_data(8), tmp_path / "out", target_data=target, progress=False)

    if build_regime(name).min_exits == 1:
        assert [accuracy.layer for accuracy in run().exits] == [2]
    else:
        with pytest.raises(ConfigError, match=f"'{name}' expected at least 2 exits, got 1"):
            run()
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("capeen-mix", "alpha", 1.5),
        ("capeen-mix", "alpha", "half"),
        ("ema-teacher", "decay", -0.1),
        ("ema-teacher", "teacher_exit", "lats"),
        ("joint-self-distillation", "temperature", 0),
        ("mutual-distillation", "every", 1.5),
        ("mutual-distillation", "share", 1),
        ("ranking-calibration", "folds", 1),
        ("domain-adapted", "clip_value", 0),
        ("sparse-exits", "k", 0),
        ("sparse-exits", "groups", "head"),
        ("exemplar-imitation", "bank", True),
    ],
)
def test_impossible_options_are_explained(name, option, value):
    with pytest.raises(ConfigError, match=f"'{name}': .*{option}"):
        build_regime(name, {option: value})


def test_what_a_finished_stage_learned_survives_a_kill_in_the_next(spec, train_data, tmp_path, monkeypatch):
    first, second = build_regime("mutual-distillation").stages[0], build_regime("frozen-heads").stages[0]
    monkeypatch.setattr(regimes, "_members", dict(regimes._members))
    composed = Regime("composed", "a test", (first, second))
    regimes._members["composed"] = lambda: composed
    kill = Kill(monkeypatch)
    spec = spec.model_copy(update={"regime": "composed"})
    learned = []
    for name, at in (("whole", 0), ("out", 14)):
        kill.calls, kill.at = 0, at
        if at:
            with pytest.raises(KeyboardInterrupt):
                train(spec, train_data, None, tmp_path / name, progress=False)
            kill.at = 0
        train(spec, train_data, None, tmp_path / name, progress=False)
        learned.append(json.loads((tmp_path / name / "training.json").read_text())["learned"])
    assert learned[0] == learned[1] and "term_weights" in learned[0]["mutual-distillation"]


def test_the_guides_examples_work(spec, train_data, tmp_path, monkeypatch):
    guide = Path(__file__).parents[4] / "docs" / "training.md"
    section = guide.read_text(encoding="utf-8").split("## A regime of your own")[1].split("\n## ")[0]
    monkeypatch.setattr(regimes, "_members", dict(regimes._members))
    for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
        exec(block, {})
    added = sorted(set(regimes._members) - set(NAMES))
    assert added == ["distant-states", "geometric"]
    for name in added:
        mine = spec.model_copy(update={"regime": name})
        result = train(mine, train_data, None, tmp_path / name, progress=False)
        assert result.history[-1].loss < result.history[0].loss
