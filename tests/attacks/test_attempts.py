from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustexit.attacks import Limits, make_goal, make_recipe, recipes, resources
from robustexit.attacks.attempt import Attacker, attempt_seed, count_words, seed_everything
from robustexit.attacks.components.homoglyphs import read_homoglyphs
from robustexit.attacks.views import VIEWS
from robustexit.data.types import Example
from robustexit.errors import ConfigError, ResourceError

GOALS = ["deployed", "final", "slowdown-uniform"]
READY = [
    name
    for name in recipes
    if not recipes.get(name).white_box
    and recipes.get(name).unsupported is None
    and all(resources.find(need).usable for need in recipes.get(name).needs)
]
FEW_CANDIDATES = {"checklist", "set-contractions", "set-entities", "set-neutral-sentence", "set-numbers"}
"""Recipes that find little to swap in most texts."""
COMBINATIONS = [
    (recipe, goal)
    for recipe in READY
    for goal in ([recipes.get(recipe).own_goal] if recipes.get(recipe).own_goal else GOALS)
]
PAIR = Example(
    "p", {"first": "A man plays a guitar on the stage.", "second": "A person makes music for a large crowd."}, 0
)
SWAPPABLE = Example(
    "p",
    {
        "first": "In Germany he is not the first of 25 people on the stage.",
        "second": "She is not in France with 30 others, and they are glad that it is so.",
    },
    0,
)
"""A pair in which recipes of few candidates find some, too."""


def seen(trace):
    return VIEWS["scores"].show(trace, len(trace.logits))


@pytest.fixture
def victim(bag):
    return bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)


def small(name):
    """A recipe whose population is cut short, to spare time."""
    recipe = recipes.get(name)
    few = {"popsize": 8, "maxiter": 2, "pop_size": 6, "max_iters": 2}
    return recipe.with_parameters(**{name: value for name, value in few.items() if name in recipe.defaults})


@pytest.mark.parametrize(("recipe", "goal"), COMBINATIONS)
def test_success_is_what_the_goal_says(victim, label_by, recipe, goal):
    attacker = Attacker(victim, small(recipe), goal)
    outcomes = set()
    for example in label_by(victim)[:10]:
        result = attacker.attempt(example, dataset="d", seed=1)
        assert result.error is None
        outcomes.add(result.outcome)
        start, final = victim.trace([example.fields, result.text_attacked], min_depth=4)
        met = make_goal(goal).met(seen(final), example.label, seen(start))
        if goal == "input-reduction":
            assert result.outcome == "maximized" and met
            assert 0 < result.words_changed < result.words_total
            continue
        assert result.goal_met == met == (result.outcome in {"succeeded", "skipped"})
        if result.outcome == "skipped":
            assert make_goal(goal).met(seen(start), example.label, seen(start))
            assert result.text_attacked == example.fields
            assert (result.queries, result.words_changed) == (1, 0)
        elif result.outcome == "succeeded":
            assert result.text_attacked != example.fields
    assert outcomes & {"succeeded", "maximized"} or recipe in FEW_CANDIDATES


def test_a_target_exit_ends_the_search_there(victim, label_by):
    attacker = Attacker(victim, "deepwordbug", "slowdown-uniform", goal_parameters={"target_exit": 2})
    for example in label_by(victim)[:10]:
        result = attacker.attempt(example, dataset="d", seed=1)
        exit_ = victim.trace([result.text_attacked])[0].exit
        assert (result.outcome in {"succeeded", "skipped"}) == (exit_ >= 2)


def test_forwards_count_what_the_attempt_needs_alone(victim, label_by):
    examples = label_by(victim)[:6]
    attacker = Attacker(victim, "pruthi")
    for example in (*examples, examples[0]):
        victim.texts_run, victim.calls = 0, []
        result = attacker.attempt(example, dataset="d", seed=1)
        assert result.forwards == victim.texts_run <= result.queries
        assert result.forwards <= result.layer_forwards <= 4 * result.forwards
    # One call for the original, one for each list of candidates: victims batch on their own.
    assert len(victim.calls) == 2 and max(victim.calls) > 32


def test_final_goal_pays_for_every_layer(victim, label_by):
    result = Attacker(victim, "pruthi", "final").attempt(label_by(victim)[0], dataset="d", seed=1)
    assert result.layer_forwards == 4 * result.forwards


