"""SlowBERT: typos that make a multi-exit victim leave late."""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

from robustexit.attacks.recipes.assemble import assembled
from robustexit.attacks.recipes.base import Recipe, add
from robustexit.errors import ConfigError

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack


def _slowbert(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """Every blank, letter, missing letter and pair of neighbouring letters swapped, in words of two letters or more.

    The typos of Varma et al. 2024's rebuilding of SlowBERT, whose authors published no code; there any two letters of
    a word are swapped. Their limit on the share of words is `max_rate` (.2 in their code where they set one).

    Raises:
        ConfigError: `max_rate` is more than 1.
    """
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.searches.position import PositionSearch
    from robustexit.attacks.textattack_api import (
        CompositeTransformation,
        MaxModificationRate,
        RepeatModification,
        WordSwapNeighboringCharacterSwap,
        WordSwapRandomCharacterDeletion,
        WordSwapRandomCharacterInsertion,
    )

    max_rate = float(recipe.settings["max_rate"])
    if max_rate > 1:
        raise ConfigError(f"recipe 'slowbert': max_rate must be a share of the words, 0 to 1, got {max_rate}")
    with prepared(recipe.needs):
        typos = CompositeTransformation(
            [
                WordSwapRandomCharacterInsertion(random_one=False, letters_to_insert=" ", skip_first_char=True),
                WordSwapNeighboringCharacterSwap(random_one=False),
                WordSwapRandomCharacterInsertion(random_one=False, letters_to_insert=ascii_lowercase),
                WordSwapRandomCharacterDeletion(random_one=False),
            ]
        )
    constraints: list[Any] = [RepeatModification(), MaxModificationRate(max_rate)]
    return assembled(recipe, goal_function, constraints, typos, PositionSearch(), protected_fields)


add(
    Recipe(
        name="slowbert",
        textattack_class="",
        citation="Zhang et al. 2023",
        url="https://doi.org/10.18653/v1/2023.findings-acl.634",
        bibtex_key="zhang2023slowbert",
        space="characters",
        needs=(),
        assemble=_slowbert,
        made_for=frozenset({"label+exit", "scores", "gradients"}),
        effort=2,
        defaults={"max_rate": 1.0},
    )
)
