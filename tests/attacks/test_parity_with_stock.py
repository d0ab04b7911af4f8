"""A full-depth victim on real sentences: the same outcomes, texts and query counts as stock TextAttack."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from robustexit.attacks import resources
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.components.install import prepared
from robustexit.attacks.textattack_api import ModelWrapper, textattack
from robustexit.data.types import Example
from robustexit.models import load_model
from robustexit.victims.model_victim import DeployedModel, ModelVictim

NAMES = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed", "SkippedAttackResult": "skipped"}


class SamePadding(ModelWrapper):  # type: ignore[misc]
    """A stock wrapper that returns logits, padded by the victim's own rule."""

    def __init__(self, victim: ModelVictim) -> None:
        self.model = victim.deployed.model
        self.victim = victim

    def __call__(self, texts: list[str]) -> torch.Tensor:
        traces = self.victim.trace([{"text": text} for text in texts])
        return torch.stack([torch.from_numpy(trace.logits[-1].copy()) for trace in traces])


@pytest.fixture(scope="module")
def victim(tiny_model: Path) -> ModelVictim:
    return ModelVictim(DeployedModel(load_model(tiny_model)))


@pytest.fixture(scope="module")
def sentences(real_data: Path) -> list[dict[str, Any]]:
    lines = (real_data / "sst2" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:50]]


@pytest.mark.parametrize("recipe", ["pwws"])
def test_fifty_sentences_equal_stock_attacker(
    recipe: str, victim: ModelVictim, sentences: list[dict[str, Any]]
) -> None:
    if not resources.find("wordnet").found:
        pytest.skip("WordNet is not installed: " + resources.find("wordnet").how_to_get)
    pairs = [(row["text"], row["label"]) for row in sentences]
    with prepared(("stopwords", "wordnet")):
        stock = textattack.attack_recipes.PWWSRen2019.build(SamePadding(victim))
        arguments = textattack.AttackArgs(num_examples=len(pairs), disable_stdout=True, silent=True)
        expected = textattack.Attacker(stock, textattack.datasets.Dataset(pairs), arguments).attack_dataset()
    ours = Attacker(victim, recipe, "deployed", field_names=("text",))
    for row, result in zip(sentences, expected, strict=True):
        found = ours.attempt(Example(row["id"], {"text": row["text"]}, row["label"]), dataset="sst2", seed=0)
        assert found.error is None
        assert found.outcome == NAMES[type(result).__name__]
        assert found.text_attacked["text"] == result.perturbed_result.attacked_text.text
        assert found.queries == result.num_queries
    outcomes = {NAMES[type(result).__name__] for result in expected}
    assert {"succeeded", "skipped"} <= outcomes, outcomes
