"""CheckList: TextAttack's own search over its swaps, with names by rule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustexit.attacks import Attacker, check, recipes, resources
from robustexit.attacks.attempt import attempt_seed, seed_everything
from robustexit.attacks.components.install import prepared
from robustexit.attacks.textattack_api import ModelWrapper, stock_attack
from robustexit.data.types import Example

TEXTS = (
    "So I told Michael that it is not the 12 men who live in Dallas.",
    "They're in New York with Mr. Smith and 250 others, and that is all.",
    "I don't know what John Smith saw in France in 1998.",
    "There were twenty-five of them; we are sure that one hundred left Boston.",
    "nothing here to change",
    "",
)


class StockWrapper(ModelWrapper):
    """The victim as a plain TextAttack user would wrap it."""

    def __init__(self, victim):
        self.model = victim

    def __call__(self, text_input_list):
        return np.stack([self.model.logits({"text": text})[-1] for text in text_input_list])


def test_the_rules_stand_in_the_name():
    flair = resources.find("ner-tagger").found
    assert check("checklist").effective_name == ("checklist" if flair else "checklist+rule-ner")


@pytest.mark.parametrize("gain", [0.3, 0.0])
@pytest.mark.parametrize(
    "text",
    [
        "So I told Michael about the 12 men who live in Dallas.",
        "They're in New York with Mr. Smith and 250 others.",
        "I don't know what John Smith saw in France in 1998.",
        "nothing here to change",
    ],
)
def test_attempts_are_textattack_s_to_the_last_query(bag, gain, text):
    """On texts without the contractions and numbers that TextAttack's own swaps miss or take apart."""
    victim = bag(num_exits=1, num_classes=3, gain=gain)
    recipe = recipes.get("checklist")
    with prepared(recipe.needs):
        stock = stock_attack(recipe.textattack_class, StockWrapper(victim), {})
    example = Example("e", {"text": text}, victim.trace([{"text": text}])[0].answer)
    ours = Attacker(victim, recipe).attempt(example, dataset="d", seed=7)
    seed_everything(attempt_seed("d", "e", "checklist", 7))
    theirs = stock.attack(text, example.label)
    assert ours.text_attacked["text"] == theirs.perturbed_result.attacked_text.text
    assert ours.queries == theirs.num_queries
    assert (ours.text_attacked["text"] == text) == (text == "nothing here to change")


def test_every_kind_of_swap_is_tried_and_attempts_repeat(bag):
    victim = bag(num_exits=3, num_classes=2, gain=0.0)  # always the same answer: the search goes on to the end
    attacker = Attacker(victim, "checklist")
    tried = set()
    trace = victim.trace
    victim.trace = lambda texts, min_depth=1: (tried.update(t["text"] for t in texts), trace(texts, min_depth))[1]
    for i, text in enumerate(TEXTS):
        example = Example(str(i), {"text": text}, 0)
        first, second = (attacker.attempt(example, dataset="d", seed=3) for _ in range(2))
        assert replace(first, seconds=0) == replace(second, seconds=0)
        assert first.error is None and first.outcome == "failed"
    assert any("it isn't" in text for text in tried)
    assert any("They are" in text or "do not know" in text for text in tried)
    assert any("that Michael" not in text and "12 men" in text and "Dallas" in text for text in tried if "So I" in text)
    assert any("in Dallas" not in text for text in tried if "So I told Michael" in text)
    assert any("12 men" not in text for text in tried if "Michael" in text)
    assert all("hundred" not in text.partition("Boston")[2] for text in tried)
