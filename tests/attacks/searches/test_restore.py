from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from robustexit.attacks import Limits, get_view, make_goal, make_recipe, recipes, resources
from robustexit.attacks.attempt import Attacker, seed_everything
from robustexit.attacks.components.homoglyphs import TableHomoglyphs
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.searches import restore
from robustexit.attacks.searches.counting import CountingAttack
from robustexit.attacks.searches.restore import RestoreSearch
from robustexit.attacks.textattack_api import (
    AttackedText,
    CompositeTransformation,
    WordDeletion,
    WordInsertion,
    WordSwap,
    WordSwapRandomCharacterInsertion,
    textattack,
)
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.data.types import Example
from robustexit.errors import ConfigError
from robustexit.victims.base import Trace

READY = ("deepwordbug", "pwws", "slowbert")
READY = [name for name in READY if all(resources.find(need).usable for need in recipes.get(name).needs)]
LABEL, LABEL_EXIT = "label", "label+exit"
REVIEW = "The harmless little story has wonderful actors and splendid music"


class Rule:
    """Answers 1 where a rule on the words holds, else 0; leaves at the exit a second rule says."""

    num_exits, num_classes, exit_layers, full_depth, fingerprint = 3, 2, (1, 2, 3), False, "rule"

    def __init__(self, wrong, exit_=lambda words: 1):
        self.wrong, self.exit, self.asked = wrong, exit_, []

    def trace(self, texts, min_depth=1):
        self.asked += [text["text"] for text in texts]
        return [self._trace(text["text"].split()) for text in texts]

    def _trace(self, words):
        logits = np.tile(np.array([0, 9 if self.wrong(words) else -9], np.float32), (3, 1))
        probabilities = np.array([0, 1] if self.wrong(words) else [1, 0], np.float32)
        return Trace(logits, self.exit(words), probabilities, tokens=len(words), macs=1, full_macs=3, layers=3)


def changed(before, after):
    before, after = before.split(), after.split()
    assert len(before) == len(after)
    return [old for old, new in zip(before, after, strict=True) if old != new]


def restoring(recipe, **parameters):
    return make_recipe(recipe, search="restore", **parameters)


@pytest.fixture
def victim(bag):
    return bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)


@pytest.mark.parametrize("recipe", READY)
@pytest.mark.parametrize(
    ("view", "goal"),
    [
        (LABEL, "deployed"),
        (LABEL_EXIT, "slowdown-position"),
        (LABEL_EXIT, "slowdown-position(target_exit=2) & keep-answer"),
        (LABEL_EXIT, "flip & exit<=2"),
        ("scores", "silent-slowdown"),
    ],
)
def test_success_is_what_the_goal_says(bag, label_by, recipe, view, goal):
    victim = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.8 if "target" in goal else 0.3)
    attacker = Attacker(victim, restoring(recipe), goal, view=view, limits=Limits(queries=100))
    outcomes = set()
    for example in label_by(victim)[:6]:
        result = attacker.attempt(example, dataset="d", seed=1)
        assert result.error is None
        start, final = (get_view("scores").show(t, 4) for t in victim.trace([example.fields, result.text_attacked], 4))
        met = make_goal(goal).met(final, example.label, start)
        assert result.goal_met == met
        if result.outcome != "skipped":
            assert met == (result.outcome == "succeeded")
        outcomes.add(result.outcome)
    assert "succeeded" in outcomes


@pytest.mark.parametrize("needed", [{"wonderful"}, {"harmless", "music"}, {"little", "actors", "splendid"}])
def test_only_the_words_that_matter_stay_changed(needed):
    victim = Rule(lambda words: not needed & set(words))
    attacker = Attacker(victim, restoring("deepwordbug"), view=LABEL)
    most = 0
    for seed in range(5):
        victim.asked.clear()
        result = attacker.attempt(Example("r", {"text": REVIEW}, 0), dataset="d", seed=seed)
        assert result.outcome == "succeeded"
        assert set(changed(REVIEW, result.text_attacked["text"])) == needed
        assert result.words_changed == len(needed)
        most = max([most, *(len(changed(REVIEW, text)) for text in victim.asked)])
    assert most > len(needed)  # so that something was put back


