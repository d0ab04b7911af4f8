"""Recipes that follow the gradient of the goal's own score; they need the view ``gradients``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from robustexit.attacks import resources
from robustexit.attacks.recipes.assemble import assembled
from robustexit.attacks.recipes.base import Assemble, Recipe, add
from robustexit.errors import ConfigError

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack
    from robustexit.attacks.wrapper import VictimWrapper

_GRADIENTS: Final = frozenset({"gradients"})
_LEAST_WORDS: Final = 3
"""SAME may change this many words of any text, however short."""


def _stock(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """TextAttack's recipe over the gradient of our goal, with those of its parts replaced that fail on transformers."""
    from robustexit.attacks.components.install import in_recipes, prepared
    from robustexit.attacks.gradients import GradientRanking, WordSwapGradient, differentiate_goal
    from robustexit.attacks.textattack_api import GreedyWordSwapWIR, WordSwapGradientBased, stock_attack

    wrapper = differentiate_goal(goal_function)

    def swap(model_wrapper: VictimWrapper, **stock: Any) -> WordSwapGradient:
        return WordSwapGradient(model_wrapper, **{**stock, **recipe.settings})

    with (
        prepared(recipe.needs),
        in_recipes(GreedyWordSwapWIR, GradientRanking),
        in_recipes(WordSwapGradientBased, swap),
    ):
        built = stock_attack(recipe.textattack_class, wrapper, {})
    constraints = [*built.constraints, *built.pre_transformation_constraints]
    return assembled(recipe, goal_function, constraints, built.transformation, built.search_method, protected_fields)


def _same(transformation: Callable[[VictimWrapper, dict[str, Any]], Any]) -> Assemble:
    """SAME with one kind of perturbation."""

    def assemble(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
        from robustexit.attacks.components.install import prepared
        from robustexit.attacks.gradients import differentiate_goal
        from robustexit.attacks.searches.gradient_beam import GradientBeam
        from robustexit.attacks.textattack_api import MaxModificationRate, RepeatModification, StopwordModification

        settings = recipe.settings
        rate = float(settings["modification_rate"])
        if rate > 1:
            raise ConfigError(f"recipe {recipe.name!r}: modification_rate must be a share of at most 1, got {rate:g}")
        with prepared(recipe.needs):
            constraints = [
                RepeatModification(),
                StopwordModification(),
                MaxModificationRate(max_rate=rate, min_threshold=_LEAST_WORDS),
            ]
            proposals = transformation(differentiate_goal(goal_function), settings)
        search = GradientBeam(settings["beam_width"], settings["per_size"])
        return assembled(recipe, goal_function, constraints, proposals, search, protected_fields)

    return assemble


def _words(wrapper: VictimWrapper, settings: dict[str, Any]) -> Any:
    from robustexit.attacks.gradients import WordSwapGradient

    return WordSwapGradient(wrapper, settings["top_n"])


def _characters(wrapper: VictimWrapper, settings: dict[str, Any]) -> Any:
    from robustexit.attacks.gradients import CharacterSwapGradient

    return CharacterSwapGradient(wrapper, settings["top_n"], settings["top_k"], resources.homoglyph_table())


_SAME: Final[dict[str, Any]] = {
    "textattack_class": "",
    "citation": "Chen et al. 2023",
    "url": "https://arxiv.org/abs/2305.12228",
    "bibtex_key": "chen2023dynamic",
    "white_box": True,
    "made_for": _GRADIENTS,
    "effort": 3,
}
_SAME_DEFAULTS: Final = {"top_n": 100, "beam_width": 5, "per_size": 10, "modification_rate": 0.1}
"""As the authors' code is called; a parameter's name is theirs."""

add(
    Recipe(
        name="a2t",
        textattack_class="A2TYoo2021",
        citation="Yoo and Qi 2021",
        url="https://arxiv.org/abs/2109.00544",
        bibtex_key="yoo2021towards",
        space="words: vectors",
        needs=("stopwords", "counter-fitted-vectors", "sbert-encoder", "pos-tagger"),
        assemble=_stock,
        white_box=True,
        made_for=_GRADIENTS,
    ),
    Recipe(
        name="hotflip",
        textattack_class="HotFlipEbrahimi2017",
        citation="Ebrahimi et al. 2018",
        url="https://arxiv.org/abs/1712.06751",
        bibtex_key="ebrahimi2018hotflip",
        space="words: vectors",
        needs=("stopwords", "counter-fitted-vectors", "pos-tagger"),
        assemble=_stock,
        white_box=True,
        made_for=_GRADIENTS,
        defaults={"top_n": 1},
    ),
    Recipe(
        name="same",
        space="words: any",
        needs=("stopwords",),
        assemble=_same(_words),
        defaults=_SAME_DEFAULTS,
        **_SAME,
    ),
    Recipe(
        name="same-characters",
        space="characters",
        needs=("stopwords", "homoglyphs"),
        assemble=_same(_characters),
        defaults={**_SAME_DEFAULTS, "top_k": 10},
        **_SAME,
    ),
)
