"""Recipes that search with particle swarms."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustexit.attacks.recipes.assemble import assembled
from robustexit.attacks.recipes.base import Recipe, add

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack


def _pso(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """PSOZang2020, with the swarm's size as parameters."""
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.components.swarm import Swarm
    from robustexit.attacks.textattack_api import stock_attack

    with prepared(recipe.needs):
        built = stock_attack(recipe.textattack_class, goal_function.model, {})
    constraints = [*built.constraints, *built.pre_transformation_constraints]
    search = Swarm(**recipe.settings)
    return assembled(recipe, goal_function, constraints, built.transformation, search, protected_fields)


def _leap(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """LEAP2023, with the swarm's size and the share of words as parameters."""
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.components.swarm import LeapSwarm
    from robustexit.attacks.textattack_api import MaxModificationRate, stock_attack

    with prepared(recipe.needs):
        built = stock_attack(recipe.textattack_class, goal_function.model, {})
    settings = recipe.settings
    constraints = [c for c in built.pre_transformation_constraints if not isinstance(c, MaxModificationRate)]
    constraints += [MaxModificationRate(settings["max_rate"]), *built.constraints]
    search = LeapSwarm(pop_size=settings["pop_size"], max_iters=settings["max_iters"])
    return assembled(recipe, goal_function, constraints, built.transformation, search, protected_fields)


add(
    Recipe(
        name="pso",
        textattack_class="PSOZang2020",
        citation="Zang et al. 2020",
        url="https://doi.org/10.18653/v1/2020.acl-main.540",
        bibtex_key="zang2020word",
        space="words: sememes",
        needs=("stopwords", "hownet", "upos-tagger"),
        assemble=_pso,
        effort=3,
        defaults={"pop_size": 60, "max_iters": 20, "authors_turn": False},
    ),
    Recipe(
        name="leap",
        textattack_class="LEAP2023",
        citation="Xiao et al. 2023",
        url="https://arxiv.org/abs/2308.11284",
        bibtex_key="xiao2023leap",
        space="words: WordNet",
        needs=("stopwords", "wordnet"),
        assemble=_leap,
        effort=3,
        defaults={"pop_size": 60, "max_iters": 20, "max_rate": 0.16},
    ),
)
