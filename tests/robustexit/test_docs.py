"""The documentation names everything that has a name."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

METHODS = Path(__file__).resolve().parents[2] / "docs" / "methods.md"
REGISTRIES = {
    "policies": "robustexit.exits",
    "modules": "robustexit.modules",
    "regimes": "robustexit.training.regimes",
    "heads": "robustexit.models.heads",
    "formats": "robustexit.models.imported",
}


@pytest.mark.parametrize("registry", list(REGISTRIES))
def test_every_name_stands_in_the_table_of_methods(registry: str) -> None:
    names = getattr(import_module(REGISTRIES[registry]), registry).names()
    listed = set(re.findall(r"`([a-z0-9-]+)`", METHODS.read_text(encoding="utf-8")))
    assert len(names) >= 5
    assert not set(names) - listed


SECTIONS = {
    "policies": """fixed max-probability margin entropy normalised-entropy calibrated-max-probability patience
    soft-patience confident-patience voting trend-window arithmetic-mean geometric-mean product-of-experts beem
    exit-chain random oracle learning-to-exit jei-gates consistent-ee q-exit saturation calm-meta ztw past-future
    de3 class-means sngp exemplar-cosine uee-ucb ceebert splitee splitee-s""",
    "regimes": """two-stage frozen-self-distillation capeen-mix joint depth-weighted alternating joint-self-distillation
    mutual-distillation separated ema-teacher ranking-calibration domain-adapted sparse-exits exemplar-imitation""",
    "heads": "linear mlp attention scalar-mix shared random-projection binary",
    "formats": "deebert pabee berxit elasticbert past-future",
}


@pytest.mark.parametrize("registry", list(SECTIONS))
def test_every_method_of_the_survey_that_shares_one_forward_is_registered(registry: str) -> None:
    names = getattr(import_module(REGISTRIES[registry]), registry).names()
    assert set(SECTIONS[registry].split()) <= set(names)


ATTACKS = METHODS.with_name("attacks.md")


@pytest.mark.parametrize(
    ("registry", "module"),
    [
        ("goals", "robustexit.attacks.goals"),
        ("recipes", "robustexit.attacks.recipes"),
        ("searches", "robustexit.attacks.searches"),
        ("VIEWS", "robustexit.attacks.views"),
    ],
)
def test_every_name_of_the_attack_side_is_documented(registry: str, module: str) -> None:
    text = ATTACKS.read_text(encoding="utf-8")
    listed = set(re.findall(r"`([a-z0-9+-]+)", text)) | {"exit", "exit-at-most", "exit-at-least"}
    assert not set(getattr(import_module(module), registry)) - listed
