from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks import Limits, make_goal, make_recipe
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.recipes.sets import set_recipe
from robustexit.attacks.searches.exact import BranchAndBound, Exhaustive, exhaustive
from robustexit.attacks.sets import PerturbationSet, make_set, perturbation_sets
from robustexit.attacks.sets.bounds import AdditiveLogits, BoundedVictim, open_text
from robustexit.attacks.sets.optimum import exact_robust_accuracy, score_share, share_of_optimum
from robustexit.attacks.views import VIEWS
from robustexit.data.types import Example
from robustexit.errors import ConfigError, RunError
from robustexit.victims.base import Victim

PREFIXES = ("ab", "bc", "ca")


@dataclass(frozen=True)
class Prefixed(PerturbationSet):
    """Every word may get one of three beginnings, and every two words may be joined."""

    name: ClassVar[str] = "prefixed"
    source: ClassVar[str] = "this test"
    sound_for: ClassVar[tuple[str, ...]] = ()
    why: ClassVar[str] = "not sound"

    def edits_of(self, text):
        from robustexit.attacks.sets.words import word_spans

        spans = word_spans(text)
        for (start, end), (_, after) in zip(spans, [*spans, (0, 0)][1:], strict=True):
            for prefix in PREFIXES:
                yield start, end, prefix + text[start:end]
            if after:
                yield start, after, text[start:after].replace(" ", "-")


@pytest.fixture(autouse=True, scope="module")
def _prefixed():
    perturbation_sets.register("prefixed")(Prefixed)
    yield
    perturbation_sets._members.pop("prefixed")


def recipe(**parameters):
    made = set_recipe("prefixed", citation="c", url="https://example.org", bibtex_key="k")
    return made.with_parameters(**parameters) if parameters else made


def every_score(victim, example, edits, goal="deployed"):
    """Text -> (goal met, score), by asking for every text of the set directly."""
    space = Prefixed(edits=edits).around(example.fields)
    texts = [space.text(choice) for choice in space.choices()]
    made, show = make_goal(goal), VIEWS["scores"].show
    seen = [show(trace, victim.num_exits) for trace in victim.trace(texts, min_depth=made.min_depth(victim.num_exits))]
    scores = [(made.met(s, example.label, seen[0]), float(made.score(s, example.label, seen[0]))) for s in seen]
    return dict(zip([tuple(text.values()) for text in texts], scores, strict=True))


def search_of(attacker):
    return next(iter(attacker._engines.values())).attack.search_method


@pytest.fixture
def examples(label_by, bag):
    def make(victim: Victim, number=8, words=7):
        return [
            replace(e, fields={"text": " ".join(e.fields["text"].split()[:words])}) for e in label_by(victim)[:number]
        ]

    def relabelled(victim: Victim, **sizes):
        kept = make(victim, **sizes)
        return [replace(e, label=t.answer) for e, t in zip(kept, victim.trace([e.fields for e in kept]), strict=True)]

    return relabelled


# exhaustive


@pytest.mark.parametrize("goal", ["deployed", "average", "all-exits", "slowdown-uniform"])
@pytest.mark.parametrize("search", ["exhaustive", "exhaustive-best"])
def test_exhaustive_search_is_exact(bag, examples, goal, search):
    victim = bag(num_exits=3, threshold=0.8, gain=0.6)
    attacker = Attacker(victim, recipe(search=search, edits=2), goal)
    outcomes = set()
    for example in examples(victim):
        result = attacker.attempt(example, dataset="d", seed=0)
        assert result.error is None
        outcomes.add(result.outcome)
        if result.outcome == "skipped":
            continue
        known = every_score(victim, example, 2, goal)
        met, score = known[tuple(result.text_attacked.values())]
        assert result.goal_met == met == any(met for met, _ in known.values()) == (result.outcome == "succeeded")
        found = search_of(attacker)
        if search == "exhaustive-best" or not met:
            assert (met, score) == max(known.values())
            assert found.complete and found.asked == len(known) - 1
        else:
            assert not found.complete or found.asked == len(known) - 1
        assert result.queries == found.asked + 1 and result.candidates == result.candidates_kept == found.asked
    assert "succeeded" in outcomes


