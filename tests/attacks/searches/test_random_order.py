from __future__ import annotations

from dataclasses import replace

import pytest

from robustexit.attacks import Limits, get_view, make_goal, make_recipe, recipes, resources
from robustexit.attacks.attempt import Attacker
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.searches import random_order
from robustexit.attacks.searches.position import PositionSearch
from robustexit.attacks.textattack_api import GreedyWordSwapWIR
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.errors import ConfigError


def runs(name):
    recipe = recipes.get(name)
    here = all(resources.find(need).usable for need in recipe.needs)
    return here and recipe.unsupported is None and not recipe.white_box


@pytest.mark.parametrize("name", recipes.names())
def test_recipes_that_rank_words_take_it_and_others_say_that_they_do_not(bag, label_by, name):
    if not runs(name):
        pytest.skip(f"recipe {name} lacks a resource here, or needs another victim")
    victim = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    recipe = make_recipe(name, search="random-order")
    goal = recipe.own_goal or "deployed"
    own = recipes.get(name).build(make_goal_function(VictimWrapper(victim, ("text",), 4), make_goal(goal)))
    example = label_by(victim)[0]
    attacker = Attacker(victim, recipe, goal, limits=Limits(queries=60))
    if not isinstance(own.search_method, (GreedyWordSwapWIR, PositionSearch)):
        with pytest.raises(ConfigError, match=f"rank words, which {type(own.search_method).__name__} does not"):
            attacker.attempt(example, dataset="d", seed=0)
        return
    result = attacker.attempt(example, dataset="d", seed=0)
    assert result.error is None
    start, final = (get_view("scores").show(t, 4) for t in victim.trace([example.fields, result.text_attacked], 4))
    assert result.outcome == "maximized" or result.goal_met == make_goal(goal).met(final, example.label, start)


@pytest.mark.parametrize("name", ["deepwordbug", "slowbert"])
def test_no_query_is_spent_on_a_ranking(bag, label_by, name):
    """The first texts asked are substitutes: no word is missing or masked."""
    victim = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    example = label_by(victim)[0]
    asked = {}
    trace = victim.trace
    for search in ("own", "random-order"):
        texts = []
        victim.trace = lambda new, min_depth=1, texts=texts: (texts.extend(new), trace(new, min_depth))[1]
        Attacker(victim, make_recipe(name, search=search)).attempt(example, dataset="d", seed=0)
        asked[search] = [text["text"] for text in texts[1:]]
    words = len(example.fields["text"].split())
    lost = [text for text in asked["own"] if "[UNK]" in text or len(text.split()) < words]
    assert len(lost) > 3
    assert not [text for text in asked["random-order"] if "[UNK]" in text or len(text.split()) < words]


@pytest.mark.parametrize("name", ["deepwordbug", "slowbert"])
def test_the_order_is_the_seed_s(bag, label_by, name):
    victim = bag(num_exits=4, num_classes=3, threshold=0.55, gain=0.3)
    attacker = Attacker(victim, make_recipe(name, search="random-order"))
    example = label_by(victim)[0]
    texts = []
    trace = victim.trace
    victim.trace = lambda new, min_depth=1: (texts.extend(new), trace(new, min_depth))[1]
    changed_first, repeated = set(), []
    for seed in (0, 1, 2, 3, 4, 5, 0):
        texts.clear()
        result = attacker.attempt(example, dataset="d", seed=seed)
        pairs = enumerate(zip(_words(example.fields), _words(texts[1]), strict=False))
        changed_first.add(next(i for i, (before, after) in pairs if before != after))
        if seed == 0:
            repeated.append(replace(result, seconds=0))
    assert len(changed_first) > 2
    assert repeated[0] == repeated[1]


def _words(fields):
    return fields["text"].split()


def test_the_control_keeps_everything_but_the_order():
    own = GreedyWordSwapWIR(wir_method="gradient", unk_token="[MASK]", truncate_words_to=9)
    control = random_order.make(own)
    assert (control.wir_method, control.unk_token, control.truncate_words_to) == ("random", "[MASK]", 9)
    assert own.wir_method == "gradient"
    assert control.is_black_box
    assert not random_order.make(PositionSearch()).ranked
