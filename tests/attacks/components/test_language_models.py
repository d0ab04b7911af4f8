"""Causal language models in the place of the Google, Learning to Write and GPT-2 models."""

from __future__ import annotations

import math

import pytest
import torch

from robustexit.attacks import resources
from robustexit.attacks.components import language_models
from robustexit.attacks.components.install import prepared
from robustexit.attacks.components.language_models import (
    CausalLM,
    MostLikelyWords,
    WindowLikelihood,
    WordLikelihood,
    load_lm,
)
from robustexit.attacks.textattack_api import GPT2, AttackedText, attack_recipes
from robustexit.errors import ModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory, save_gpt):
    return save_gpt(tmp_path_factory.mktemp("lm") / "tiny-gpt")


@pytest.fixture(scope="module")
def lm(folder):
    return load_lm(str(folder))


def by_hand(lm, before, text):
    """Log-probability of `text` after `before`, one forward for each token."""
    tokenizer, model = lm._tokenizer, lm._model
    context = [tokenizer.bos_token_id, *tokenizer(before.rstrip(" "))["input_ids"]]
    space = " " if before.endswith(" ") else ""
    total = 0.0
    for token in tokenizer(space + text)["input_ids"]:
        with torch.no_grad():
            logits = model(torch.tensor([context])).logits[0, -1]
        total += float(torch.log_softmax(logits, -1)[token])
        context.append(token)
    return total


@pytest.mark.parametrize(
    ("before", "text"),
    [("the film was ", "good"), ("the film was ", "dreadful"), ("", "the film"), ("a plot, ", "fine"), ("the ", "b")],
)
def test_all_tokens_of_a_word_count(lm, before, text):
    assert lm.log_probs([(before, text)])[0] == pytest.approx(by_hand(lm, before, text), abs=1e-4)


def test_a_piece_s_probability_is_its_own(lm):
    pieces = [("the film was ", word) for word in ("good", "bad", "fine", "xyz")]
    pieces += [("a " * n, "plot") for n in (1, 9, 30)] + [("", "a"), ("", "")]
    alone = [lm.log_probs([piece])[0] for piece in pieces]
    assert lm.log_probs(pieces) == alone
    assert lm.log_probs(pieces[::-1]) == alone[::-1]
    assert all(value < 0 for value in alone[:-1]) and alone[-1] == 0
    assert lm.log_probs([]) == []


def test_of_long_contexts_the_end_is_read(lm):
    long = "the film was a plot . " * 40
    assert math.isfinite(lm.log_probs([(long, "good")])[0])
    assert lm.log_probs([(long, "good")]) == lm.log_probs([("bad " * 9 + long, "good")])


def test_without_a_token_that_texts_begin_with_the_first_token_is_certain(tmp_path, lm, save_gpt):
    bare = CausalLM(str(save_gpt(tmp_path / "no-start", start=None)))
    assert bare.log_probs([("", "the"), ("", "the film")])[0] == 0
    assert bare.log_probs([("", "the film")])[0] < 0


def test_what_is_no_causal_model_is_refused(tiny_model, tmp_path, save_gpt):
    with pytest.raises(ModelError):
        CausalLM(str(tiny_model))
    with pytest.raises(ModelError, match=r"expected a config.json"):
        CausalLM(str(tmp_path))
    broken = save_gpt(tmp_path / "broken")
    weights = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(ModelError, match="could not read its weights"):
        CausalLM(str(broken))


def swapped(text, place, word, recipe_swap):
    new = text.replace_word_at_index(place, word)
    new.attack_attrs.update(newly_modified_indices={place}, last_transformation=recipe_swap)
    return new


@pytest.fixture
def swap():
    from textattack.transformations import WordSwapEmbedding

    return WordSwapEmbedding.__new__(WordSwapEmbedding)


def test_the_likeliest_words_of_each_place_stay(folder, lm, swap):
    text = AttackedText("the film was good , a plot")
    at = {
        place: [swapped(text, place, word, swap) for word in ("bad", "fine", "xyz", "plot", "was")] for place in (3, 5)
    }
    candidates = [*at[5], *at[3]]
    kept = MostLikelyWords(str(folder), top_n_per_index=2).call_many(candidates, text)
    expected = []
    for place in (5, 3):
        before = text.text_until_word_index(place)
        ranked = sorted(at[place], key=lambda new: -by_hand(lm, before, new.words[place]))
        expected += ranked[:2]
    assert {new.text for new in kept} == {new.text for new in expected}
    assert [candidates.index(new) for new in kept] == sorted(candidates.index(new) for new in kept)
    overall = MostLikelyWords(str(folder), top_n=3).call_many(candidates, text)
    assert len(overall) == 3
    # One of the candidates is the text itself, which changes no word.
    assert len(MostLikelyWords(str(folder), top_n_per_index=9).call_many(candidates, text)) == 9
    assert MostLikelyWords(str(folder), top_n=1)._check_constraint_many([text], text) == []