@pytest.mark.parametrize("view", [LABEL, "scores"])
@pytest.mark.parametrize("seed", range(3))
def test_no_changed_word_of_the_final_text_can_be_spared(victim, label_by, view, seed):
    attacker = Attacker(victim, restoring("deepwordbug"), view=view)
    for example in label_by(victim):
        result = attacker.attempt(example, dataset="d", seed=seed)
        assert result.outcome == "succeeded"
        before, after = (text["text"].split() for text in (example.fields, result.text_attacked))
        for i, word in enumerate(before):
            if after[i] != word:
                text = " ".join([*after[:i], word, *after[i + 1 :]])
                assert victim.trace([{"text": text}])[0].answer == example.label


def test_no_text_is_asked_twice(victim, label_by):
    attacker = Attacker(victim, restoring("deepwordbug"), view=LABEL)
    for example in label_by(victim):
        result = attacker.attempt(example, dataset="d", seed=2)
        assert result.queries == result.forwards  # those that TextAttack counts, and the distinct texts


def test_it_flips_more_than_the_greedy_recipe_where_only_answers_are_seen(bag, label_by):
    victim = bag(num_exits=6, num_classes=2, threshold=0.8, gain=0.3)
    flips = {}
    for search in ("own", "restore"):
        attacker = Attacker(victim, make_recipe("deepwordbug", search=search), view=LABEL)
        results = [attacker.attempt(example, dataset="d", seed=s) for s in (0, 1) for example in label_by(victim)]
        flips[search] = sum(result.outcome == "succeeded" for result in results)
    assert flips["restore"] >= flips["own"] + 5


def test_a_budget_keeps_the_fewest_changes_found_so_far():
    needed = {"wonderful"}
    victim = Rule(lambda words: not needed & set(words))
    attacker = Attacker(victim, restoring("deepwordbug"), view=LABEL)
    example = Example("r", {"text": REVIEW}, 0)
    seed = next(s for s in range(50) if _first_flip(attacker, victim, example, s) > 4)
    outcomes, words = [], []
    for queries in range(1, 40):
        result = attacker.attempt(example, dataset="d", seed=seed, limits=Limits(queries=queries))
        assert result.queries <= queries
        outcomes.append(result.outcome)
        if result.outcome == "succeeded":
            words.append(result.words_changed)
    assert outcomes == sorted(outcomes)  # budget until the first flip, succeeded from there on
    assert set(outcomes) == {"budget", "succeeded"}
    assert words == sorted(words, reverse=True)
    assert (words[0] > 4, words[-1]) == (True, 1)


def _first_flip(attacker, victim, example, seed):
    """Words changed in the first text with a wrong answer."""
    victim.asked.clear()
    attacker.attempt(example, dataset="d", seed=seed)
    return next(len(changed(REVIEW, text)) for text in victim.asked if victim.wrong(text.split()))


def test_a_victim_that_never_gives_way_is_left_as_it_was(bag):
    victim = Rule(lambda words: False)
    result = Attacker(victim, restoring("pruthi"), view=LABEL).attempt(
        Example("r", {"text": "Fine music."}, 0), dataset="d", seed=0
    )
    assert (result.outcome, result.text_attacked, result.words_changed) == ("failed", {"text": "Fine music."}, 0)


def test_the_best_score_is_kept_where_scores_are_seen_and_the_goal_is_not_met(bag, label_by):
    victim = bag(num_exits=2, num_classes=2, threshold=0.8, gain=0.05)
    attacker = Attacker(victim, restoring("deepwordbug"), "all-exits", view="scores", limits=Limits(queries=20))
    failed = 0
    for example in label_by(victim)[:6]:
        result = attacker.attempt(example, dataset="d", seed=0)
        start, final = (
            get_view("scores").show(t, 2) for t in victim.trace([example.fields, result.text_attacked], min_depth=2)
        )
        if result.outcome == "budget":
            failed += 1
            goal = make_goal("all-exits")
            assert goal.score(final, example.label, start) > goal.score(start, example.label, start)
    assert failed


