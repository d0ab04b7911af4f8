"""TextFooler, TextBugger, the genetic recipes and Kuleshov's, with TextAttack's own parts and with what stands in."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from robustexit.attacks import check, make_goal, make_recipe, recipes, resources
from robustexit.attacks.attempt import Attacker, attempt_seed
from robustexit.attacks.components import embeddings, language_models, sentence_encoders
from robustexit.attacks.components.homoglyphs import TableHomoglyphs
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.recipes import require_ready
from robustexit.attacks.textattack_api import (
    ModelWrapper,
    WordEmbedding,
    WordSwapHomoglyphSwap,
    attack_recipes,
    textattack,
)
from robustexit.attacks.views import VIEWS
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.errors import ConfigError, ResourceError

WORDS = ["film", "movie", "picture", "plot", "story", "tale", "good", "great", "fine", "slow", "dull", "bad"]
TEXTS = [
    "The film was a good story, with great cast!",
    "No heart in this plot: a slow, dull end.",
    "One movie, one actor and much noise; it never ends.",
    "The picture and the tale move fine but jokes fall flat",
    "This fine old picture tells one good and one bad story about a slow, dull town, and no film does it with greater "
    "heart than this tale.",
]
VECTOR_RECIPES = ["textfooler", "textbugger", "genetic", "faster-genetic", "iga", "kuleshov"]
SMALL = {"genetic": {"pop_size": 5, "max_iters": 3}, "iga": {"pop_size": 6, "max_iters": 3}}
SMALL["faster-genetic"] = SMALL["genetic"]


def vectors():
    angles = np.linspace(0, 0.6, len(WORDS))
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def sentence_vectors(texts):
    counts = np.array([[3 + text.count(letter) for letter in "aeioustr"] for text in texts], np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def probability(word):
    return (sum(map(ord, word)) % 17) / 4.0


class Nouns:
    def __call__(self, tokens, **_):
        return [
            (token, "VERB" if len(token) % 3 == 0 else "NOUN" if len(token) % 3 == 1 else "ADJ") for token in tokens
        ]


class GoogleHelper:
    def get_words_probs(self, prefix, words):
        return [probability(word) for word in words]

    def clear_cache(self):
        pass


@pytest.fixture
def small(monkeypatch, stand_in):
    """TextAttack's own resources in small, the same for the stock recipes and for ours."""
    import nltk
    from textattack.constraints.grammaticality.language_models import google_language_model, gpt2, learning_to_write

    index = {word: i for i, word in enumerate(WORDS)}
    near = np.array(
        [[i, *sorted((j for j in range(len(WORDS)) if j != i), key=lambda j: abs(i - j))] for i in range(12)]
    )
    embedding = WordEmbedding(vectors(), index, dict(enumerate(WORDS)), near[:, :4])
    monkeypatch.setitem(textattack.shared.utils.GLOBAL_OBJECTS, "textattack_counterfitted_GLOVE_embedding", embedding)
    monkeypatch.setattr(nltk, "pos_tag", Nouns())
    use = textattack.constraints.semantics.sentence_encoders.UniversalSentenceEncoder
    monkeypatch.setattr(use, "encode", lambda self, texts: sentence_vectors(texts))
    monkeypatch.setattr(google_language_model.google_language_model, "GoogLMHelper", GoogleHelper)
    base = textattack.constraints.grammaticality.language_models.LanguageModelConstraint

    def loss(self, texts, place):
        return torch.tensor([probability(text.words[place]) for text in texts])

    def without_a_model(self, window_size=5, model_name="gpt2", **options):
        base.__init__(self, **options)

    for kind in (learning_to_write.LearningToWriteLanguageModel, gpt2.GPT2):
        monkeypatch.setattr(kind, "__init__", without_a_model)
        monkeypatch.setattr(kind, "get_log_probs_at_index", loss)
    monkeypatch.setattr(
        language_models.WordLikelihood, "scores", lambda self, pieces: [probability(w) for _, w in pieces]
    )
    for name in ("counter-fitted-vectors", "word-vectors", "sentence-encoder", "pos-tagger", "google-lm"):
        stand_in(resources.Resource(name, True, "in the test", None, ""))
    stand_in(resources.Resource("learning-to-write-lm", True, "in the test", None, ""))
    stand_in(resources.Resource("causal-lm", True, "in the test", None, ""))


def small_recipe(name):
    return recipes.get(name).with_parameters(**SMALL.get(name, {}))


class StockWrapper(ModelWrapper):
    """The same victim as a plain TextAttack user would wrap it."""

    def __init__(self, victim):
        self.model = victim

    def __call__(self, text_input_list):
        return np.stack([self.model.logits({"text": text})[-1] for text in text_input_list])


