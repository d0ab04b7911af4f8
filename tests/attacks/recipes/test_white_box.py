"""A2T, HotFlip and SAME end to end on a tiny multi-exit BERT: every goal, every kind of policy, stand-in resources."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from robustexit.attacks import Limits, make_goal, make_recipe, resources
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.components import install
from robustexit.attacks.recipes import check_combination, describe_recipes, recipes
from robustexit.attacks.searches.gradient_beam import GradientBeam
from robustexit.attacks.textattack_api import GoalFunctionResultStatus
from robustexit.attacks.views import VIEWS, get_view
from robustexit.data.types import Example, TextDataset
from robustexit.errors import ConfigError
from robustexit.exits import make_policy
from robustexit.victims.custom import FunctionVictim
from robustexit.victims.fitting import fit_and_save
from robustexit.victims.live import LiveVictim
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

GOALS = ["deployed", "average", "slowdown-uniform", "slowdown & keep-answer", "slowdown-disagree"]
POLICIES = ["entropy", "patience", "fixed", "learning-to-exit"]
RECIPES = ["a2t", "hotflip", "same", "same-characters"]
# Every pair of a recipe, a policy and a goal.
COVER = [
    (name, POLICIES[(i + j) % len(POLICIES)], goal) for i, name in enumerate(RECIPES) for j, goal in enumerate(GOALS)
]
TEXTS = [
    "The film was a good story, with great cast!",
    "No heart in this plot (yet): a slow, dull end.",
    "One movie, one actor and much noise; it never ends.",
    "The picture and the tale move fine but jokes fall flat",
    "A warm and funny tale",
]
STAND_INS = ("counter-fitted-vectors", "sbert-encoder", "pos-tagger")


@pytest.fixture(scope="module")
def deployed(worded, tmp_path_factory):
    loaded = worded().loaded
    found = DeployedModel(loaded, modules=tmp_path_factory.mktemp("modules"))
    examples = tuple(Example(str(i), {"text": text}, i % 2) for i, text in enumerate(TEXTS * 6))
    data = TextDataset("d", examples, ("negative", "positive"), "made up")
    fit_and_save(found, "learning-to-exit", data, collect_outputs(found, data), settings={"epochs": 2})
    return found


def a_policy(deployed, name):
    """A policy under which these texts leave at several exits."""
    if name != "learning-to-exit":
        return make_policy(name, **{"entropy": {"t": 0.45}, "patience": {"t": 1}}.get(name, {}))
    traces = ModelVictim(deployed, make_policy(name, t=0.0)).trace([{"text": text} for text in TEXTS], 4)
    return make_policy(name, t=float(np.median([trace.scalars["uncertainty"][:2] for trace in traces])))


@pytest.fixture
def small(monkeypatch, stand_in):
    """A2T's and HotFlip's resources in small: words with neighbours, all nouns, all sentences alike."""
    import nltk
    import textattack
    from textattack.constraints.semantics.sentence_encoders import SBERT, SentenceEncoder

    words = ["film", "movie", "picture", "plot", "story", "tale", "good", "great", "fine", "slow", "dull", "bad", "end"]
    angles = np.linspace(0, 0.5, len(words))
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    neighbours = np.array([[i, *(j for j in range(len(words)) if j != i)] for i in range(len(words))])
    index = {word: i for i, word in enumerate(words)}
    embedding = textattack.shared.WordEmbedding(vectors, index, dict(enumerate(words)), neighbours)
    monkeypatch.setitem(textattack.shared.utils.GLOBAL_OBJECTS, "textattack_counterfitted_GLOVE_embedding", embedding)
    monkeypatch.setattr(nltk, "pos_tag", lambda tokens, **_: [(token, "NOUN") for token in tokens])
    monkeypatch.setattr(
        SBERT, "__init__", lambda self, threshold, metric, model_name: SentenceEncoder.__init__(self, threshold, metric)
    )
    monkeypatch.setattr(SBERT, "encode", lambda self, texts: np.ones((len(texts), 4), np.float32))
    with install.prepared(()):
        pass  # every route is registered before those of the stand-ins are closed
    for name in STAND_INS:
        stand_in(resources.Resource(name, True, "in the test", None, ""))
        monkeypatch.setitem(install._routes, name, nullcontext)


def quick(name):
    """The recipe with few candidates, to spare time."""
    recipe = recipes.get(name)
    few = {"top_n": 12, "beam_width": 2, "per_size": 3} if name.startswith("same") else {}
    return recipe.with_parameters(**{**few, **({"top_n": 40} if name == "hotflip" else {})})


def seen(trace, num_exits=4):
    return VIEWS["gradients"].show(trace, num_exits)


def labelled(victim, texts=TEXTS):
    return [Example(f"s{i}", {"text": text}, victim.trace([{"text": text}])[0].answer) for i, text in enumerate(texts)]


@pytest.mark.parametrize(("name", "policy", "goal"), COVER)
def test_success_is_what_the_goal_says(small, deployed, name, policy, goal):
    victim = ModelVictim(deployed, a_policy(deployed, policy))
    if policy == "fixed" and goal.startswith("slowdown"):
        with pytest.raises(ConfigError, match="nothing to slow down"):
            Attacker(victim, quick(name), goal, view="gradients")
        return
    attacker = Attacker(victim, quick(name), goal, view="gradients")
    kept = 0
    for example in labelled(victim)[:3]:
        result = attacker.attempt(example, dataset="d", seed=1)
        assert result.error is None
        kept += result.candidates_kept
        start, final = victim.trace([example.fields, result.text_attacked], min_depth=4)
        met = make_goal(goal).met(seen(final), example.label, seen(start))
        assert result.goal_met == met == (result.outcome in {"succeeded", "skipped"})
        if result.outcome == "skipped":
            assert result.text_attacked == example.fields and result.queries == 1
        else:
            assert result.forwards > 1  # the original, and at least the gradient there
            assert result.forwards <= result.layer_forwards <= 4 * result.forwards
    assert kept > 0


def test_the_attacks_do_break_things(small, deployed):
    victim = ModelVictim(deployed, make_policy("entropy", t=0.45))
    broken = {}
    for name in RECIPES:
        for goal in ("deployed", "slowdown-disagree"):
            attacker = Attacker(victim, quick(name), goal, view="gradients")
            outcomes = [attacker.attempt(example, dataset="d", seed=1).outcome for example in labelled(victim)]
            broken[name, goal] = outcomes.count("succeeded")
    assert broken["same", "deployed"] > 0 and broken["same", "slowdown-disagree"] > 0
    assert broken["same-characters", "deployed"] > 0
    assert broken["a2t", "deployed"] + broken["hotflip", "deployed"] > 0


@pytest.mark.parametrize("name", ["same", "same-characters"])
def test_attempts_do_not_depend_on_what_came_before(deployed, name):
    victim = ModelVictim(deployed, make_policy("entropy", t=0.45))
    attacker, examples = Attacker(victim, quick(name), "slowdown-disagree", view="gradients"), labelled(victim)
    forth = [attacker.attempt(example, dataset="d", seed=3) for example in examples]
    back = [attacker.attempt(example, dataset="d", seed=3) for example in reversed(examples)]
    fresh = Attacker(victim, quick(name), "slowdown-disagree", view="gradients")
    alone = [fresh.attempt(example, dataset="d", seed=3) for example in examples[2:3]]
    timeless = [[replace(result, seconds=0) for result in results] for results in (forth, back[::-1], alone)]
    assert timeless[0] == timeless[1]
    assert timeless[2][0] == timeless[0][2]
    assert all(parameter.grad is None for parameter in deployed.model.parameters())


@pytest.mark.parametrize("name", ["same", "same-characters"])
@pytest.mark.parametrize("protected", ["first", "second"])
def test_pairs_keep_their_protected_field(deployed, name, protected):
    victim = ModelVictim(deployed, make_policy("patience", t=1))
    fields = {"first": "A good film, a great cast!", "second": "The story was slow and dull."}
    label = victim.trace([fields])[0].answer
    attacker = Attacker(victim, quick(name), "average", view="gradients")
    result = attacker.attempt(Example("p", fields, label), dataset="d", seed=2, protected_fields=(protected,))
    assert result.error is None and result.candidates_kept > 0
    assert result.text_attacked[protected] == fields[protected]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("text", ["", "a", "!", "the of and", "??? ... ---", "中文 句子", "x" * 300, "good film " * 80])
def test_odd_texts_are_no_errors(small, deployed, name, text):
    victim = ModelVictim(deployed, make_policy("entropy", t=0.45))
    label = victim.trace([{"text": text}])[0].answer
    limits = Limits(queries=60)
    attacker = Attacker(victim, quick(name), "average", view="gradients", limits=limits)
    assert attacker.attempt(Example("odd", {"text": text}, label), dataset="d", seed=0).error is None


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("name", ["same", "same-characters"])
def test_other_tokenizers(worded, kind, name):
    victim = ModelVictim(worded(kind), make_policy("entropy", t=0.45))
    attacker = Attacker(victim, quick(name), "average", view="gradients")
    results = [attacker.attempt(example, dataset="d", seed=1) for example in labelled(victim)]
    assert not any(result.error for result in results)
    assert sum(result.words_changed for result in results) > 0
    for result, text in zip(results, TEXTS, strict=True):
        assert not set(result.text_attacked["text"]) & set("Ġ▁#[") - set(text)


def test_a_plain_classifier(small, worded):
    victim = ModelVictim(worded(plain=True))
    for name in RECIPES:
        attacker = Attacker(victim, quick(name), "deployed", view="gradients")
        results = [attacker.attempt(example, dataset="d", seed=1) for example in labelled(victim)]
        assert not any(result.error for result in results)


def test_a_learning_victim(deployed):
    results = []
    for _ in range(2):
        victim = LiveVictim(deployed, make_policy("uee-ucb", evaluation="live", seed=0))
        attacker = Attacker(victim, quick("same"), "average", view="gradients")
        example = Example("s", {"text": TEXTS[0]}, victim.peek([{"text": TEXTS[0]}])[0].answer)
        results.append(attacker.attempt(example, dataset="d", seed=1))
    assert results[0].error is None
    assert replace(results[0], seconds=0) == replace(results[1], seconds=0)


def test_same_changes_three_words_or_a_tenth(deployed):
    victim = ModelVictim(deployed, make_policy("entropy", t=0.45))
    goal = make_goal("exit", k=4)
    for rate, most in ((0.1, 3), (0.5, 5)):
        recipe = make_recipe("same", modification_rate=rate, top_n=10, beam_width=2)
        attacker = Attacker(victim, recipe, goal, view="gradients")
        changed = [attacker.attempt(example, dataset="d", seed=1).words_changed for example in labelled(victim)]
        assert 0 < max(changed) <= most
    with pytest.raises(ConfigError, match=r"share of at most 1, got 1\.5"):
        Attacker(victim, make_recipe("same", modification_rate=1.5), goal, view="gradients").attempt(
            labelled(victim)[0], dataset="d", seed=1
        )


def test_hotflip_proposes_one_swap_at_a_time_as_stock(small, deployed):
    victim = ModelVictim(deployed, make_policy("fixed"))
    counts = []
    for recipe in (recipes.get("hotflip"), make_recipe("hotflip", top_n=30)):
        attacker = Attacker(victim, recipe, "deployed", view="gradients")
        counts.append([attacker.attempt(example, dataset="d", seed=1).candidates for example in labelled(victim)])
    assert max(counts[0]) <= 3 < max(counts[1])  # a round each, of which the third is one word too many
    assert make_recipe("hotflip", top_n=30).label == "hotflip(top_n=30)"


def test_a_query_budget_ends_the_attempt(deployed):
    victim = ModelVictim(deployed, make_policy("entropy", t=0.45))
    attacker = Attacker(victim, quick("same"), "slowdown-disagree", view="gradients", limits=Limits(queries=5))
    results = [attacker.attempt(example, dataset="d", seed=1) for example in labelled(victim)]
    assert {result.outcome for result in results} >= {"budget"}
    assert max(result.queries for result in results) <= 5


def test_combinations_that_cannot_work_are_refused(deployed):
    victim = ModelVictim(deployed, make_policy("entropy", t=0.45))
    with pytest.raises(ConfigError, match="'same' needs gradients; attack in the view 'gradients'"):
        Attacker(victim, "same", "deployed")
    with pytest.raises(ConfigError, match="the control for searches that rank words, which GradientBeam does not"):
        attacker = Attacker(victim, make_recipe("same", search="random-order"), "deployed", view="gradients")
        attacker.attempt(labelled(victim)[0], dataset="d", seed=1)
    function = FunctionVictim(lambda found: np.zeros((len(found), 2)), num_classes=2)
    with pytest.raises(ConfigError, match="which a FunctionVictim does not show"):
        Attacker(function, "same", "deployed", view="gradients").attempt(
            Example("s", {"text": TEXTS[0]}, 0), dataset="d", seed=1
        )
    for name in RECIPES:
        recipe = recipes.get(name)
        check_combination(recipe, make_goal("slowdown-disagree"), get_view("gradients"))
        assert recipe.white_box and recipe.made_for == {"gradients"}


def test_a2t_in_random_order_is_its_control(small, deployed):
    victim = ModelVictim(deployed, make_policy("entropy", t=0.45))
    control = make_recipe("a2t", search="random-order")
    results = [
        Attacker(victim, control, "average", view="gradients").attempt(example, dataset="d", seed=1)
        for example in labelled(victim)
    ]
    assert {result.error for result in results} == {None}
    assert all(result.forwards <= result.queries for result in results)  # no gradient taken


def test_own_recipes_are_described():
    described = describe_recipes([recipes.get("same")])["same"]
    assert described["textattack_class"] == "" and described["bibtex_key"] == "chen2023dynamic"
    assert described["settings"] == {"top_n": 100, "beam_width": 5, "per_size": 10, "modification_rate": 0.1}


class Text(str):
    """A text as the beam sees it."""

    @property
    def tokenizer_input(self):
        return str(self)


def beam_over(scores, children, done=(), **kwargs):
    """Run the beam over texts whose scores and proposals are given; returns the best text and what was asked."""
    asked = []

    def result(text):
        status = GoalFunctionResultStatus.SUCCEEDED if text in done else GoalFunctionResultStatus.SEARCHING
        return SimpleNamespace(attacked_text=Text(text), score=scores[text], goal_status=status)

    search = GradientBeam(**kwargs)
    model = SimpleNamespace(learns=False, gradients=lambda texts: None)
    search.goal_function = SimpleNamespace(model=model)
    search.get_transformations = lambda text, original_text: [Text(child) for child in children.get(text, "")]
    search.get_goal_results = lambda texts: (asked.append([str(t) for t in texts]), [result(t) for t in texts], False)[
        1:
    ]
    return str(search.perform_search(result("o")).attacked_text), asked


def test_the_beam_without_its_published_defects():
    children = {"o": "ab", "a": "cd", "b": "de", "c": "", "d": "f", "e": "", "f": ""}
    scores = {"o": 0.1, "a": 0.5, "b": 0.4, "c": 0.2, "d": 0.3, "e": 0.1, "f": 0.2}
    best, asked = beam_over(scores, children, beam_width=2, per_size=9)
    assert best == "a"  # not the last round's best
    assert asked == [["a", "b"], ["c", "d", "e"], ["f"]]  # d, which a and b share, once
    best, asked = beam_over(scores, children, done="e", beam_width=2, per_size=9)
    assert (best, len(asked)) == ("e", 2)  # a met goal beats any score, and ends it
    assert beam_over(scores, children, beam_width=1, per_size=9)[1] == [["a", "b"], ["c", "d"], ["f"]]
    assert beam_over(scores, children, beam_width=2, per_size=1)[1] == [["a", "b"]]
    worse = {**scores, "a": 0.05, "b": 0.01}
    assert beam_over(worse, children, beam_width=2, per_size=1)[0] == "o"
