"""For a full-depth victim our attempts are TextAttack's own, to the last query."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from robustexit.attacks import recipes, resources
from robustexit.attacks.attempt import Attacker, attempt_seed
from robustexit.attacks.components.install import prepared
from robustexit.attacks.textattack_api import (
    ModelWrapper,
    attack_recipes,
    strings,
    words_from_text,
)
from robustexit.data.types import Example

needs_wordnet = pytest.mark.skipif(
    not resources.find("wordnet").found, reason=f"needs WordNet: {resources.find('wordnet').where}"
)
RECIPES = [
    "deepwordbug",
    "pruthi",
    "input-reduction",
    pytest.param("pwws", marks=needs_wordnet),
]


class StockWrapper(ModelWrapper):
    """The same victim as a plain TextAttack user would wrap it: a list of logits a text."""

    def __init__(self, victim, field):
        self.model, self.field = victim, field

    def __call__(self, text_input_list):
        return np.stack([self.model.logits({self.field: text})[-1] for text in text_input_list])


def stock_results(recipe, victim, examples, field="text"):
    """Attack each example with TextAttack's own recipe and Attacker, seeded as ours are."""
    import textattack

    with prepared(recipe.needs):
        attack = getattr(attack_recipes, recipe.textattack_class).build(StockWrapper(victim, field))
    for example in examples:
        seed = attempt_seed("d", example.example_id, recipe.name, 7)
        data = textattack.datasets.Dataset([(example.fields[field], example.label)])
        arguments = textattack.AttackArgs(num_examples=1, random_seed=seed, disable_stdout=True, silent=True)
        yield textattack.Attacker(attack, data, arguments).attack_dataset()[0]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize(("classes", "gain"), [(2, 0.3), (4, 0.5)])
def test_full_depth_attempts_equal_stock_textattack(bag, label_by, name, classes, gain, capsys):
    victim = bag(num_exits=1, num_classes=classes, gain=gain)
    examples = label_by(victim)
    skipped = Example("wrong", {"text": "Some text that is labelled wrongly."}, 0)
    answer = victim.trace([skipped.fields])[0].answer
    examples.append(Example("wrong", skipped.fields, (answer + 1) % classes))
    recipe = recipes.get(name)
    attacker = Attacker(victim, recipe)
    for example, stock in zip(examples, stock_results(recipe, victim, examples), strict=True):
        ours = attacker.attempt(example, dataset="d", seed=7)
        outcome = type(stock).__name__.removesuffix("AttackResult").lower()
        assert ours.outcome == {"successful": "succeeded"}.get(outcome, outcome)
        assert ours.text_attacked["text"] == stock.perturbed_result.attacked_text.text
        assert ours.queries == stock.num_queries
        assert ours.forwards <= ours.queries


def test_remembered_words_are_textattack_s_words(sentences):
    import textattack

    texts = [
        *sentences,
        "",
        "  ",
        "can't -stop- me@home.org 'CCC' a_b* x\x08y",
        "naïve café ⅼ 中文 text",
        "a\nb\tc",
        "é" * 99,
    ]
    texts += [" ".join(sentences), "Don't" * 20]
    for text in texts * 2:
        stock = _stock_words(text)
        assert words_from_text(text) == stock
        assert textattack.shared.AttackedText(OrderedDict(a=text)).words == stock
        assert words_from_text(text, ["a", "film"]) == _stock_words(text, ["a", "film"])
    words = words_from_text("one two")
    words.append("three")
    assert words_from_text("one two") == ["one", "two"]


def _stock_words(text, ignore=None):
    from robustexit.attacks import textattack_api

    assert strings.words_from_text is words_from_text
    return textattack_api._stock_words_from_text(text, ignore or [])