def test_attempts_do_not_depend_on_what_came_before(victim, label_by):
    examples = label_by(victim)[:8]
    attacker = Attacker(victim, "deepwordbug")
    forth = [attacker.attempt(example, dataset="d", seed=3) for example in examples]
    seed_everything(12345)
    back = [attacker.attempt(example, dataset="d", seed=3) for example in reversed(examples)]
    alone = [Attacker(victim, "deepwordbug").attempt(example, dataset="d", seed=3) for example in examples]
    timeless = [[replace(result, seconds=0) for result in results] for results in (forth, back[::-1], alone)]
    assert timeless[0] == timeless[1] == timeless[2]
    other = [attacker.attempt(example, dataset="d", seed=4).text_attacked for example in examples]
    assert other != [result.text_attacked for result in forth]


def test_evolution_draws_from_the_seeded_generators(victim, label_by):
    attacker = Attacker(victim, small("bad-characters-invisible"), "final")
    first, second = (attacker.attempt(label_by(victim)[3], dataset="d", seed=5) for _ in range(2))
    assert replace(first, seconds=0) == replace(second, seconds=0)


def test_seeds_are_known_and_fit_numpy():
    assert attempt_seed("sst2", "17", "pwws", 0) == attempt_seed("sst2", "17", "pwws", 0)
    seeds = {
        attempt_seed(*key) for key in [("a", "1", "r", 0), ("a", "1", "r", 1), ("b", "1", "r", 0), ("a", "11", "r", 0)]
    }
    assert len(seeds) == 4
    assert all(0 <= seed < 2**32 for seed in seeds)
    np.random.seed(max(seeds))
    assert attempt_seed("d", "e", "pwws", 7) == 1815248971


class Raises:
    """A victim that fails on some texts."""

    def __init__(self, inner, error, word="portrait"):
        self.inner, self.error, self.word = inner, error, word

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def trace(self, texts, min_depth=1):
        if any(self.word in text["text"] for text in texts):
            raise self.error
        return self.inner.trace(texts, min_depth)


@pytest.mark.parametrize("error", [StopIteration("spent"), AssertionError("no"), ValueError("bad"), MemoryError()])
def test_one_bad_example_is_a_row_with_its_error(victim, label_by, error):
    attacker = Attacker(Raises(victim, error), "deepwordbug")
    first, second = (attacker.attempt(example, dataset="d", seed=1) for example in label_by(victim)[:2])
    assert (first.outcome, first.goal_met) == ("error", None)
    assert first.error == f"{type(error).__name__}: {error}"
    assert first.text_attacked == label_by(victim)[0].fields
    assert second.error is None


def test_an_interrupt_passes(victim, label_by):
    attacker = Attacker(Raises(victim, KeyboardInterrupt()), "deepwordbug")
    with pytest.raises(KeyboardInterrupt):
        attacker.attempt(label_by(victim)[0], dataset="d", seed=1)


class Nan(Raises):
    def trace(self, texts, min_depth=1):
        traces = self.inner.trace(texts, min_depth)
        return [replace(trace, probabilities=trace.probabilities * np.float32("nan")) for trace in traces]


class Shallow(Raises):
    def trace(self, texts, min_depth=1):
        return [replace(trace, logits=trace.logits[:1], exit=1) for trace in self.inner.trace(texts, min_depth)]


class Short(Raises):
    def trace(self, texts, min_depth=1):
        return self.inner.trace(texts, min_depth)[:-1]


@pytest.mark.parametrize(
    ("broken", "message"),
    [(Nan, "returned NaN"), (Shallow, "holds 1 exits"), (Short, "returned 0 traces for 1 texts")],
)
def test_a_victim_that_breaks_its_contract_is_an_error(victim, label_by, broken, message):
    result = Attacker(broken(victim, None), "deepwordbug", "final").attempt(label_by(victim)[0], dataset="d", seed=1)
    assert result.outcome == "error"
    assert result.error.startswith("ModelError: ") and message in result.error


@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("text", ["", "a", "!", "the of and", "??? ... ---", "中文 句子", "x" * 300])
def test_odd_texts_are_no_errors(bag, name, text):
    victim = bag(num_exits=2, num_classes=2, threshold=0.7)
    label = victim.trace([{"text": text}])[0].answer
    result = Attacker(victim, small(name)).attempt(Example("odd", {"text": text}, label), dataset="d", seed=0)
    assert result.error is None
    assert list(result.text_attacked) == ["text"]


