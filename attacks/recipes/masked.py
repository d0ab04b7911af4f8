"""Recipes that let a masked language model propose words: BAE, BERT-Attack and CLARE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from robustexit.attacks.recipes.assemble import assembled
from robustexit.attacks.recipes.base import Recipe, add

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack

_SPACE = "words: masked LM"


def _filling(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """TextAttack's recipe over our transformations, its model on the victim's device."""
    from robustexit.attacks.components.gap_filling import parts
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.textattack_api import stock_attack

    with prepared(recipe.needs):
        built = stock_attack(recipe.textattack_class, goal_function.model, {})
    deployed = getattr(goal_function.model.model, "deployed", None)
    for part in parts(built.transformation):
        if deployed is not None:
            part.use(part.lm.on(deployed.device))
        for name, value in recipe.settings.items():
            setattr(part, name, value)
    constraints = [*built.constraints, *built.pre_transformation_constraints]
    return assembled(recipe, goal_function, constraints, built.transformation, built.search_method, protected_fields)


add(
    Recipe(
        name="bae",
        textattack_class="BAEGarg2019",
        citation="Garg and Ramakrishnan 2020",
        url="https://arxiv.org/abs/2004.01970",
        bibtex_key="garg2020bae",
        space=_SPACE,
        needs=("stopwords", "pos-tagger", "sentence-encoder", "masked-lm"),
        assemble=_filling,
        window=15,
        defaults={"max_candidates": 50, "pieces": False},
    ),
    Recipe(
        name="bert-attack",
        textattack_class="BERTAttackLi2020",
        citation="Li et al. 2020",
        url="https://arxiv.org/abs/2004.09984",
        bibtex_key="li2020bertattack",
        space=_SPACE,
        needs=("stopwords", "sentence-encoder", "masked-lm"),
        assemble=_filling,
        defaults={"max_candidates": 8, "ranked": True},
    ),
    Recipe(
        name="clare",
        textattack_class="CLARE2020",
        citation="Li et al. 2021",
        url="https://arxiv.org/abs/2009.07502",
        bibtex_key="li2021contextualized",
        space=_SPACE,
        needs=("stopwords", "pos-tagger", "sentence-encoder", "masked-lm-roberta"),
        assemble=_filling,
        effort=3,
        window=15,
        defaults={"max_candidates": 50, "pieces": True},
    ),
)
