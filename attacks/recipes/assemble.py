"""From a recipe's parts to an attack with our goal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustexit.attacks.recipes.base import Recipe
from robustexit.attacks.searches import OWN, searches

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack


def assembled(
    recipe: Recipe,
    goal_function: TraceGoalFunction,
    constraints: list[Any],
    transformation: Any,
    own_search: Any,
    protected_fields: tuple[str, ...],
) -> CountingAttack:
    """Put TextAttack's parts together: our goal, the protected fields, and the search asked for.

    Args:
        recipe: The recipe; its `search` stands in the place of `own_search` unless it is the own one.
        goal_function: The goal over the victim. An attack keeps the goal that it is built with in its search.
        constraints: TextAttack's constraints, those before the transformation included.
        transformation: TextAttack's transformation.
        own_search: The recipe's own search method.
        protected_fields: Fields that no candidate may change.

    Raises:
        ConfigError: The search asked for cannot stand in the place of the recipe's own.
    """
    from robustexit.attacks.searches.counting import CountingAttack
    from robustexit.attacks.textattack_api import InputColumnModification

    constraints = list(constraints)
    if protected_fields:
        # TextAttack's constraint does nothing unless it is told exactly the names that the inputs have.
        names = list(goal_function.model.field_names)
        constraints.append(InputColumnModification(names, set(protected_fields)))
    search = own_search if recipe.search == OWN else searches.get(recipe.search).make(own_search)
    return CountingAttack(goal_function, constraints, transformation, search)


def stock(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """Build TextAttack's recipe and rebuild it around our goal (a built attack keeps its goal in its search)."""
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.textattack_api import stock_attack

    with prepared(recipe.needs):
        built = stock_attack(recipe.textattack_class, goal_function.model, recipe.settings)
    constraints = [*built.constraints, *built.pre_transformation_constraints]
    return assembled(recipe, goal_function, constraints, built.transformation, built.search_method, protected_fields)
