"""Recipes for texts in other languages than English."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustexit.attacks.recipes.assemble import stock
from robustexit.attacks.recipes.base import Recipe, add

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack


def _with_wordnet(
    recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]
) -> CountingAttack:
    from robustexit.attacks.components.wordnet import ordered

    with ordered():
        return stock(recipe, goal_function, protected_fields)


add(
    Recipe(
        name="french",
        textattack_class="FrenchRecipe",
        citation="Morris et al. 2020",
        url="https://doi.org/10.18653/v1/2020.emnlp-demos.16",
        bibtex_key="morris2020textattack",
        space="words: WordNet",
        needs=("stopwords-french", "wordnet", "omw", "ner-tagger-french"),
        assemble=_with_wordnet,
        language="fr",
    ),
    Recipe(
        name="spanish",
        textattack_class="SpanishRecipe",
        citation="Morris et al. 2020",
        url="https://doi.org/10.18653/v1/2020.emnlp-demos.16",
        bibtex_key="morris2020textattack",
        space="words: WordNet",
        needs=("stopwords-spanish", "wordnet", "omw", "ner-tagger-multi"),
        assemble=_with_wordnet,
        language="es",
    ),
)
