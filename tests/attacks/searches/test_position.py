from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from robustexit.attacks import Limits, get_view, make_goal, make_recipe
from robustexit.attacks.attempt import Attacker, seed_everything
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.searches.counting import CountingAttack
from robustexit.attacks.searches.position import PositionSearch
from robustexit.attacks.textattack_api import RepeatModification, WordSwap
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.data.types import Example
from robustexit.errors import ConfigError
from robustexit.victims.base import Trace

LABEL_EXIT, SCORES = "label+exit", "scores"
REVIEW = "Harmless little story wonderful actors splendid music"


class Late:
    """Leaves at the exit a rule on the words says; answers 0, or as a second rule says."""

    num_classes, full_depth, fingerprint = 2, False, "late"

    def __init__(self, exit_, num_exits=6, answer=lambda words: 0, margin=lambda words, exit_: 1.0):
        self.exit, self.answer, self.margin, self.num_exits = exit_, answer, margin, num_exits
        self.exit_layers = tuple(range(1, num_exits + 1))
        self.asked = []

    def trace(self, texts, min_depth=1):
        self.asked += [text["text"] for text in texts]
        return [self._trace(text["text"].split()) for text in texts]

    def _trace(self, words):
        exit_, answer = self.exit(words), self.answer(words)
        margins = [self.margin(words, i + 1) for i in range(max(exit_, 1))]
        logits = np.array([[m, 0] if answer == 0 else [0, m] for m in margins], np.float32)
        probabilities = np.exp(logits[-1]) / np.exp(logits[-1]).sum()
        return Trace(logits, exit_, probabilities, tokens=len(words), macs=exit_, full_macs=6, layers=exit_)


def changed(before, after):
    return [old for old, new in zip(before.split(), after.split(), strict=True) if old != new]


def later_without(**weights):
    """One exit deeper for each unit of weight of the words that are gone."""
    return lambda words: min(1 + sum(weight for word, weight in weights.items() if word not in words), 6)


def position(recipe="deepwordbug"):
    return make_recipe(recipe, search="position")


@pytest.mark.parametrize("view", [LABEL_EXIT, SCORES])
def test_the_words_that_move_the_exit_most_go_first(view):
    victim = Late(later_without(wonderful=3, music=2, little=1))
    result = Attacker(victim, position(), "slowdown-position", view=view).attempt(
        Example("r", {"text": REVIEW}, 0), dataset="d", seed=0
    )
    assert result.outcome == "succeeded"
    assert changed(REVIEW, result.text_attacked["text"]) == ["wonderful", "music"]
    first, ranking, substitutes = victim.asked[0], [text.strip() for text in victim.asked[1:8]], victim.asked[8:]
    assert first == REVIEW
    assert sorted(ranking) == sorted(" ".join(w for w in REVIEW.split() if w != out) for out in REVIEW.split())
    words = [changed(REVIEW, text) for text in substitutes]
    assert {tuple(found) for found in words} == {("wonderful",), ("wonderful", "music")}
    assert words == sorted(words, key=len)


@pytest.mark.parametrize("goal", ["slowdown-position", "slowdown-position(target_exit=3)"])
def test_success_is_the_target_exit(bag, label_by, goal):
    victim = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    for recipe in (position(), make_recipe("slowbert")):
        attacker = Attacker(victim, recipe, goal, view=LABEL_EXIT)
        outcomes = set()
        for example in label_by(victim)[:12]:
            result = attacker.attempt(example, dataset="d", seed=1)
            before, after = (trace.exit for trace in victim.trace([example.fields, result.text_attacked]))
            assert (
                (after >= (3 if "3" in goal else 4)) == result.goal_met == (result.outcome in {"succeeded", "skipped"})
            )
            assert after >= before
            outcomes.add(result.outcome)
        assert "succeeded" in outcomes


def at_random(words):
    """An exit of its own for nearly every text."""
    return 1 + int.from_bytes(hashlib.sha256(" ".join(words).encode()).digest()[:4], "big") % 997


def test_scores_change_nothing_where_exits_do_not_tie(sentences):
    victim = Late(at_random, num_exits=1000)
    recipe = position()
    blind, seeing = (Attacker(victim, recipe, "slowdown-position", view=view) for view in (LABEL_EXIT, SCORES))
    later = 0
    for i, text in enumerate(sentences[:6]):
        example = Example(f"s{i}", {"text": text}, 0)
        one, other = (replace(a.attempt(example, dataset="d", seed=0), seconds=0) for a in (blind, seeing))
        assert one == other
        start, final = victim.trace([example.fields, one.text_attacked])
        later += final.exit > start.exit
    assert later == 6


def test_scores_are_not_read_where_only_exits_are_seen(sentences):
    honest = Late(lambda words: 1 + len(" ".join(words)) % 5)
    misleading = Late(honest.exit, margin=lambda words, exit_: (at_random(words) % 7) * exit_)
    for i, text in enumerate(sentences[:6]):
        example = Example(f"s{i}", {"text": text}, 0)
        results = [
            Attacker(victim, position(), "slowdown-position", view=LABEL_EXIT).attempt(example, dataset="d", seed=0)
            for victim in (honest, misleading)
        ]
        assert replace(results[0], seconds=0) == replace(results[1], seconds=0)
    assert honest.asked == misleading.asked