def stock_results(recipe, victim, examples, monkeypatch):
    # The stock class cannot be built: its wheel lacks a file that its word swaps do not read.
    module = attack_recipes.textbugger_li_2018
    with monkeypatch.context() as patch:
        patch.setattr(module, "WordSwapHomoglyphSwap", lambda: TableHomoglyphs(resources.homoglyph_table()))
        attack = getattr(attack_recipes, recipe.textattack_class).build(StockWrapper(victim))
    for name, value in recipe.parameters.items():
        setattr(attack.search_method, name, value)
    if recipe.name == "kuleshov":
        attack.goal_function.target_max_score = None  # the search's goal is ours: another answer
    for example in examples:
        seed = attempt_seed("d", example.example_id, recipe.name, 7)
        data = textattack.datasets.Dataset([(example.fields["text"], example.label)])
        arguments = textattack.AttackArgs(num_examples=1, random_seed=seed, disable_stdout=True, silent=True)
        yield textattack.Attacker(attack, data, arguments).attack_dataset()[0]


@pytest.mark.parametrize("name", VECTOR_RECIPES)
def test_full_depth_attempts_equal_stock_textattack(small, bag, label_by, name, monkeypatch, capsys):
    victim = bag(num_exits=1, num_classes=2, gain=0.1)
    recipe, examples = small_recipe(name), label_by(victim, TEXTS)
    attacker = Attacker(victim, recipe)
    outcomes = []
    for example, stock in zip(examples, stock_results(recipe, victim, examples, monkeypatch), strict=True):
        ours = attacker.attempt(example, dataset="d", seed=7)
        outcome = type(stock).__name__.removesuffix("AttackResult").lower()
        assert ours.error is None
        assert ours.outcome == {"successful": "succeeded"}.get(outcome, outcome)
        assert ours.text_attacked["text"] == stock.perturbed_result.attacked_text.text
        assert ours.queries == stock.num_queries
        outcomes.append((ours.outcome, ours.words_changed, ours.candidates_kept))
    assert any(kept for _, _, kept in outcomes) and any(outcome == "succeeded" for outcome, _, _ in outcomes)
    assert attacker.effective_name.removesuffix("+robustexit-stopwords") == recipe.label


@pytest.mark.parametrize("name", VECTOR_RECIPES)
@pytest.mark.parametrize("goal", ["deployed", "slowdown-uniform"])
def test_success_is_what_the_goal_says_and_repeats(small, bag, label_by, name, goal):
    victim = bag(num_exits=4, num_classes=3, threshold=0.6, gain=0.15)
    kept = 0
    for example in label_by(victim, TEXTS):
        first, second = (
            Attacker(victim, small_recipe(name), goal).attempt(example, dataset="d", seed=3) for _ in range(2)
        )
        assert first.error is None
        assert replace(first, seconds=0) == replace(second, seconds=0)
        start, final = victim.trace([example.fields, first.text_attacked], min_depth=4)
        seen = [VIEWS["scores"].show(trace, 4) for trace in (final, start)]
        assert first.goal_met == make_goal(goal).met(seen[0], example.label, seen[1])
        kept += first.candidates_kept
    assert kept > 0


def built(recipe, bag):
    return recipe.build(make_goal_function(VictimWrapper(bag(1), ("text",), 1), make_goal("deployed")))


def test_parameters_reach_the_search_and_the_constraint(small, bag):
    attack = built(make_recipe("iga", pop_size=7, max_replace_times_per_index=2), bag)
    search = attack.search_method
    assert (search.pop_size, search.max_iters, search.max_replace_times_per_index) == (7, 20, 2)
    for name in ("genetic", "faster-genetic", "iga"):
        stock = getattr(attack_recipes, recipes.get(name).textattack_class).build(StockWrapper(bag(1))).search_method
        for parameter, value in recipes.get(name).defaults.items():
            assert getattr(stock, parameter) == value
    for name in ("textfooler", "textbugger"):
        own = _similarity(built(recipes.get(name), bag))
        assert own.threshold == recipes.get(name).defaults["similarity"]
        assert _similarity(built(make_recipe(name, similarity=0.95), bag)).threshold == 0.95
    assert make_recipe("textfooler", similarity=0.95).label == "textfooler(similarity=0.95)"
    with pytest.raises(ConfigError, match="similarity must be a number from 0 on, got 'high'"):
        make_recipe("textfooler", similarity="high")


def _similarity(attack):
    (found,) = [one for one in attack.constraints if hasattr(one, "window_size")]
    return found


def test_textfooler_does_not_look_at_texts_under_its_window(small, bag):
    constraint = _similarity(built(recipes.get("textfooler"), bag))
    assert constraint.window_size == recipes.get("textfooler").window == 15
    assert constraint.skip_text_shorter_than_window
    assert recipes.get("textbugger").window is None


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """A cache of the test's own; NLTK keeps the folders that it was told of before."""
    monkeypatch.setenv("ROBUSTEXIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ROBUSTEXIT_RESOURCES", raising=False)


@pytest.fixture
def table(tmp_path, monkeypatch, own_cache):
    """A neighbour table, and a sentence encoder and tagger that need no data."""
    near = {word: [WORDS[i] for i in (j - 1, j + 1) if 0 <= i < len(WORDS)] for j, word in enumerate(WORDS)}
    (tmp_path / "near.json").write_text(json.dumps(near))
    resources.configure({"counter-fitted-vectors": tmp_path / "near.json"})

    class Encoder:
        def embed(self, texts):
            return sentence_vectors(texts)

    monkeypatch.setattr(sentence_encoders, "load_encoder", lambda name: Encoder())
    monkeypatch.setattr(resources.sentence_encoder, "_PACKAGE", "json")  # installed everywhere
    return near


