"""Every ready recipe, every goal, four kinds of policy: success means on the final text what the goal says.

What a goal says is written here anew, from its definition, over a fresh trace of every exit. The gate runs a pairwise
cover of recipe, goal and policy; ``ROBUSTEXIT_EVERY_COMBINATION=1`` runs the whole table.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robustexit.attacks import Limits, check, make_goal, make_recipe, recipes, resources
from robustexit.attacks.ensembles import make_attacker
from robustexit.attacks.goals import goals
from robustexit.attacks.goals.answers import InputReduction
from robustexit.attacks.recipes import refused_combination
from robustexit.attacks.views import get_view
from robustexit.data.types import Example, TextDataset
from robustexit.exits import make_policy
from robustexit.models import load_model
from robustexit.modules import module_folder
from robustexit.victims.base import Trace
from robustexit.victims.fitting import fit_and_save
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

TEXT = "the film is not good , the story was a dull plot in 2 bad parts"
LIMITS = Limits(queries=40, candidates=600)

POLICIES = {
    "entropy": {"t": 0.45},
    "patience": {"t": 1},
    "fixed": {},
    "learning-to-exit": {"t": 0.5},
}

Says = Callable[[Trace, Trace, int], bool]


def wrong(trace: Trace, label: int, exit: int) -> bool:
    return int(trace.logits[exit - 1].argmax()) != label


SAYS: dict[str, Says] = {
    "deployed": lambda now, start, label: now.answer != label,
    "final": lambda now, start, label: wrong(now, label, len(now.logits)),
    "exit(k=2)": lambda now, start, label: wrong(now, label, 2),
    "average": lambda now, start, label: now.answer != label,
    "max-average": lambda now, start, label: now.answer != label,
    "all-exits": lambda now, start, label: all(wrong(now, label, k + 1) for k in range(len(now.logits))),
    "confident-early-error(m=2)": lambda now, start, label: now.answer != label and now.exit <= 2,
    "keep-answer": lambda now, start, label: now.answer == label,
    "slowdown": lambda now, start, label: now.exit > start.exit,
    "slowdown-uniform": lambda now, start, label: now.exit == len(now.logits),
    "slowdown-uniform(target_exit=3)": lambda now, start, label: now.exit >= 3,
    "slowdown-disagree": lambda now, start, label: now.exit == len(now.logits),
    "slowdown-position": lambda now, start, label: now.exit == len(now.logits),
    "silent-slowdown": lambda now, start, label: now.exit > start.exit and now.answer == label,
    "exit<=2": lambda now, start, label: now.exit <= 2,
    "exit>=3": lambda now, start, label: now.exit >= 3,
    "slowdown-position & keep-answer": lambda now, start, label: now.exit == len(now.logits) and now.answer == label,
    "flip & exit<=2": lambda now, start, label: now.answer != label and now.exit <= 2,
}


def test_the_table_holds_every_goal() -> None:
    named = {part.name for said in SAYS for part in (getattr(make_goal(said), "parts", ()) or (make_goal(said),))}
    named |= {make_goal(said).name for said in SAYS}
    assert set(goals.names()) - {InputReduction.name} <= named


@pytest.fixture(scope="module")
def victims(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelVictim]:
    deployed = DeployedModel(load_model(str(tiny_model)), modules=module_folder(tmp_path_factory.mktemp("modules")))
    rng = random.Random(0)
    words = TEXT.split()
    texts = [{"text": " ".join(rng.choices(words, k=rng.randint(3, 14)))} for _ in range(60)]
    data = TextDataset(
        "made-up", tuple(Example(str(i), t, i % 2) for i, t in enumerate(texts)), ("no", "yes"), "generated", True
    )
    fit_and_save(deployed, "learning-to-exit", data, collect_outputs(deployed, data), settings={"epochs": 2})
    return {name: ModelVictim(deployed, make_policy(name, **given)) for name, given in POLICIES.items()}


@pytest.fixture
def here(tmp_path: Path, tiny_bert: Path, tiny_roberta: Path) -> Iterator[None]:
    """Small resources of every kind that a path can be given for."""
    neighbours = {"good": ["great", "fine"], "bad": ["poor", "awful"], "film": ["movie"], "story": ["tale", "plot"]}
    table, typos = tmp_path / "neighbours.json", tmp_path / "typos.txt"
    table.write_text(json.dumps({**neighbours, "dull": ["slow"], "plot": ["story"], "parts": ["pieces"]}))
    typos.write_text("good goood gud\nfilm flim\nstory storry\nparts prats\n")
    resources.configure(
        {
            "counter-fitted-vectors": table,
            "masked-lm": tiny_bert,
            "masked-lm-roberta": tiny_roberta,
            "typo-dictionary": typos,
        }
    )
    yield
    resources.configure({})


def view_of(recipe_name: str) -> str:
    return "gradients" if recipes.get(recipe_name).white_box else "scores"


def combinations(victims: dict[str, ModelVictim]) -> list[tuple[str, str, str]]:
    """Every (recipe, goal, policy) that goes together."""
    return [
        (recipe, goal, policy)
        for recipe, goal, policy in itertools.product(recipes.names(), SAYS, POLICIES)
        if refused_combination(recipes.get(recipe), make_goal(goal), get_view(view_of(recipe))) is None
        and make_goal(goal).refuses(victims[policy]) is None
    ]


def pairs(one: tuple[str, ...]) -> set[tuple[tuple[int, str], ...]]:
    return set(itertools.combinations(enumerate(one), 2))


def cover(table: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """A small part of a table in which every pair of values that occurs in it occurs."""
    missing = set().union(*map(pairs, table))
    chosen = []
    order = random.Random(0).sample(table, len(table))
    for least in (3, 2, 1):
        for one in order:
            if len(pairs(one) & missing) >= least:
                chosen.append(one)
                missing -= pairs(one)
    assert not missing
    return chosen


def attack(victim: ModelVictim, recipe_name: str, goal: str) -> None:
    label = victim.trace([{"text": TEXT}])[0].answer
    example = Example("one", {"text": TEXT}, label)
    recipe = make_recipe(recipe_name)
    if "popsize" in recipe.defaults:
        recipe = recipe.with_parameters(popsize=4, maxiter=2)
    attacker = make_attacker(victim, recipe, goal, limits=LIMITS, view=view_of(recipe_name))
    result = attacker.attempt(example, dataset="d", seed=0)
    where = f"{recipe_name}, {goal}, {victim.policy.describe()}: {result}"
    assert result.error is None, where
    start, now = victim.trace([example.fields, result.text_attacked], min_depth=victim.num_exits)
    met = SAYS[goal](now, start, label)
    assert result.goal_met == met, where
    assert result.outcome in ({"succeeded", "skipped"} if met else {"failed", "budget", "skipped"}), where
    if result.outcome == "skipped":
        assert result.text_attacked == example.fields, where
    assert result.queries <= LIMITS.queries + 1, where


@pytest.mark.parametrize("name", recipes.names())
def test_success_is_what_the_goal_says(here: None, victims: dict[str, ModelVictim], name: str) -> None:
    if recipes.get(name).unsupported:
        pytest.skip("it cannot attack a classifier")
    status = check(name)
    if not status.ready:
        pytest.skip(f"missing: {', '.join(status.missing)}")
    table = combinations(victims)
    chosen = table if os.environ.get("ROBUSTEXIT_EVERY_COMBINATION") else cover(table)
    mine = [(goal, policy) for recipe, goal, policy in chosen if recipe == name]
    assert mine or recipes.get(name).own_goal
    for goal, policy in mine:
        attack(victims[policy], name, goal)