def attack_on(victim, transformation, search, goal="slowdown-position", view=LABEL_EXIT):
    function = make_goal_function(VictimWrapper(victim, ("text",), 1), make_goal(goal), view=get_view(view))
    return CountingAttack(function, [RepeatModification()], transformation, search)


class Options(WordSwap):
    def __init__(self, **options):
        super().__init__()
        self.options = options

    def _get_replacement_words(self, word):
        return self.options.get(word, [])


def run(victim, options, seed=0, **settings):
    seed_everything(seed)
    attack = attack_on(victim, Options(**options), PositionSearch(), **settings)
    return attack.attack("one two three", 0).perturbed_result.attacked_text.text


def test_ties_go_to_uniform_scores_then_to_fewer_edits_then_to_the_seed():
    options = {"one": ["oney", "onexxx", "onez"]}
    exits = lambda words: 1 if "one" in words else 3  # noqa: E731
    unsure = Late(exits, margin=lambda words, exit_: 0.0 if "onexxx" in words else 3.0)
    assert {run(unsure, options, seed, view=SCORES) for seed in range(8)} == {"onexxx two three"}
    assert {run(unsure, options, seed) for seed in range(8)} == {"oney two three", "onez two three"}
    assert run(unsure, options, 1) == run(unsure, options, 1)


def test_a_word_is_left_alone_where_its_change_moves_nothing_or_the_wrong_way():
    options = {"one": ["oney"], "two": ["twoy"], "three": ["threey"]}
    victim = Late(lambda words: 3 + ("threey" in words) - ("twoy" in words))
    assert run(victim, options) == "one two threey"


def test_a_later_exit_does_not_make_up_for_a_lost_answer():
    options = {"one": ["oney", "onez"], "two": ["twoy"]}
    victim = Late(
        lambda words: 1 + 4 * ("oney" in words) + 2 * ("onez" in words) + 3 * ("twoy" in words),
        answer=lambda words: int("oney" in words),
    )
    assert run(victim, options, goal="slowdown-position") == "oney twoy three"
    assert run(victim, options, goal="slowdown-position & keep-answer") == "onez twoy three"


def test_the_latest_exit_is_kept_where_the_goal_is_not_reached():
    options = {"one": ["oney"], "two": ["twoy"], "three": ["threey"]}
    victim = Late(lambda words: 1 + ("oney" in words) + ("twoy" in words) - ("threey" in words))
    assert run(victim, options) == "oney twoy three"


def test_words_behind_a_split_one_are_still_found():
    options = {"one": ["o ne"], "two": ["t wo"], "three": ["th ree"]}
    victim = Late(lambda words: len(words) - 2, num_exits=4)
    assert run(victim, options) == "o ne t wo th ree"


def test_goals_that_are_not_after_the_savings_go_by_their_score(bag, label_by):
    victim = bag(num_exits=3, num_classes=2, threshold=0.9, gain=0.3)
    attacker = Attacker(victim, position(), "deployed")
    flips = 0
    for example in label_by(victim):
        result = attacker.attempt(example, dataset="d", seed=0)
        start, final = victim.trace([example.fields, result.text_attacked])
        assert final.probabilities[example.label] <= start.probabilities[example.label]
        assert (final.answer != example.label) == (result.outcome == "succeeded")
        flips += result.outcome == "succeeded"
    assert flips > 12


def test_a_budget_ends_it_with_the_latest_exit_so_far():
    victim = Late(later_without(wonderful=3, music=2, little=1))
    attacker = Attacker(victim, position(), "slowdown-position", view=LABEL_EXIT)
    exits = []
    for queries in range(1, 20):
        result = attacker.attempt(
            Example("r", {"text": REVIEW}, 0), dataset="d", seed=0, limits=Limits(queries=queries)
        )
        assert result.queries <= queries
        assert result.outcome == ("succeeded" if victim.exit(result.text_attacked["text"].split()) == 6 else "budget")
        exits.append(victim.exit(result.text_attacked["text"].split()))
    assert exits == sorted(exits)
    assert (exits[0], exits[-1]) == (1, 6)


def test_goals_that_need_the_exit_are_refused_where_it_is_not_seen():
    with pytest.raises(ConfigError, match="needs the exit, which the view 'label' does not show"):
        Attacker(Late(later_without(music=2)), position(), "slowdown-position", view="label")


def test_transformations_that_do_not_go_word_by_word_are_refused(bag):
    attacker = Attacker(bag(num_exits=3), position("bad-characters-invisible"), "slowdown-position", view=LABEL_EXIT)
    with pytest.raises(ConfigError, match=r"search 'position' goes word by word: .* got one with FieldwiseEvolution"):
        attacker.attempt(Example("r", {"text": REVIEW}, 0), dataset="d", seed=0)
