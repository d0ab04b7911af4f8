"""Attempts made of several: max-average over exits, and the worst case over a set of attacks."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks import Limits, make_goal, make_recipe
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.ensembles import (
    MaxAverageAttacker,
    Member,
    WorstCaseAttacker,
    cheapest_first,
    make_attacker,
)
from robustexit.attacks.goals.answers import Average
from robustexit.attacks.views import VIEWS
from robustexit.data.types import Example
from robustexit.errors import ConfigError


def average_score(victim, label, text):
    trace = victim.trace([text], min_depth=victim.num_exits)[0]
    seen = VIEWS["scores"].show(trace, victim.num_exits)
    return float(Average().score(seen, label, seen))


@pytest.fixture
def victim(bag):
    return bag(num_exits=3, num_classes=2, threshold=0.8, gain=0.4)


def test_max_average_keeps_the_best_of_one_attack_for_each_exit(victim, label_by):
    together = make_attacker(victim, "deepwordbug", "max-average")
    assert isinstance(together, MaxAverageAttacker)
    outcomes = set()
    for example in label_by(victim)[:8]:
        result = together.attempt(example, dataset="d", seed=3)
        each = [
            Attacker(victim, "deepwordbug", make_goal("exit", k=k)).attempt(example, dataset="d", seed=3)
            for k in (1, 2, 3)
        ]
        scores = [average_score(victim, example.label, one.text_attacked) for one in each]
        assert result.text_attacked == each[scores.index(max(scores))].text_attacked
        assert result.queries == sum(one.queries for one in each)
        assert result.forwards == sum(one.forwards for one in each)
        final = victim.trace([result.text_attacked])[0]
        assert result.goal_met == (final.answer != example.label) == (result.outcome == "succeeded")
        outcomes.add(result.outcome)
    assert outcomes == {"succeeded", "failed"} or outcomes == {"succeeded"}


def test_max_average_skips_what_is_wrong_already(victim, label_by):
    example = label_by(victim)[0]
    wrong = replace(example, label=1 - example.label)
    result = make_attacker(victim, "pruthi", "max-average").attempt(wrong, dataset="d", seed=0)
    assert (result.outcome, result.queries, result.text_attacked) == ("skipped", 1, example.fields)


def test_limits_hold_for_all_exits_together(victim, label_by):
    attacker = make_attacker(victim, "pruthi", "max-average", limits=Limits(queries=7))
    results = [attacker.attempt(example, dataset="d", seed=0) for example in label_by(victim)[:6]]
    assert all(result.queries <= 7 for result in results)
    assert "budget" in {result.outcome for result in results}


MEMBERS = [
    Member(make_recipe("bad-characters-deletions", popsize=4, maxiter=1), make_goal("deployed")),
    Member(make_recipe("deepwordbug"), make_goal("final")),
    Member(make_recipe("pruthi"), make_goal("deployed")),
]


def test_the_cheapest_come_first():
    assert [member.recipe.name for member in cheapest_first(MEMBERS)] == [
        "deepwordbug",
        "pruthi",
        "bad-characters-deletions",
    ]


def test_a_worst_case_stops_at_the_first_attack_that_breaks_the_answer(victim, label_by):
    together = WorstCaseAttacker(victim, "all", MEMBERS)
    assert together.effective_name.startswith("worst-case(all)")
    broken_by = set()
    for example in label_by(victim):
        result = together.attempt(example, dataset="d", seed=1)
        alone = [
            Attacker(victim, member.recipe, member.goal).attempt(example, dataset="d", seed=1)
            for member in cheapest_first(MEMBERS)
        ]
        breaks = [victim.trace([one.text_attacked])[0].answer != example.label for one in alone]
        broken_by.add(result.broken_by)
        if any(breaks):
            first = breaks.index(True)
            assert (result.outcome, result.goal_met) == ("succeeded", True)
            assert result.broken_by == cheapest_first(MEMBERS)[first].label
            assert result.text_attacked == alone[first].text_attacked
            assert result.queries == sum(one.queries for one in alone[: first + 1])
        else:
            assert (result.outcome, result.goal_met, result.broken_by) == ("failed", False, None)
            scores = [1 - victim.trace([one.text_attacked])[0].probabilities[example.label] for one in alone]
            assert result.text_attacked == alone[scores.index(max(scores))].text_attacked
    assert len(broken_by) > 1


def test_a_worst_case_skips_clean_mistakes_and_leaves_out_what_cannot_apply(bag, label_by):
    victim = bag(num_exits=1, gain=0.4)
    members = [*MEMBERS[1:], Member(make_recipe("pruthi"), make_goal("slowdown-uniform"))]
    attacker = WorstCaseAttacker(victim, "w", members)
    example = label_by(victim)[0]
    result = attacker.attempt(replace(example, label=1 - example.label), dataset="d", seed=1)
    assert (result.outcome, result.broken_by) == ("skipped", None)
    with pytest.raises(ConfigError, match="worst case 'w': none of its 1 attacks can apply"):
        WorstCaseAttacker(victim, "w", members[-1:])


class Breaks:
    """A victim that fails when it is asked about a text a second time on its own."""

    def __init__(self, inner):
        self.inner, self.asked = inner, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def trace(self, texts, min_depth=1):
        if len(texts) == 1 and texts[0] != self.original:
            raise ValueError("bad")
        return self.inner.trace(texts, min_depth)


def test_what_goes_wrong_between_members_is_a_row(victim, label_by):
    broken = Breaks(victim)
    example = label_by(victim)[1]
    broken.original = dict(example.fields)
    result = WorstCaseAttacker(broken, "w", MEMBERS[1:]).attempt(example, dataset="d", seed=0)
    assert result.outcome == "error"
    assert result.error == "ValueError: bad"
    assert result.text_attacked == example.fields


@settings(max_examples=15, deadline=None)
@given(label=st.integers(0, 2), words=st.lists(st.sampled_from(["good", "bad", "film", "plot", "dull"]), max_size=6))
def test_any_text_gives_a_row(bag, label, words):
    victim = bag(num_exits=2, num_classes=3, threshold=0.6)
    example = Example("x", {"text": " ".join(words)}, label)
    for attacker in (make_attacker(victim, "pruthi", "max-average"), WorstCaseAttacker(victim, "w", MEMBERS[1:])):
        result = attacker.attempt(example, dataset="d", seed=0)
        assert result.error is None
        met = victim.trace([result.text_attacked])[0].answer != label
        assert (result.outcome in {"succeeded", "skipped"}) == met
