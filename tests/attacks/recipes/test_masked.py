"""BAE, BERT-Attack and CLARE end to end, over models trained in the test."""

from __future__ import annotations

import sys
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustexit.attacks import Limits, check, effective_name, make_recipe, recipes, resources
from robustexit.attacks.attempt import Attacker, attempt_seed, seed_everything
from robustexit.attacks.components import gap_filling
from robustexit.attacks.components.gap_filling import parts
from robustexit.attacks.components.install import in_recipes
from robustexit.attacks.components.masked_lm import load_masked_lm
from robustexit.attacks.textattack_api import (
    AttackedText,
    ModelWrapper,
    SentenceEncoder,
    UniversalSentenceEncoder,
    WordInsertionMaskedLM,
    WordMergeMaskedLM,
    WordSwapMaskedLM,
    attack_recipes,
    find_merge_index,
    strings,
    textattack,
)
from robustexit.data.types import Example
from robustexit.errors import ConfigError, ResourceError

NAMES = ("bae", "bert-attack", "clare")
ENOUGH = {"bae": 50, "bert-attack": 24, "clare": 12}
"""Candidates that are sure to hold words of the other sort; CLARE's fifty would make thousands of texts."""
TEXTS = (
    "the film is very good",
    "a dull story with a really dull cast .",
    "the unmakely plot is quite stale",
    "a great movie with a rather fine script .",
    "the weak cast is rather lazy",
)


GOOD, BAD = {"good", "great", "fine", "warm", "bright"}, {"bad", "dull", "stale", "weak", "lazy"}


class SharedLetters(SentenceEncoder):
    """A sentence encoder that needs no file: the letters of a text, counted."""

    def encode(self, sentences):
        return torch.tensor(
            [[1.0 + text.count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in sentences]
        )


@pytest.fixture(autouse=True)
def models(tiny_bert, tiny_roberta, film_tagger):
    resources.configure({"masked-lm": tiny_bert, "masked-lm-roberta": tiny_roberta})
    with in_recipes(UniversalSentenceEncoder, SharedLetters):
        yield
    resources.configure({})


def here(name, **parameters):
    """The recipe without the resources that are replaced in this file."""
    recipe = make_recipe(name, **{"max_candidates": ENOUGH[name], **parameters})
    return replace(recipe, needs=tuple(n for n in recipe.needs if n.startswith("masked") or n == "stopwords"))


def examples(victim, texts=TEXTS, field="text"):
    return [Example(f"x{i}", {field: t}, victim.trace([{field: t}])[0].answer) for i, t in enumerate(texts)]


@pytest.fixture(scope="module")
def multi_exit(tiny_model):
    from robustexit.exits import policies
    from robustexit.models import load_model
    from robustexit.victims.model_victim import DeployedModel, ModelVictim

    return ModelVictim(DeployedModel(load_model(tiny_model)), policies.get("entropy")(t=0.5))


@pytest.fixture
def critic(bag):
    """A victim that counts good and bad words, and leaves late where they even out."""

    class Critic(bag):
        def logits(self, text):
            words = " ".join(text.values()).lower().split()
            score = sum((word in GOOD) - (word in BAD) for word in words)
            depth = np.linspace(0.5, 1.0, self.num_exits)[:, None]
            return (self.gain * depth * np.array([[-score, score]])).astype(np.float32)

    return Critic(num_exits=4, threshold=0.8, gain=2.0)


@pytest.mark.parametrize("name", NAMES)
def test_recipes_are_described(name):
    recipe = recipes.get(name)
    assert (recipe.space, recipe.language) == ("words: masked LM", "en")
    assert recipe.window == (None if name == "bert-attack" else 15)
    assert set(recipe.needs) >= {"stopwords", "sentence-encoder"}


@pytest.mark.parametrize(
    ("name", "model"), [("bae", "tiny-bert"), ("bert-attack", "tiny-bert"), ("clare", "tiny-roberta")]
)
def test_another_model_stands_in_the_name(name, model):
    assert f"+{model}" in effective_name(name)
    assert model in check(name).substitutes


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_model_is_one_line(name, bare):
    resources.configure({})
    with pytest.raises(ResourceError, match=r"masked-lm.* is missing .*do this: .*hf download"):
        Attacker(None, replace(here(name), needs=tuple(n for n in here(name).needs if n != "stopwords")))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("goal", ["deployed", "slowdown-uniform"])
def test_success_is_what_the_goal_says(name, goal, critic):
    attacker, outcomes = Attacker(critic, here(name), goal), []
    for example in examples(critic):
        result = attacker.attempt(example, dataset="d", seed=0)
        assert result.error is None
        final = critic.trace([result.text_attacked])[0]
        met = final.answer != example.label if goal == "deployed" else final.exit == 4
        assert result.goal_met == met
        assert result.outcome == ("succeeded" if met else "failed")
        assert 0 < result.candidates_kept <= result.candidates
        outcomes.append(result.outcome)
    assert "succeeded" in outcomes


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("goal", ["deployed", "slowdown-uniform"])
def test_models_with_exits_are_attacked(name, goal, multi_exit):
    attacker = Attacker(multi_exit, here(name, max_candidates=4), goal, limits=Limits(queries=150))
    for example in examples(multi_exit, TEXTS[:2]):
        result = attacker.attempt(example, dataset="d", seed=0)
        final = multi_exit.trace([result.text_attacked])[0]
        met = final.answer != example.label if goal == "deployed" else final.exit == multi_exit.num_exits
        assert result.error is None
        assert result.goal_met == met
        assert result.outcome in ({"succeeded", "skipped"} if met else {"failed", "budget"})


@pytest.mark.parametrize("name", NAMES)
def test_attempts_do_not_depend_on_earlier_ones(name, bag):
    victim = bag(num_exits=4, threshold=0.8, gain=0.5)

    def attempt(attacker, example):
        result = attacker.attempt(example, dataset="d", seed=3)
        return result.outcome, result.text_attacked, result.queries, result.candidates, result.candidates_kept

    attacker, all_ = Attacker(victim, here(name), "slowdown-uniform"), examples(victim)
    first = [attempt(attacker, example) for example in all_]
    assert [attempt(attacker, example) for example in reversed(all_)] == list(reversed(first))
    from robustexit.attacks.components import masked_lm

    masked_lm._load.cache_clear()
    alone = [attempt(Attacker(victim, here(name), "slowdown-uniform"), example) for example in all_]
    assert alone == first


@pytest.mark.parametrize("name", NAMES)
def test_protected_fields_stay(name, bag):
    victim = bag(num_exits=2, threshold=0.9, gain=0.3)
    fields = {"premise": "the film is very good", "hypothesis": "movie is a dull story"}
    example = Example("x", fields, victim.trace([fields])[0].answer)
    for protected in ("premise", "hypothesis"):
        result = Attacker(victim, here(name, max_candidates=6)).attempt(
            example, dataset="d", seed=0, protected_fields=(protected,)
        )
        assert result.error is None and result.candidates_kept > 0
        assert result.text_attacked[protected] == fields[protected]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "text", ["", "...", "the", "[MASK] <mask> the film is [MASK] good", "na\u00efve caf\u00e9 \u4e2d\u6587"]
)
def test_odd_texts_are_attempts_like_any_other(name, text, bag):
    victim = bag(num_exits=2, gain=0.3)
    (example,) = examples(victim, [text])
    result = Attacker(victim, here(name, max_candidates=4)).attempt(example, dataset="d", seed=0)
    assert result.error is None
    assert result.outcome in {"succeeded", "failed"}


