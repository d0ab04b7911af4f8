"""TextAttack's recipes with settings that their builds do not take: similarity and sizes of the search."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from robustexit.attacks.recipes.assemble import assembled
from robustexit.attacks.recipes.base import Recipe

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack

SIMILARITY: Final = "similarity"
"""Parameter: least similarity of sentences. Its default is the recipe's own threshold on its own encoder, translated
where another one stands in; a value of the user's is on the scale of the encoder in use."""


def tuned(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """Build TextAttack's recipe with the parameters that were changed, rebuilt around our goal.

    All parameters but `SIMILARITY` are the search's own, by TextAttack's names.
    """
    from robustexit.attacks.components.homoglyphs import homoglyph_swaps
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.textattack_api import stock_attack

    with prepared(recipe.needs), homoglyph_swaps():
        built = stock_attack(recipe.textattack_class, goal_function.model, {})
    for name, value in recipe.parameters.items():
        if name == SIMILARITY:
            set_similarity(built.constraints, value)
        else:
            setattr(built.search_method, name, value)
    constraints = [*built.constraints, *built.pre_transformation_constraints]
    return assembled(recipe, goal_function, constraints, built.transformation, built.search_method, protected_fields)


def set_similarity(constraints: Iterable[Any], least: float) -> None:
    """Set the least similarity of the sentence encoders among TextAttack's constraints."""
    from robustexit.attacks.textattack_api import SentenceEncoder

    for constraint in constraints:
        if isinstance(constraint, SentenceEncoder):
            constraint.threshold = least