@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("protected", ["first", "second"])
def test_protected_fields_stay_and_the_other_is_attacked(bag, name, protected):
    victim = bag(num_exits=3, num_classes=2, threshold=0.8, gain=0.2)
    pair = SWAPPABLE if name in FEW_CANDIDATES else PAIR
    label = victim.trace([pair.fields])[0].answer
    result = Attacker(victim, small(name)).attempt(
        replace(pair, label=label), dataset="d", seed=2, protected_fields=(protected,)
    )
    assert result.error is None
    assert list(result.text_attacked) == ["first", "second"]
    assert result.text_attacked[protected] == pair.fields[protected]
    assert result.text_attacked != pair.fields
    assert result.candidates >= result.candidates_kept > 0


@pytest.mark.parametrize("name", [name for name in READY if name.startswith("bad-characters")])
def test_evolution_keeps_two_open_fields_apart(bag, name):
    victim = bag(num_exits=1, num_classes=2, gain=0.02)
    label = victim.trace([PAIR.fields])[0].answer
    seen = []
    trace = victim.trace
    victim.trace = lambda texts, min_depth=1: (seen.extend(texts), trace(texts, min_depth))[1]
    Attacker(victim, small(name)).attempt(replace(PAIR, label=label), dataset="d", seed=2)
    changed = [text for text in seen if text != PAIR.fields]
    assert {key for text in changed for key in text if text[key] != PAIR.fields[key]} == {"first", "second"}
    assert all(list(text) == ["first", "second"] and "\x1f" not in "".join(text.values()) for text in seen)


def test_protecting_what_is_not_there_is_refused(victim):
    attacker = Attacker(victim, "deepwordbug")
    with pytest.raises(
        ConfigError, match=r"cannot protect field 'frist' \(did you mean 'first'\?\); the fields are: first, second"
    ):
        attacker.attempt(PAIR, dataset="d", seed=0, protected_fields=("frist",))
    with pytest.raises(ConfigError, match="every field is protected"):
        attacker.attempt(PAIR, dataset="d", seed=0, protected_fields=("first", "second"))


def test_other_fields_than_the_dataset_s_are_an_error(victim):
    result = Attacker(victim, "deepwordbug", field_names=("text",)).attempt(PAIR, dataset="d", seed=0)
    assert result.error == "ValueError: the example has the fields ['first', 'second'], expected ['text']"


def test_combinations_that_cannot_work_are_refused(bag, victim):
    with pytest.raises(ConfigError, match="keeps its own goal"):
        Attacker(victim, "input-reduction", "deployed")
    with pytest.raises(ConfigError, match="'slowdown-uniform' cannot apply: the victim has a single exit"):
        Attacker(bag(1), "pruthi", "slowdown-uniform")
    if not resources.find("counter-fitted-vectors").found:
        with pytest.raises(ResourceError, match="counter-fitted-vectors is missing"):
            Attacker(victim, "textfooler")


def test_a_query_budget_keeps_the_best_so_far(victim, label_by):
    outcomes = set()
    for example in label_by(victim):
        result = Attacker(victim, "pruthi", limits=Limits(queries=5)).attempt(example, dataset="d", seed=1)
        assert result.queries <= 5
        outcomes.add(result.outcome)
        assert (result.outcome == "succeeded") == bool(result.goal_met)
        start, final = victim.trace([example.fields, result.text_attacked])
        assert final.probabilities[example.label] <= start.probabilities[example.label]
    assert "budget" in outcomes


def test_ranking_texts_are_never_the_best_so_far(victim, label_by):
    for example in label_by(victim):
        result = Attacker(victim, "deepwordbug", limits=Limits(queries=14)).attempt(example, dataset="d", seed=1)
        assert "[UNK]" not in result.text_attacked["text"]


def test_a_time_limit_ends_the_attempt(victim, label_by):
    result = Attacker(victim, "pruthi", limits=Limits(seconds=1e-9)).attempt(label_by(victim)[0], dataset="d", seed=1)
    assert (result.outcome, result.goal_met, result.queries) == ("timeout", None, 0)
    with pytest.raises(ConfigError, match="limit seconds must be positive, got 0"):
        Limits(seconds=0)