def test_attempts_depend_on_their_seed_alone(victim, label_by):
    examples = label_by(victim)[:8]
    attacker = Attacker(victim, restoring("deepwordbug"), view=LABEL)
    forth = [attacker.attempt(example, dataset="d", seed=3) for example in examples]
    random.seed(9)
    back = [attacker.attempt(example, dataset="d", seed=3) for example in reversed(examples)]
    assert [replace(r, seconds=0) for r in forth] == [replace(r, seconds=0) for r in back[::-1]]
    other = [attacker.attempt(example, dataset="d", seed=4).text_attacked for example in examples]
    assert other != [result.text_attacked for result in forth]


def attack_on(victim, transformation, constraints, search, goal="deployed"):
    function = make_goal_function(VictimWrapper(victim, ("text",), 1), make_goal(goal), view=get_view(LABEL_EXIT))
    return CountingAttack(function, constraints, transformation, search)


class Marks(WordSwap):
    """Puts a mark behind a word."""

    def _get_replacement_words(self, word):
        return [] if word.endswith("x") else [word + "x"]


class FirstThing(textattack.constraints.Constraint):
    """`three` may change only where `one` has changed; against the original."""

    def __init__(self):
        super().__init__(compare_against_original=True)

    def _check_constraint(self, transformed_text, reference_text):
        return "three" in transformed_text.words or "one" not in transformed_text.words


