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
    from robustexit.attacks.components.wordnet import every_language

    with every_language():
        return stock(recipe, goal_function, protected_fields)


def _chinese(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """ChineseRecipe, its masked language model on the victim's device."""
    from robustexit.attacks.components.chinese import MaskedLMSwap, one_character_at_a_time

    with one_character_at_a_time():
        attack = stock(recipe, goal_function, protected_fields)
    deployed = getattr(goal_function.model.model, "deployed", None)
    for part in attack.transformation.transformations:
        if isinstance(part, MaskedLMSwap) and deployed is not None:
            part.lm = part.lm.on(deployed.device)
    return attack


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
    Recipe(
        name="chinese",
        textattack_class="ChineseRecipe",
        citation="Morris et al. 2020",
        url="https://doi.org/10.18653/v1/2020.emnlp-demos.16",
        bibtex_key="morris2020textattack",
        space="words and characters",
        needs=("hownet-chinese", "masked-lm-chinese", "homophones-chinese"),
        assemble=_chinese,
        language="zh",
        effort=2,
    ),
)