def test_fewest_edits_first(bag, examples, monkeypatch):
    monkeypatch.setattr("robustexit.attacks.searches.exact._BATCH", 4)
    victim = bag(gain=0.3)
    attacker = Attacker(victim, recipe(search="exhaustive", edits=2))
    for example in examples(victim):
        result = attacker.attempt(example, dataset="d", seed=0)
        one = any(met for met, _ in every_score(victim, example, 1).values())
        if one and result.outcome == "succeeded":
            assert Prefixed(edits=1).around(example.fields).choice_of(result.text_attacked) is not None
            assert search_of(attacker).asked < len(every_score(victim, example, 2)) - 1


def test_a_set_too_large_is_refused_with_its_size(bag, examples):
    victim = bag()
    example = examples(victim, number=1)[0]
    size = Prefixed(edits=3).around(example.fields).size
    result = Attacker(victim, recipe(search="exhaustive", edits=3, max_texts=100)).attempt(example, dataset="d", seed=0)
    assert result.outcome == "error" and result.queries == 1
    assert f"the set holds {size} texts" in result.error and "more than the 100 allowed" in result.error


def test_a_limit_is_no_proof(bag, examples):
    victim = bag(gain=0.01)
    example = examples(victim, number=1)[0]
    attacker = Attacker(victim, recipe(search="exhaustive"), limits=Limits(queries=5))
    result = attacker.attempt(example, dataset="d", seed=0)
    assert (result.outcome, result.queries) == ("budget", 5) and not search_of(attacker).complete
    limited = Attacker(victim, recipe(search="exhaustive"), limits=Limits(candidates=5))
    assert limited.attempt(example, dataset="d", seed=0).outcome == "budget"


@pytest.mark.parametrize("search", ["exhaustive", "exhaustive-best", "branch-and-bound"])
def test_recipes_without_a_set_are_refused(bag, label_by, search):
    victim = bag()
    attacker = Attacker(victim, make_recipe("deepwordbug", search=search))
    with pytest.raises(ConfigError, match=f"search '{search}' needs a finite set, which GreedyWordSwapWIR"):
        attacker.attempt(label_by(victim)[0], dataset="d", seed=0)


def test_no_heuristic_beats_the_exact_search(bag, examples):
    victim = bag(num_exits=2, gain=0.35)
    kept = examples(victim, number=16, words=16)
    outcomes = {
        search: {
            e.example_id: Attacker(victim, recipe(search=search)).attempt(e, dataset="d", seed=0).outcome for e in kept
        }
        for search in ("own", "random-order", "restore", "exhaustive", "exhaustive-best")
    }
    exact = outcomes["exhaustive"]
    assert exact == outcomes["exhaustive-best"]
    assert {"succeeded", "failed"} <= set(exact.values())
    for search, found in outcomes.items():
        share = share_of_optimum(found, exact)
        hits = sum(outcome == "succeeded" for outcome in found.values())
        assert share.value == hits / sum(outcome == "succeeded" for outcome in exact.values())
        assert search != "exhaustive" or share.value == 1


# branch and bound


class Bounded:
    """A bag of words that can bound its logits: K exits, C classes, sums or means over words."""

    full_depth = False
    fingerprint = "bounded"

    def __init__(self, inner, mean=False):
        self.inner, self.mean = inner, mean
        self.num_exits, self.num_classes = inner.num_exits, inner.num_classes
        self.exit_layers = inner.exit_layers
        empty = np.zeros((inner.num_exits, inner.num_classes))
        bias = empty + np.linspace(-0.3, 0.3, inner.num_classes)
        self.additive = AdditiveLogits(lambda name, word: inner_logits(inner, name, word), bias, mean=mean)

    def trace(self, texts, min_depth=1):
        traces = self.inner.trace(texts, min_depth)
        return [
            self._with(trace, self.additive.logits(text), min_depth) for trace, text in zip(traces, texts, strict=True)
        ]

    def _with(self, trace, logits, min_depth):
        import torch

        logits = logits.astype(np.float32)
        probabilities = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
        sure = np.flatnonzero(probabilities.max(axis=1) >= self.inner.threshold)
        exit_ = int(sure[0]) + 1 if len(sure) else self.num_exits
        depth = max(exit_, min_depth)
        return replace(trace, logits=logits[:depth], exit=exit_, probabilities=probabilities[exit_ - 1], layers=depth)

    def margin_bounds(self, texts, label):
        return self.additive.margin_bounds(texts, label)


def inner_logits(inner, name, word):
    return inner.logits({name: word}).astype(np.float64) * 3


