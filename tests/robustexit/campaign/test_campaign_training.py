"""Models that a campaign trains: every setting of a training, and a second domain without labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustexit.campaign.prepare import train_models
from robustexit.campaign.spec import load_spec
from robustexit.errors import ConfigError
from robustexit.permissions import Permissions

REVIEWS = {"builtin": "reviews", "split": "train", "n": 24}


def trained(folder: Path, encoder: Path, **settings: Any) -> dict[str, Any]:
    """Write a campaign with one trained model, train it, and return its training.json."""
    training = {"backbone": str(encoder), "max_length": 32, "data": REVIEWS, **settings}
    content = {
        "name": "c",
        "datasets": {"d": {"data": {"builtin": "reviews", "split": "test", "n": 8}}},
        "models": {"m": {"train": training}},
        "victims": {"v": {"model": "m"}},
        "recipes": ["deepwordbug"],
    }
    (folder / "c.yaml").write_text(yaml.safe_dump(content))
    train_models(load_spec(folder / "c.yaml"), folder / "run", folder, Permissions(), progress=False)
    found: dict[str, Any] = json.loads((folder / "run" / "models" / "m" / "training.json").read_text())
    return found


def test_a_model_is_adapted_to_texts_without_labels(tmp_path: Path, tiny_encoder: Path) -> None:
    (tmp_path / "target.csv").write_text("text\na fine phone\na dull screen\n")
    found = trained(tmp_path, tiny_encoder, regime="domain-adapted", eval=REVIEWS, target={"path": "target.csv"})
    assert [epoch["stage"] for epoch in found["history"]] == ["source", "adaptation"]
    assert found["data"]["target"]["size"] == 2
    assert found["data"]["target"]["name"] == "m-target"
    assert found["target_exits"] == []
    assert len(found["exits"]) == 4


def test_labelled_target_texts_are_reported_on(tmp_path: Path, tiny_encoder: Path) -> None:
    found = trained(tmp_path, tiny_encoder, regime="domain-adapted", target={**REVIEWS, "n": 8, "split": "test"})
    assert [exit_["total"] for exit_ in found["target_exits"]] == [8, 8, 8, 8]


def test_options_of_regime_and_head(tmp_path: Path, tiny_encoder: Path) -> None:
    head = {"head": "shared", "head_options": {"head": "random-projection", "options": {"projection": 4}}}
    regime = {"regime": "sparse-exits", "regime_options": {"groups": "ffn", "k": 2, "lam": "1e+1"}}
    found = trained(tmp_path, tiny_encoder, **head, **regime)
    assert found["spec"]["head_options"] == head["head_options"]
    assert found["spec"]["regime_options"] == {"groups": "ffn", "k": 2, "lam": 10.0}
    assert len(found["learned"]["sparse-exits"]["kept"]) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regime": "domain-adapted"}, "expected a target dataset"),
        ({"regime": "joint", "target": REVIEWS}, "expected no target dataset"),
        ({"regime": "domain-adapted", "taget": REVIEWS}, "did you mean 'target'"),
        ({"regime": "domain-adapted", "target": {"path": "t.csv", "lable": "x"}}, "did you mean 'label'"),
    ],
)
def test_bad_trainings_are_explained(
    settings: dict[str, Any], message: str, tmp_path: Path, tiny_encoder: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        trained(tmp_path, tiny_encoder, **settings)