def test_limits_end_an_attempt_within_a_transformation(bag, monkeypatch):
    """CLARE makes a text for every gap and word at once: a limit need not wait for the last of them."""
    victim = bag(num_exits=1, gain=0.1)
    (example,) = examples(victim, ["a good film with a very good cast . " * 4])
    made = []
    stock = AttackedText.replace_word_at_index
    monkeypatch.setattr(AttackedText, "replace_word_at_index", lambda *a: made.append(1) or stock(*a))
    attacker = Attacker(victim, here("clare", max_candidates=20))
    result = attacker.attempt(example, dataset="d", seed=0, limits=Limits(candidates=60))
    assert (result.outcome, result.candidates, result.queries) == ("budget", 0, 1)
    assert len(made) <= 60 + 20
    made.clear()
    assert attacker.attempt(example, dataset="d", seed=0, limits=Limits(seconds=1e-9)).outcome == "timeout"
    whole = attacker.attempt(example, dataset="d", seed=0, limits=Limits(queries=5))
    assert whole.candidates > 600


def test_clare_builds_whichever_copy_of_transformers_its_recipe_holds(bag, monkeypatch):
    """The library puts another object in its own place when it is imported, so that there may be two."""
    clare = sys.modules[attack_recipes.CLARE2020.__module__]
    monkeypatch.setattr(clare, "transformers", type("Copy", (), {}))
    assert len(parts(built(here("clare"), bag()).transformation)) == 3
    assert clare.transformers.__name__ == "Copy"


def test_parameters_reach_the_transformations(bag):
    recipe = here("bert-attack", max_candidates=48, ranked=False)
    assert recipe.label == "bert-attack(max_candidates=48, ranked=False)"
    attack = built(recipe, bag())
    assert [(part.max_candidates, part.ranked) for part in parts(attack.transformation)] == [(48, False)]
    swap, insertion, merge = parts(built(here("clare", max_candidates=9), bag()).transformation)
    assert [part.max_candidates for part in (swap, insertion, merge)] == [9, 9, 9]
    assert [part.min_confidence for part in (swap, insertion, merge)] == [5e-4, 0.0, 5e-3]
    assert swap.lm is insertion.lm is merge.lm is load_masked_lm("masked-lm-roberta")
    with pytest.raises(ConfigError, match="ranked must be true or false"):
        make_recipe("bert-attack", ranked=2)