VICTIMS = [
    ("deployed", 1, 2, False),
    ("deployed", 2, 3, True),
    ("final", 2, 2, False),
    ("exit(k=1)", 2, 3, False),
    ("average", 2, 2, True),
    ("all-exits", 2, 3, False),
]


@pytest.mark.parametrize(("goal", "exits", "classes", "mean"), VICTIMS)
def test_branch_and_bound_is_exhaustive_search_with_fewer_texts(bag, examples, goal, exits, classes, mean):
    inner = bag(num_exits=exits, num_classes=classes, threshold=0.7, gain=0.5 if mean else 0.1)
    victim = Bounded(inner, mean)
    assert isinstance(victim, BoundedVictim)
    asked, outcomes = [0, 0], set()
    # Short texts at two edits are nearly all broken, long ones at one edit are not.
    for example, m in [
        *((e, 2) for e in examples(victim, number=3)),
        *((e, 1) for e in examples(victim, number=10, words=20)),
    ]:
        whole, bounded = (
            Attacker(victim, recipe(search=search, edits=m), goal) for search in ("exhaustive", "branch-and-bound")
        )
        one, other = (a.attempt(example, dataset="d", seed=0) for a in (whole, bounded))
        assert one.outcome == other.outcome and other.error is None
        outcomes.add(one.outcome)
        if one.outcome == "skipped":
            continue
        asked[0] += search_of(whole).asked
        asked[1] += search_of(bounded).asked
        assert isinstance(search_of(whole), Exhaustive) and isinstance(search_of(bounded), BranchAndBound)
        known = every_score(victim, example, m, goal)
        assert known[tuple(other.text_attacked.values())][0] == other.goal_met
        if one.outcome == "failed":
            assert search_of(bounded).complete
            best = max(score for _, score in known.values())
            assert known[tuple(other.text_attacked.values())][1] == pytest.approx(best, abs=1e-4)
    assert {"succeeded", "failed"} <= outcomes
    assert asked[1] < asked[0] / 3


