from __future__ import annotations

from dataclasses import replace

import pytest

from robustexit.attacks import Limits, get_view, make_goal, make_recipe
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.searches.position import PositionSearch
from robustexit.attacks.textattack_api import AttackedText
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.data.types import Example
from robustexit.errors import ConfigError


@pytest.fixture
def victim(bag):
    return bag(num_exits=6, num_classes=2, threshold=0.8, gain=0.3)


def built(victim, **parameters):
    function = make_goal_function(VictimWrapper(victim, ("text",), 1), make_goal("slowdown-position"))
    return make_recipe("slowbert", **parameters).build(function)


def test_typos_are_blanks_swaps_letters_and_missing_letters(victim):
    attack = built(victim)
    found = [text.text for text in attack.get_transformations(AttackedText("a film"), AttackedText("a film"))]
    words = [text.removeprefix("a ") for text in found]
    assert all(text.startswith("a ") for text in found)  # words of one letter are left alone
    assert {"f ilm", "fi lm", "fil m"} <= set(words)
    assert {"iflm", "flim", "fiml"} <= set(words)
    assert {"ilm", "flm", "fim", "fil"} <= set(words)
    letters = set(words) - {"f ilm", "fi lm", "fil m", "iflm", "flim", "fiml", "ilm", "flm", "fim", "fil"}
    assert len(letters) == 4
    for word in letters:
        assert len(word) == 5 and word.islower() and "film" in {word[:i] + word[i + 1 :] for i in range(5)}


def test_it_makes_victims_leave_later(victim, label_by):
    attacker = Attacker(victim, "slowbert", "slowdown-position", view="label+exit")
    before, after = [], []
    for example in label_by(victim):
        result = attacker.attempt(example, dataset="d", seed=0)
        start, final = victim.trace([example.fields, result.text_attacked])
        assert (final.exit == 6) == (result.outcome in {"succeeded", "skipped"})
        before.append(start.exit)
        after.append(final.exit)
    assert all(late >= early for early, late in zip(before, after, strict=True))
    assert sum(after) > 1.3 * sum(before)


def test_no_word_is_changed_twice_and_the_share_of_words_is_limited(victim, label_by, sentences):
    for max_rate in (0.1, 0.2):
        recipe = make_recipe("slowbert", max_rate=max_rate)
        assert recipe.label == f"slowbert(max_rate={max_rate})"
        attacker = Attacker(victim, recipe, "slowdown-uniform(target_exit=6)", limits=Limits(queries=400))
        for example in label_by(victim)[:8]:
            result = attacker.attempt(example, dataset="d", seed=0)
            assert result.error is None
            assert result.words_changed <= -(-result.words_total * max_rate // 1)
    with pytest.raises(ConfigError, match=r"max_rate must be a share of the words, 0 to 1, got 1.5"):
        built(victim, max_rate=1.5)


def test_protected_fields_stay(bag):
    victim = bag(num_exits=4, num_classes=2, threshold=0.8, gain=0.2)
    pair = {"first": "A man plays a guitar on the stage.", "second": "A person makes music for a large crowd."}
    example = Example("p", pair, victim.trace([pair])[0].answer)
    attacker = Attacker(victim, "slowbert", "slowdown-uniform(target_exit=4)")
    result = attacker.attempt(example, dataset="d", seed=0, protected_fields=("first",))
    assert result.error is None
    assert result.text_attacked["first"] == pair["first"]


def test_attempts_depend_on_their_seed_alone(victim, label_by):
    attacker = Attacker(victim, "slowbert", "slowdown-position", view="label+exit")
    examples = label_by(victim)[:6]
    forth = [replace(attacker.attempt(example, dataset="d", seed=3), seconds=0) for example in examples]
    back = [replace(attacker.attempt(example, dataset="d", seed=3), seconds=0) for example in reversed(examples)]
    assert forth == back[::-1]


def test_it_is_made_for_those_who_see_the_exit(victim):
    recipe = make_recipe("slowbert")
    assert isinstance(built(victim).search_method, PositionSearch)
    assert not recipe.weak_under(get_view("label+exit"), make_goal("slowdown-position"))
    assert recipe.weak_under(get_view("label"), make_goal("deployed"))
