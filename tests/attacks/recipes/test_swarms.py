"""PSO and LEAP: TextAttack's own searches where those do not fail, and repeatable."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from robustexit.attacks import Attacker, recipes, resources
from robustexit.attacks.attempt import attempt_seed, seed_everything
from robustexit.attacks.components.install import prepared
from robustexit.attacks.components.swarm import LeapSwarm, Swarm
from robustexit.attacks.goal_function import make_goal_function
from robustexit.attacks.goals import make_goal
from robustexit.attacks.textattack_api import (
    Attack,
    AttackedText,
    MaxModificationRate,
    ModelWrapper,
    ParticleSwarmOptimization,
    ParticleSwarmOptimizationLEAP,
    PopulationMember,
    WordSwap,
    stock_attack,
)
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.data.types import Example

SMALL = {"pop_size": 5, "max_iters": 3}


def lacks(name):
    return next((need for need in recipes.get(name).needs if not resources.find(need).usable), None)


NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(lacks(name) is not None, reason=f"{name} lacks {lacks(name)} here"))
    for name in ("pso", "leap")
]


class StockWrapper(ModelWrapper):
    """The victim as a plain TextAttack user would wrap it."""

    def __init__(self, victim):
        self.model = victim

    def __call__(self, text_input_list):
        return np.stack([self.model.logits({"text": text})[-1] for text in text_input_list])


@pytest.mark.parametrize("name", NAMES)
def test_attempts_are_textattack_s_to_the_last_query(bag, label_by, name):
    victim = bag(num_exits=1, num_classes=3, gain=0.3)
    recipe = recipes.get(name).with_parameters(**SMALL)
    attacker = Attacker(victim, recipe)
    with prepared(recipe.needs):
        stock = stock_attack(recipe.textattack_class, StockWrapper(victim), {})
    stock.search_method.pop_size, stock.search_method.max_iters = SMALL["pop_size"], SMALL["max_iters"]
    outcomes = set()
    for example in label_by(victim)[:8]:
        ours = attacker.attempt(example, dataset="d", seed=7)
        seed_everything(attempt_seed("d", example.example_id, name, 7))
        theirs = stock.attack(example.fields["text"], example.label)
        assert ours.text_attacked["text"] == theirs.perturbed_result.attacked_text.text
        assert ours.queries == theirs.num_queries
        outcomes.add(ours.outcome)
        again = attacker.attempt(example, dataset="d", seed=7)
        assert replace(again, seconds=0) == replace(ours, seconds=0)
    assert "succeeded" in outcomes


class Reversed(WordSwap):
    """Every word can become its capitals or its reverse, and one of them a word with a hyphen."""

    def _get_replacement_words(self, word):
        return [word.upper(), word[::-1]] + ["A-list"] * (word == "star")


def search(victim, method, text):
    """Search on one text, seeded."""
    victim = VictimWrapper(victim, ("text",), 1)
    attack = Attack(make_goal_function(victim, make_goal("deployed")), [], Reversed(), method)
    seed_everything(0)
    attack.goal_function.begin()
    found = attack.attack(AttackedText(text), victim.model.trace([{"text": text}])[0].answer)
    return found.perturbed_result.attacked_text.text


@pytest.mark.parametrize(
    ("ours", "stock"), [(Swarm, ParticleSwarmOptimization), (LeapSwarm, ParticleSwarmOptimizationLEAP)]
)
def test_texts_without_words_and_words_that_split_are_no_errors(bag, ours, stock):
    victim = bag(num_exits=1, num_classes=2, gain=0.0)  # always the same answer: nothing succeeds
    with pytest.raises(ValueError, match="empty"):
        search(victim, stock(**SMALL), "!?")
    assert search(victim, ours(**SMALL), "!?") == "!?"
    for text in ("the star was good", "a"):
        assert search(victim, ours(**SMALL), text) == search(victim, stock(**SMALL), text) != text
    split = "the star \u4e2d was good"  # a Chinese sign makes TextAttack split words at the hyphen
    with pytest.raises((AssertionError, IndexError)):
        search(victim, stock(pop_size=40, max_iters=3), split)
    assert "A-list" not in search(victim, ours(pop_size=40, max_iters=3), split)


def turned(swarm, particle, elite, probability):
    original = AttackedText("a b c")
    swarm.filter_transformations = lambda texts, *args, **kwargs: texts
    members = PopulationMember(AttackedText(elite)), PopulationMember(AttackedText(particle))
    return swarm._turn(*members, np.array(probability), original).attacked_text.text


def test_the_authors_turn_takes_the_elite_s_words_where_the_draw_says_so():
    sure = [1.0, 0.0, 1.0]  # words to turn
    assert turned(Swarm(), "x y z", "A B C", sure) == "x B z"  # TextAttack: from the elite, the particle's words
    assert turned(Swarm(authors_turn=True), "x y z", "A B C", sure) == "A y C"


def test_the_share_of_words_is_a_parameter_of_leap(bag):
    if not resources.find("wordnet").found:
        pytest.skip(f"needs WordNet: {resources.find('wordnet').where}")
    victim = bag(num_exits=1)
    for rate in (0.16, 0.5):
        attacker = Attacker(victim, recipes.get("leap").with_parameters(**SMALL, max_rate=rate))
        attacker.attempt(Example("e", {"text": "a good film"}, 0), dataset="d", seed=0)
        (engine,) = attacker._engines.values()
        rates = [c for c in engine.attack.pre_transformation_constraints if isinstance(c, MaxModificationRate)]
        assert [one.max_rate for one in rates] == [rate]