def attempted(bag, label_by, name):
    victim = bag(num_exits=4, num_classes=3, threshold=0.6, gain=0.15)
    attacker = Attacker(victim, small_recipe(name))
    results = [attacker.attempt(example, dataset="d", seed=1) for example in label_by(victim, TEXTS)]
    assert [result.error for result in results] == [None] * len(TEXTS)
    assert sum(result.candidates_kept for result in results) > 0
    return attacker, results


def test_a_table_stands_in_the_names_and_its_neighbours_in_the_texts(table, bag, label_by):
    before = vars(WordEmbedding)["counterfitted_GLOVE_embedding"]
    attacker, results = attempted(bag, label_by, "iga")
    assert attacker.effective_name.endswith("+neighbour-table")
    for result, text in zip(results, TEXTS, strict=True):
        changed = {(a, b) for a, b in zip(text.split(), result.text_attacked["text"].split(), strict=True) if a != b}
        assert all(a.strip(",.;:!").lower() in WORDS and b.strip(",.;:!").lower() in WORDS for a, b in changed)
    bugger, _ = attempted(bag, label_by, "textbugger")
    assert "+neighbour-table+minilm" in bugger.effective_name
    assert vars(WordEmbedding)["counterfitted_GLOVE_embedding"] is before


def test_a_table_cannot_serve_kuleshov(table):
    with pytest.raises(ResourceError, match=r"word-vectors is missing .*near\.json is a table of neighbours, without"):
        require_ready("kuleshov")
    said = resources.find("counter-fitted-vectors").where
    assert said.endswith("listed pairs pass every threshold, others none")
    status = check("kuleshov")
    assert "word-vectors" in status.missing and "neighbour-table" in status.substitutes


def test_a_file_of_vectors_stands_in_by_its_name(tmp_path, own_cache, bag, label_by):
    file = tmp_path / "mine.300d.txt.gz"
    import gzip

    lines = [" ".join([word, *map(str, row)]) for word, row in zip(WORDS, vectors().tolist(), strict=True)]
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    resources.configure({"counter-fitted-vectors": file})
    attacker, _ = attempted(bag, label_by, "iga")
    assert attacker.effective_name.endswith("+vectors-mine.300d")
    assert resources.find("word-vectors").found
    assert isinstance(embeddings.user_embedding(), embeddings.FileEmbedding)


@pytest.mark.parametrize("name", ["genetic", "faster-genetic"])
def test_a_causal_model_stands_in_for_the_genetic_recipes(table, bag, label_by, save_gpt, tmp_path, name):
    with pytest.raises(ResourceError, match=r"give a folder .* of a causal language model as causal-lm"):
        require_ready(name)
    near = resources.configured("counter-fitted-vectors")
    resources.configure({"counter-fitted-vectors": near, "causal-lm": save_gpt(tmp_path / "tiny-gpt")})
    attacker, results = attempted(bag, label_by, name)
    assert attacker.effective_name.endswith("+neighbour-table+tiny-gpt")
    _, repeated = attempted(bag, label_by, name)
    assert [replace(result, seconds=0) for result in repeated] == [replace(result, seconds=0) for result in results]


def test_kuleshov_runs_on_a_file_of_vectors_and_a_causal_model(own_cache, bag, label_by, save_gpt, tmp_path):
    lines = [" ".join([word, *map(str, row)]) for word, row in zip(WORDS, vectors().tolist(), strict=True)]
    (tmp_path / "v.vec").write_text("\n".join([f"{len(WORDS)} 2", *lines]))
    resources.configure({"counter-fitted-vectors": tmp_path / "v.vec", "causal-lm": save_gpt(tmp_path / "tiny-gpt")})
    attacker, _ = attempted(bag, label_by, "kuleshov")
    assert attacker.effective_name.endswith("+vectors-v+tiny-gpt")


def test_a_damaged_file_is_refused_before_anything_runs(tmp_path, own_cache, bag):
    (tmp_path / "v.txt").write_text("film 1 2\nmovie 1\n")
    resources.configure({"counter-fitted-vectors": tmp_path / "v.txt"})
    with pytest.raises(ResourceError, match=r"v\.txt, line 2: expected a word and 2 numbers"):
        built(recipes.get("iga"), bag)


def test_textattack_s_homoglyphs_cannot_be_built_and_ours_swap_as_they_would():
    if resources.find("homoglyphs").found:
        pytest.skip("this TextAttack has its table")
    with pytest.raises(FileNotFoundError):
        WordSwapHomoglyphSwap()
    ours = TableHomoglyphs(resources.homoglyph_table())
    assert ours._get_replacement_words("o1!") == ["о1!", "ol!"]  # TextAttack's own glyphs: Cyrillic o, Latin l
    assert ours.homos_intentional["a"][0] == "а" and ours.deterministic
