from __future__ import annotations

import subprocess
import sys

import pytest

from robustexit.errors import ConfigError
from robustexit.training.arguments import TrainSpec


def test_yaml_becomes_a_spec(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("backbone: somewhere\nregime: two-stage\nexit_layers: [2, 4]\nlearning_rate: 0.0001\n")
    spec = TrainSpec.from_yaml(path)
    assert (spec.regime, spec.exit_layers, spec.learning_rate) == ("two-stage", (2, 4), 1e-4)


def test_options_of_a_head_inside_a_head_and_numbers_that_yaml_takes_for_words(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(
        "backbone: x\nhead: shared\nhead_options: {head: mine, options: {rate: 1e-5, name: 1e-5x}}\n"
        "regime_options: {k: null, rate: -2.5E+3}\n"
    )
    spec = TrainSpec.from_yaml(path)
    assert spec.head_options == {"head": "mine", "options": {"rate": 1e-5, "name": "1e-5x"}}
    assert spec.regime_options == {"k": None, "rate": -2500.0}
    assert TrainSpec.parse(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backbone": "x", "head_options": {"a": {1, 2}}}, "head_options.a"),
        ({"backbone": "x", "regime_options": [1]}, "regime_options"),
        ({"backbone": "x", "learning_rat": 1}, "did you mean 'learning_rate'"),
        ({"regime": "joint"}, "backbone: missing"),
        ({"backbone": "x", "exit_layers": [3, 2]}, "exit_layers: .*rise without repeats"),
        ({"backbone": "x", "exit_layers": []}, "exit_layers: .*rise without repeats"),
        ({"backbone": "x", "exit_layers": [0, 2]}, "exit_layers.0"),
        ({"backbone": "x", "learning_rate": -1}, "learning_rate: .*greater than 0.*got -1"),
        ({"backbone": "x", "learning_rate": float("inf")}, "learning_rate"),
        ({"backbone": "x", "epochs": 0}, "epochs"),
        ({"backbone": "x", "precision": "fp16"}, "precision: .*'fp32' or 'bf16'"),
    ],
)
def test_bad_settings_are_explained(settings, message):
    with pytest.raises(ConfigError, match=message):
        TrainSpec.parse(settings)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", ""])
def test_unreadable_yaml_is_explained(tmp_path, text):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"train\.yaml"):
        TrainSpec.from_yaml(path)
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        TrainSpec.from_yaml(tmp_path / "none.yaml")


def test_settings_are_checked_without_torch():
    code = "import sys, robustexit.training.arguments; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