class OnlyOneMore(textattack.constraints.Constraint):
    """A text differs from the one it is made from in a single word."""

    def __init__(self):
        super().__init__(compare_against_original=False)

    def _check_constraint(self, transformed_text, reference_text):
        return len(transformed_text.all_words_diff(reference_text)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_every_text_asked_satisfies_the_constraints(seed):
    victim = Rule(lambda words: "threex" in words)
    attack = attack_on(victim, Marks(), [FirstThing(), OnlyOneMore()], RestoreSearch())
    seed_everything(seed)
    initial, _ = attack.goal_function.init_attack_example(AttackedText("one two three four"), 0)
    text = attack.search_method(initial).attacked_text
    assert text.words == ["onex", "two", "threex", "four"]
    assert all("threex" not in asked or "onex" in asked for asked in victim.asked)
    assert text.attack_attrs["modified_indices"] == {0, 2}
    assert text.attack_attrs["previous_attacked_text"].attack_attrs["modified_indices"] in ({0}, {2})


def test_protected_fields_and_limits_on_the_words_hold(bag):
    victim = bag(num_exits=3, num_classes=2, threshold=0.8, gain=0.2)
    asked = []
    trace = victim.trace
    victim.trace = lambda texts, min_depth=1: (asked.extend(texts), trace(texts, min_depth))[1]
    pair = {"first": "A man plays a guitar on the stage.", "second": "A person makes music for a large crowd."}
    attacker = Attacker(victim, restoring("pruthi", max_num_word_swaps=2), view=LABEL)
    example = Example("p", pair, trace([pair])[0].answer)
    result = attacker.attempt(example, dataset="d", seed=0, protected_fields=("first",))
    assert result.error is None and len(asked) > 2
    assert all(text["first"] == pair["first"] for text in asked)
    assert max(len(changed(pair["second"], text["second"])) for text in asked) == 2


def test_trials_and_stale_starts_end_a_search():
    class Letters(WordSwap):
        def _get_replacement_words(self, word):
            return [word + "x", word + "y"] if len(word) == 1 else []

    for search, most in ((RestoreSearch(trials=7), 7), (RestoreSearch(stale=30), 8)):
        victim = Rule(lambda words: False)
        seed_everything(0)
        attack_on(victim, Letters(), [], search).attack("a b", 0)
        assert len(victim.asked) - 1 <= most
    assert len(victim.asked) == 9  # three forms each of two words: all of them were found


class ButInserts(WordInsertion):
    def _get_new_words(self, current_text, index):
        return ["not", "good"]


@pytest.mark.parametrize("seed", range(30))
def test_steps_that_split_insert_join_and_delete_words_can_be_undone(seed):
    text = AttackedText("It is not very, very good; I do not like it. It isn't a good-natured film")
    contract = textattack.transformations.WordSwapContract()
    extend = textattack.transformations.WordSwapExtend()
    split = WordSwapRandomCharacterInsertion(random_one=False, letters_to_insert=" ")
    mixed = CompositeTransformation([contract, extend, split, WordDeletion(), ButInserts(), Marks()])
    search = RestoreSearch()
    attack = attack_on(Rule(lambda words: False), mixed, [], search)
    seed_everything(seed)
    initial, _ = attack.goal_function.init_attack_example(text, 0)
    hunt = restore._Hunt(search, initial)
    chain = restore._Chain((text,))
    for word in np.random.permutation(len(text.words))[:8]:
        chain = hunt.random_step(chain, int(word)) or chain
    assert len(chain.edits) >= 5
    for edit in np.random.permutation(np.array([*chain.edits, None], dtype=object))[:-1]:
        if edit is None or edit not in chain.edits:
            continue
        shorter = hunt.without(chain, edit)
        assert shorter.changed == chain.changed - set(edit.words)
        for word in edit.words:
            assert shorter.text.words[shorter.position(word)] == text.words[word]
        chain = shorter
    while chain.edits:
        chain = hunt.without(chain, chain.edits[0])
    assert chain.text.text == text.text


def test_joined_words_are_one_step():
    search = RestoreSearch()
    attack = attack_on(Rule(lambda w: False), textattack.transformations.WordSwapContract(), [], search)
    text = AttackedText("It is not good")
    initial, _ = attack.goal_function.init_attack_example(text, 0)
    hunt = restore._Hunt(search, initial)
    chain = hunt.random_step(restore._Chain((text,)), 1)
    assert chain.text.text == "It isn't good"
    assert (chain.edits[0].words, chain.edits[0].strings) == ((1, 2), ("isn't", ""))


def test_goals_without_an_end_and_other_transformations_are_refused(bag):
    example = Example("r", {"text": REVIEW}, 0)
    for name, message in [
        ("input-reduction", "'input-reduction' has only better and worse: expected a goal that can be met"),
        ("bad-characters-invisible", "expected a recipe that swaps, inserts or deletes words, got one with Fieldwise"),
    ]:
        with pytest.raises(ConfigError, match=message):
            Attacker(bag(), restoring(name)).attempt(example, dataset="d", seed=0)
    # TextBugger's, which evolution perturbs too, has candidates of its own.
    attack_on(bag(), TableHomoglyphs(resources.homoglyph_table()), [], RestoreSearch())
    merge = CompositeTransformation([Marks(), textattack.transformations.WordInnerSwapRandom()])
    with pytest.raises(ConfigError, match="got one with WordInnerSwapRandom"):
        attack_on(bag(), merge, [], RestoreSearch())


class Scored(textattack.constraints.Constraint):
    """Finds texts that keep `one` much like the original."""

    def _check_constraint(self, transformed_text, reference_text):
        transformed_text.attack_attrs["similarity_score"] = 0.9 if "one" in transformed_text.words else 0.2
        return True


class LongMarks(Marks):
    """Marks that grow with the word."""

    def _get_replacement_words(self, word):
        return {"one": ["onex"], "two": ["twoxxxxxx"], "three": ["threex"]}.get(word, [])


@pytest.mark.parametrize(("constraints", "final"), [([], "onex two threex"), ([Scored(True)], "one twoxxxxxx threex")])
def test_the_text_most_like_the_original_is_restored_first(constraints, final):
    """By characters, or by what the recipe's sentence encoder says."""
    both = 0
    for seed in range(12):
        victim = Rule(lambda words: "threex" in words and ("onex" in words or "twoxxxxxx" in words))
        seed_everything(seed)
        result = attack_on(victim, LongMarks(), constraints, RestoreSearch()).attack("one two three", 0)
        first = next(text for text in victim.asked if victim.wrong(text.split()))
        if first == "onex twoxxxxxx threex":
            both += 1
            assert result.perturbed_result.attacked_text.text == final
    assert both


def test_words_are_restored_while_the_exit_stays_late():
    late = {"wonderful", "music"}
    victim = Rule(lambda words: False, lambda words: 1 + len(late - set(words)))
    result = Attacker(victim, restoring("deepwordbug"), "slowdown-position", view=LABEL_EXIT).attempt(
        Example("r", {"text": REVIEW}, 0), dataset="d", seed=0
    )
    assert result.outcome == "succeeded"
    assert set(changed(REVIEW, result.text_attacked["text"])) == late
