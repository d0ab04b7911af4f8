"""Campaigns fit post-hoc modules once, keep them in the run folder, and attack the policies that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from robustexit import load_run
from robustexit.campaign.run import Settings, run_campaign_file
from robustexit.campaign.spec import ModelSpec
from robustexit.errors import ConfigError
from robustexit.validation import validate


def campaign(folder: Path, tiny_model: Path, modules: dict[str, Any]) -> Path:
    content = {
        "name": "modules",
        "datasets": {
            "reviews": {
                "data": {"builtin": "reviews", "split": "test", "n": 60},
                "calibration": {"fraction": 0.5},
                "attacked": {"sample": 4},
            }
        },
        "models": {"tiny": {"path": str(tiny_model), "modules": modules}},
        "victims": {
            "full-depth": {"model": "tiny", "policy": "fixed"},
            "learned": {"model": "tiny", "policy": "learning-to-exit", "calibrate": {"speedup": 1.5}},
        },
        "recipes": ["deepwordbug"],
    }
    path = folder / "c.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


TRAINING = {"builtin": "reviews", "split": "train", "n": 40}


def test_a_module_is_fitted_once_and_attacked(tmp_path: Path, tiny_model: Path) -> None:
    modules = {"fit": [{"name": "learning-to-exit", "epochs": 3}], "data": TRAINING}
    path = campaign(tmp_path, tiny_model, modules)
    run_campaign_file(path, Settings(tmp_path / "run", workers=1))
    home = tmp_path / "run/modules/tiny/learning-to-exit"
    before = (home / "weights.safetensors").stat().st_mtime_ns
    assert not (tiny_model / "modules").exists()
    again = run_campaign_file(path, Settings(tmp_path / "run", workers=1))
    assert (home / "weights.safetensors").stat().st_mtime_ns == before
    records = load_run(tmp_path / "run").records
    assert set(records["victim"]) == {"full-depth", "learned"}
    assert not (records["outcome"] == "error").any(), records["error"].tolist()
    calibration = again.manifest["victims"]["learned"]["calibrations"]["reviews"]
    assert calibration["policy"] == "learning-to-exit"


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ({"fit": ["learning-to-exits"], "data": TRAINING}, "did you mean 'learning-to-exit'"),
        ({"fit": [{"name": "learning-to-exit", "epoch": 3}], "data": TRAINING}, "did you mean 'epochs'"),
        ({"fit": ["learning-to-exit"]}, "expected data to fit them on"),
    ],
)
def test_bad_modules(modules, message, tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run_campaign_file(campaign(tmp_path, tiny_model, modules), Settings(tmp_path / "run", workers=1))


def test_a_trained_model_needs_no_data_for_its_modules() -> None:
    train = {"backbone": "embedded:minilm", "data": TRAINING}
    spec = validate(ModelSpec, {"train": train, "modules": {"fit": ["learning-to-exit"], "seed": 3}}, "x")
    assert spec.modules is not None
    assert spec.modules.fit[0].name == "learning-to-exit"
