"""Recipes of swaps that should not change an answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustexit.attacks.recipes.assemble import stock
from robustexit.attacks.recipes.base import Recipe, add

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack


def _checklist(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    from robustexit.attacks.components.checklist import undamaged

    with undamaged():
        return stock(recipe, goal_function, protected_fields)


add(
    Recipe(
        name="checklist",
        textattack_class="CheckList2020",
        citation="Ribeiro et al. 2020",
        url="https://arxiv.org/abs/2005.04118",
        bibtex_key="ribeiro2020beyond",
        space="invariances",
        needs=("ner-tagger",),
        assemble=_checklist,
    ),
)