def test_words_are_counted_on_the_original():
    assert count_words({"a": "one two three"}, {"a": "one TWO three"}) == (1, 3)
    assert count_words({"a": "one two three"}, {"a": "one three"}) == (1, 3)
    assert count_words({"a": "one two"}, {"a": "one big two"}) == (0, 2)
    assert count_words({"a": "one", "b": "two"}, {"a": "two", "b": "one"}) == (2, 2)
    assert count_words({"a": ""}, {"a": ""}) == (0, 0)


def test_pruthi_changes_as_many_words_as_it_is_allowed(victim, label_by):
    attacker = Attacker(victim, make_recipe("pruthi", max_num_word_swaps=2))
    changed = [attacker.attempt(example, dataset="d", seed=1).words_changed for example in label_by(victim)[:8]]
    assert max(changed) <= 2
    assert attacker.effective_name.startswith("pruthi(max_num_word_swaps=2)")


def test_every_packaged_homoglyph_is_read_as_textattack_would():
    table = read_homoglyphs(resources.PACKAGED / "homoglyphs.txt")
    assert table["a"][0] == "а" and len(table) > 40
    assert all(key != glyph and len(glyph) == 1 for key, glyphs in table.items() for glyph in glyphs)
    assert all(key.isascii() and not glyph.isascii() for key, glyphs in table.items() for glyph in glyphs)


def test_stop_words_and_changed_words_stay_out_of_reach(victim, label_by):
    from robustexit.attacks.goal_function import make_goal_function
    from robustexit.attacks.wrapper import VictimWrapper

    goal_function = make_goal_function(VictimWrapper(victim, ("text",), 1), make_goal("deployed"))
    attack = recipes.get("deepwordbug").build(goal_function)
    kept = {type(constraint).__name__ for constraint in attack.pre_transformation_constraints}
    assert kept == {"RepeatModification", "StopwordModification"}
    assert [type(constraint).__name__ for constraint in attack.constraints] == ["LevenshteinEditDistance"]
    assert attack.search_method.goal_function is goal_function
    result = Attacker(victim, "deepwordbug", "final").attempt(label_by(victim)[0], dataset="d", seed=1)
    assert result.text_attacked["text"].startswith("The ")


@pytest.fixture
def small_textfooler(monkeypatch, stand_in):
    """TextFooler's resources in small: six words with neighbours, all nouns, all sentences alike."""
    import nltk
    import textattack
    from textattack.constraints.semantics.sentence_encoders import UniversalSentenceEncoder

    words = ["film", "movie", "picture", "plot", "story", "tale"]
    vectors = np.array([[1, 0], [0.9, 0.1], [0.8, 0.2], [0, 1], [0.1, 0.9], [0.2, 0.8]], np.float32)
    neighbours = np.array([[i, *(j for j in range(6) if j != i)] for i in range(6)])
    index = {word: i for i, word in enumerate(words)}
    embedding = textattack.shared.WordEmbedding(vectors, index, dict(enumerate(words)), neighbours)
    monkeypatch.setitem(textattack.shared.utils.GLOBAL_OBJECTS, "textattack_counterfitted_GLOVE_embedding", embedding)
    monkeypatch.setattr(nltk, "pos_tag", lambda tokens, **_: [(token, "NOUN") for token in tokens])
    monkeypatch.setattr(UniversalSentenceEncoder, "encode", lambda self, texts: np.ones((len(texts), 4), np.float32))
    for name in ("counter-fitted-vectors", "sentence-encoder", "pos-tagger"):
        stand_in(resources.Resource(name, True, "in the test", None, ""))


@pytest.mark.parametrize("goal", GOALS)
def test_textfooler_is_wired_as_the_others(small_textfooler, victim, label_by, goal):
    texts = ["The film has a plot.", "No story, no film.", "A tale and a picture.", "One movie, one story, one plot."]
    attacker = Attacker(victim, "textfooler", goal)
    assert attacker.effective_name == "textfooler"
    kept = 0
    for example in label_by(victim, texts):
        result = attacker.attempt(example, dataset="d", seed=0)
        assert result.error is None
        kept += result.candidates_kept
        final = victim.trace([result.text_attacked], min_depth=4)[0]
        assert result.goal_met == make_goal(goal).met(seen(final), example.label, seen(final))
    assert kept > 0