def test_textattack_keeps_the_first_of_the_list_instead(monkeypatch, folder, swap):
    """Its constraint ranks, then returns the texts at the first positions: why ours is not its ranking."""
    from textattack.constraints.grammaticality.language_models import google_language_model as stock

    probabilities = {"bad": 0.1, "fine": 0.2, "xyz": 0.9}

    class Helper:
        def get_words_probs(self, prefix, words):
            return [probabilities[word] for word in words]

    monkeypatch.setattr(stock.google_language_model, "GoogLMHelper", Helper)
    text = AttackedText("the film was good")
    candidates = [swapped(text, 3, word, swap) for word in probabilities]
    constraint = stock.Google1BillionWordsLanguageModel(top_n_per_index=1)
    assert [new.words[3] for new in constraint._check_constraint_many(candidates, text)] == ["bad"]
    ours = MostLikelyWords(str(folder), top_n_per_index=1)
    monkeypatch.setattr(ours, "scores", lambda pieces: [probabilities[word] for _, word in pieces])
    assert [new.words[3] for new in ours._check_constraint_many(candidates, text)] == ["xyz"]


@pytest.mark.parametrize("kind", [WordLikelihood, WindowLikelihood])
def test_a_loss_of_the_bound_or_more_does_not_pass(folder, lm, swap, kind):
    text = AttackedText("the film was good , a plot was fine")
    candidates = [swapped(text, 3, word, swap) for word in ("bad", "fine", "xyz", "plot", "was")]
    options = {"window_size": 4} if kind is WindowLikelihood else {}

    def score(new):
        if kind is WordLikelihood:
            return by_hand(lm, text.text_until_word_index(3), new.words[3])
        return by_hand(lm, "", new.text_window_around_index(3, 4))

    losses = [score(text) - score(new) for new in candidates]
    bound = sorted(losses)[2] + 1e-3
    kept = kind(str(folder), max_log_prob_diff=bound, **options).call_many(candidates, text)
    assert kept == [new for new, loss in zip(candidates, losses, strict=True) if loss < bound]
    assert 0 < len(kept) < len(candidates)
    constraint = kind(str(folder), max_log_prob_diff=bound, **options)
    assert [constraint(new, text) for new in candidates] == [new in kept for new in candidates]


def test_a_word_without_a_letter_before_it_passes(folder, swap):
    text = AttackedText("... good film")
    worst = swapped(text, 0, "xqzj", swap)
    assert WordLikelihood(str(folder), max_log_prob_diff=1e-6).call_many([worst], text) == [worst]


def test_texts_are_scored_once_in_an_attempt(folder, monkeypatch, swap):
    asked = []
    real = CausalLM.log_probs
    monkeypatch.setattr(CausalLM, "log_probs", lambda self, pieces: (asked.extend(pieces), real(self, pieces))[1])
    text = AttackedText("the film was good")
    candidates = [swapped(text, 3, word, swap) for word in ("bad", "fine")]
    constraint = WordLikelihood(str(folder), max_log_prob_diff=1.0)
    first = constraint.call_many(candidates, text)
    assert constraint.call_many(candidates, text) == first
    assert len(asked) == len(set(asked)) == 3
    constraint.clear_cache()
    constraint.call_many(candidates, text)
    assert len(asked) == 6


def test_the_recipes_find_the_model_while_they_are_built(bare, folder):
    module = attack_recipes.kuleshov_2017
    resources.configure({"causal-lm": folder})
    for name in ("google-lm", "learning-to-write-lm", "causal-lm"):
        found = resources.find(name)
        assert (found.found, found.substitute, found.where) == (False, "tiny-gpt", str(folder))
    with prepared(["google-lm", "learning-to-write-lm", "causal-lm"]):
        built = module.GPT2(max_log_prob_diff=2.0)
        assert isinstance(built, WordLikelihood) and built.max_log_prob_diff == 2.0
        alzantot = attack_recipes.genetic_algorithm_alzantot_2018
        kept = alzantot.Google1BillionWordsLanguageModel(top_n_per_index=4, compare_against_original=False)
        assert isinstance(kept, MostLikelyWords) and (kept.top_n_per_index, kept.compare_against_original) == (4, False)
        jia = attack_recipes.faster_genetic_algorithm_jia_2019
        window = jia.LearningToWriteLanguageModel(window_size=6, max_log_prob_diff=5.0, compare_against_original=True)
        assert isinstance(window, WindowLikelihood) and (window.window_size, window.max_log_prob_diff) == (6, 5.0)
    assert module.GPT2 is GPT2


def test_without_a_model_the_one_setting_is_said(bare, monkeypatch):
    for name in ("google-lm", "learning-to-write-lm"):
        missing = resources.find(name)
        assert not missing.usable
        assert missing.how_to_get.startswith("give a folder (or id on the Hub) of a causal language model as causal-lm")
    assert "causal language model" in resources.find("causal-lm").how_to_get
    assert language_models.load_lm.cache_info().maxsize == 2
