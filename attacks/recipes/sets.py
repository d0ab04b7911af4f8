"""Recipes on finite perturbation sets: greedy by default, exact with ``search: exhaustive``."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from robustexit.attacks.recipes.assemble import assembled
from robustexit.attacks.recipes.base import Recipe, add
from robustexit.attacks.sets import make_set

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack

MAX_TEXTS: Final = 100_000
"""Texts of one example above which an exact search refuses, unless the recipe's `max_texts` says otherwise."""

PREFIX: Final = "set-"


@dataclass(frozen=True)
class SetRecipe(Recipe):
    """A recipe whose texts are those of a perturbation set; what it needs follows from the set's parameters."""

    def with_parameters(self, **parameters: Any) -> SetRecipe:
        """Return the recipe with other parameters, as `Recipe.with_parameters` does.

        Raises:
            ConfigError: A parameter that neither the set nor the recipe has, or a value that cannot work.
        """
        changed = super().with_parameters(**parameters)
        chosen = make_set(changed.name.removeprefix(PREFIX), **_of_the_set(changed.settings))
        return replace(changed, needs=chosen.needs)  # type: ignore[return-value]  # of the same class


def _of_the_set(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != "max_texts"}


def _assemble(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """The set as a transformation, and TextAttack's greedy search over ranked words, as in DeepWordBug."""
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.components.set_edits import GreedyOnSet, SetEdits

    settings = recipe.settings
    chosen = make_set(recipe.name.removeprefix(PREFIX), **_of_the_set(settings))
    with prepared(recipe.needs):
        edits = SetEdits(chosen, goal_function, protected_fields)
    # The fields are protected inside: TextAttack's constraint counts words where edits may have moved them.
    return assembled(recipe, goal_function, [], edits, GreedyOnSet(edits, settings["max_texts"]), ())


def set_recipe(name: str, *, citation: str, url: str, bibtex_key: str, language: str | None = "en") -> SetRecipe:
    """Return the recipe of a perturbation set; of a set in another package, register it there.

    Args:
        name: The set.
        citation: Short citation.
        url: Where the paper is.
        bibtex_key: Key for a bibliography.
        language: Language of the texts it is made for (ISO 639-1), or None for any.

    Raises:
        ConfigError: No such set.
    """
    chosen = make_set(name)
    settings = {f.name: getattr(chosen, f.name) for f in dataclasses.fields(chosen)}
    return SetRecipe(
        name=PREFIX + name,
        textattack_class="",
        citation=citation,
        url=url,
        bibtex_key=bibtex_key,
        space=f"set: {name}",
        needs=chosen.needs,
        assemble=_assemble,
        language=language,
        effort=2,
        defaults={**settings, "max_texts": MAX_TEXTS},
    )


_CHECKLIST: Final = {
    "citation": "Ribeiro et al. 2020",
    "url": "https://arxiv.org/abs/2005.04118",
    "bibtex_key": "ribeiro2020beyond",
}

add(
    *(set_recipe(name, **_CHECKLIST) for name in ("contractions", "neutral-sentence", "entities", "numbers")),
    set_recipe(
        "typos",
        citation="Eger and Benz 2020",
        url="https://arxiv.org/abs/2010.05648",
        bibtex_key="eger2020hero",
    ),
    set_recipe(
        "character-edits",
        citation="Pruthi et al. 2019",
        url="https://arxiv.org/abs/1905.11268",
        bibtex_key="pruthi2019combating",
    ),
    set_recipe(
        "any-character-edit",
        citation="Gao et al. 2018",
        url="https://arxiv.org/abs/1801.04354",
        bibtex_key="gao2018deepwordbug",
    ),
    set_recipe(
        "synonyms",
        citation="Ren et al. 2019",
        url="https://doi.org/10.18653/v1/P19-1103",
        bibtex_key="ren2019generating",
    ),
)