def test_merges_are_tagged_by_what_stands_in_for_nltk(bag, monkeypatch):
    monkeypatch.undo()
    missing = resources.Resource("pos-tagger", False, "", "lexicon-tagger", "")
    monkeypatch.setattr(gap_filling.resources, "find", lambda name: missing)
    pos = pytest.importorskip("robustexit.attacks.components.pos")
    monkeypatch.setattr(pos, "lexicon_tagger", lambda: type("Tagger", (), {"tag": staticmethod(lambda words: ["X"])}))
    assert gap_filling.tagger()(["a"]) == ["X"]


def built(recipe, victim):
    """The attack that an attacker makes of a recipe."""
    return Attacker(victim, recipe)._engine(("text",), ()).attack


def test_the_model_is_asked_on_the_victim_s_device(multi_exit, monkeypatch):
    (swap,) = parts(built(here("bae"), multi_exit).transformation)
    assert swap.lm is load_masked_lm("masked-lm")
    monkeypatch.setattr(type(multi_exit.deployed), "device", torch.device("meta"))
    (swap,) = parts(built(here("bae"), multi_exit).transformation)
    assert swap.lm.device == torch.device("meta")
    assert load_masked_lm("masked-lm").device == torch.device("cpu")


# --- TextAttack's own recipes over the same models -------------------------------------------------------------------


class StockWrapper(ModelWrapper):
    """A victim as a plain TextAttack user would wrap it."""

    def __init__(self, victim):
        self.model = victim

    def __call__(self, texts):
        return np.stack([self.model.logits({"text": text})[-1] for text in texts])


class KeepsToIndices(WordMergeMaskedLM):
    """TextAttack's merge, mended: its words are those that may be changed."""

    def _get_transformations(self, current_text, indices_to_modify):
        module = textattack.transformations.word_merges.word_merge_masked_lm
        allowed = set(indices_to_modify)

        def within(tags):
            return find_merge_index(tags, [i for i in range(len(tags) - 1) if {i, i + 1} <= allowed])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "find_merge_index", within)
            return super()._get_transformations(current_text, indices_to_modify)


def stock_attack(recipe, victim):
    """TextAttack's recipe over the same models, with the recipe's parameters."""
    lm = load_masked_lm(next(need for need in recipe.needs if need.startswith("masked-lm")))
    own = {"masked_language_model": lm.model, "tokenizer": lm.tokenizer}
    with ExitStack() as stack:
        for kind, made in (
            (WordSwapMaskedLM, WordSwapMaskedLM),
            (WordInsertionMaskedLM, WordInsertionMaskedLM),
            (WordMergeMaskedLM, KeepsToIndices),
        ):
            stack.enter_context(in_recipes(kind, lambda made=made, **said: made(**{**said, **own})))
        stack.enter_context(gap_filling.clare_loads_nothing())
        attack = getattr(attack_recipes, recipe.textattack_class).build(StockWrapper(victim))
    for part in parts(attack.transformation):
        part.max_candidates = recipe.settings["max_candidates"]
    return attack


@pytest.fixture
def mended(monkeypatch, film_tagger):
    monkeypatch.setattr(
        AttackedText, "text_window_around_index", _whole_or_window(AttackedText.text_window_around_index)
    )
    one_word = strings.is_one_word  # punctuation after a space takes no word's place
    monkeypatch.setattr(textattack.shared.utils, "is_one_word", lambda word: one_word(word.replace("\u0120", "")))
    monkeypatch.setattr(AttackedText, "pos_of_word_index", lambda self, i: film_tagger(self.words)[i])


def _whole_or_window(stock):
    return lambda self, index, size: self.text if size == float("inf") else stock(self, index, size)


@pytest.mark.parametrize(
    ("name", "parameters", "texts"),
    [
        ("bae", {"max_candidates": 8, "pieces": True}, TEXTS),
        ("bert-attack", {"max_candidates": 4, "ranked": False}, TEXTS),
        ("clare", {"max_candidates": 3}, TEXTS[1::2]),
    ],
)
def test_attempts_are_textattack_s_own(name, parameters, texts, bag, mended):
    """Where theirs works: the same outcome, text and number of queries."""
    victim = bag(num_exits=1, gain=0.3)
    recipe, outcomes = here(name, **parameters), []
    stock, attacker = stock_attack(recipe, victim), Attacker(victim, recipe)
    for example in examples(victim, texts):
        seed_everything(attempt_seed("d", example.example_id, name, 0))
        expected = stock.attack(OrderedDict(example.fields), example.label)
        ours = attacker.attempt(example, dataset="d", seed=0)
        outcomes.append(ours.outcome)
        assert ours.error is None
        assert (
            ours.outcome
            == {"Successful": "succeeded", "Failed": "failed"}[type(expected).__name__.removesuffix("AttackResult")]
        )
        assert ours.text_attacked["text"] == expected.perturbed_result.attacked_text.text
        assert ours.queries == expected.num_queries
    assert outcomes