@settings(max_examples=80, deadline=None)
@given(
    text=st.lists(st.sampled_from(["so", "dull", "warm.", "a-b", "x/y", "  "]), max_size=5).map(" ".join),
    data=st.data(),
    mean=st.booleans(),
    edits=st.integers(1, 3),
)
def test_bounds_are_admissible(text, data, mean, edits):
    """No completion of any partial choice lies above its bound; the bound of a whole text is the text's own."""
    from hashlib import sha256

    def logits(name, word):
        digest = sha256(f"{name}:{word}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal((2, 3))

    additive = AdditiveLogits(logits, np.array([[0.2, 0.0, -0.1]] * 2), mean=mean)
    space = Prefixed(edits=edits).around({"p": text, "h": "warm so"})
    choices = list(space.choices())
    choice = data.draw(st.sampled_from(choices))
    site = data.draw(st.integers(choice[-1][0] + 1 if choice else 0, len(space.sites)))
    completions = [c for c in choices if c[: len(choice)] == choice and all(s >= site for s, _ in c[len(choice) :])]
    label = data.draw(st.integers(0, 2))
    bound = additive.margin_bounds(open_text(space, choice, site), label)
    margins = [(m := additive.logits(space.text(c))) - m[:, label : label + 1] for c in completions]
    assert (np.max(margins, axis=0) <= bound + 1e-9).all()
    whole = additive.margin_bounds(open_text(space, choice, len(space.sites)), label)
    own = additive.logits(space.text(choice))
    np.testing.assert_allclose(whole, own - own[:, label : label + 1], atol=1e-9)
    if not mean:  # of a sum, each margin's bound is reached
        np.testing.assert_allclose(bound, np.max(margins, axis=0), atol=1e-9)


def test_open_texts_are_the_completions():
    from itertools import product

    space = Prefixed(edits=2).around({"p": "so warm", "h": "a b c"})
    for choice in list(space.choices())[:40]:
        for site in range(choice[-1][0] + 1 if choice else 0, len(space.sites) + 1):
            opened = open_text(space, choice, site)
            made = set()
            for chosen in product(*(product(*segments) for segments in opened.fields.values())):
                if sum(alternative.edits for field in chosen for alternative in field) <= opened.edits:
                    made.add(tuple("".join(alternative.text for alternative in field) for field in chosen))
            expected = {
                tuple(space.text(c).values())
                for c in space.choices()
                if c[: len(choice)] == choice and all(s >= site for s, _ in c[len(choice) :])
            }
            assert made == expected


def test_an_unbounded_run_is_not_bounded(monkeypatch):
    monkeypatch.setattr("robustexit.attacks.sets.bounds._MOST_ALTERNATIVES", 5)
    additive = AdditiveLogits(lambda name, word: np.ones((1, 2)) * len(word), np.zeros((1, 2)))
    space = Prefixed(edits=2).around({"t": "x/y z"})
    assert additive.margin_bounds(open_text(space, (), 0), 0).tolist() == [[0.0, np.inf]]


def test_branch_and_bound_refuses_what_it_cannot_bound(bag, examples):
    inner = bag(num_exits=2)
    victim = Bounded(inner)
    example = examples(victim, number=1)[0]

    def attempt(victim, goal="deployed", **more):
        return Attacker(victim, recipe(search="branch-and-bound"), goal, **more).attempt(example, dataset="d", seed=0)

    with pytest.raises(ConfigError, match=r"bounds its own logits \(margin_bounds\), which BagOfWords does not"):
        attempt(inner)
    with pytest.raises(ConfigError, match="knows no bound for goal 'slowdown-uniform'; expected one of: all-exits"):
        attempt(victim, "slowdown-uniform")
    with pytest.raises(ConfigError, match="bounds scores, which the view 'label' does not show"):
        attempt(victim, view="label")


def test_branch_and_bound_has_a_limit_too(bag, examples):
    class Loose(Bounded):
        def margin_bounds(self, texts, label):
            return np.full((self.num_exits, self.num_classes), np.inf)

    victim = Loose(bag(gain=0.001))
    example = examples(victim, number=1)[0]
    result = Attacker(victim, recipe(search="branch-and-bound", edits=2, max_texts=20)).attempt(
        example, dataset="d", seed=0
    )
    assert "could not rule out 20 texts" in result.error
    attacker = Attacker(victim, recipe(search="branch-and-bound", edits=2))
    result = attacker.attempt(example, dataset="d", seed=0)
    assert search_of(attacker).asked == len(every_score(victim, example, 2)) - 1 and search_of(attacker).complete


# what exact searches say


def test_robust_accuracy_by_hand():
    estimate = exact_robust_accuracy(["failed", "failed", "succeeded", "skipped"])
    assert (estimate.value, estimate.n, estimate.bounds) == (0.5, 4, None)
    assert estimate.low == pytest.approx(0.150, abs=1e-3) and estimate.high == pytest.approx(0.850, abs=1e-3)
    bounded = exact_robust_accuracy(["failed", "succeeded", "budget", "error"])
    assert (bounded.value, bounded.n, bounded.bounds) == (0.5, 2, (0.25, 0.75))


def test_shares_by_hand():
    exact = {"a": "succeeded", "b": "succeeded", "c": "failed", "d": "skipped"}
    assert share_of_optimum({**exact, "b": "failed"}, exact).value == 0.5
    with pytest.raises(RunError, match="'c': the heuristic succeeded, but no text of the set does"):
        share_of_optimum({**exact, "c": "succeeded"}, exact)
    with pytest.raises(RunError, match="the same examples"):
        share_of_optimum({"a": "failed"}, exact)
    assert score_share({"a": 0.2, "b": 0.5}, {"a": 0.4, "b": 0.5}).value == 0.75
    with pytest.raises(RunError, match="above 0"):
        score_share({"a": 0.0}, {"a": 0.0})


def test_exact_searches_are_for_every_view():
    assert not recipe(search="exhaustive").weak_under(VIEWS["label"], make_goal("deployed"))
    assert recipe().weak_under(VIEWS["label"], make_goal("deployed"))
    with pytest.raises(ConfigError, match="needs a finite set"):
        exhaustive(object())


def test_pairs_keep_their_protected_field(bag):
    victim = bag(num_exits=2, gain=0.3)
    fields = {"premise": "so dull and slow", "hypothesis": "a warm film"}
    label = victim.trace([fields])[0].answer
    attacker = Attacker(victim, recipe(search="exhaustive-best", edits=2))
    result = attacker.attempt(Example("p", fields, label), dataset="d", seed=0, protected_fields=("premise",))
    assert result.error is None and result.text_attacked["premise"] == fields["premise"]
    assert search_of(attacker).asked == Prefixed(edits=2).around(fields, ("premise",)).size - 1


def test_make_set_finds_registered_sets():
    assert make_set("prefixed", edits=2) == Prefixed(edits=2)
