"""Recipes that change characters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustexit.attacks import resources
from robustexit.attacks.recipes.assemble import assembled, stock
from robustexit.attacks.recipes.base import Assemble, Recipe, add
from robustexit.attacks.recipes.tuned import SIMILARITY, tuned

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack


def _bad_characters(kind: str) -> Assemble:
    """BadCharacters2021 with one kind of perturbation; its build takes only goals of its own."""

    def assemble(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
        from robustexit.attacks.components.homoglyphs import TableHomoglyphs
        from robustexit.attacks.components.install import prepared
        from robustexit.attacks.searches.evolution import EvolutionUntilMet, FieldwiseEvolution
        from robustexit.attacks.textattack_api import stock_attack

        with prepared(recipe.needs):
            if kind == "homoglyphs":
                inner: Any = TableHomoglyphs(resources.homoglyph_table())
            else:
                fixed = {"goal_function_type": "targeted_classification", "perturbation_type": kind}
                inner = stock_attack(recipe.textattack_class, goal_function.model, fixed).transformation
        settings = recipe.settings
        search = EvolutionUntilMet(
            popsize=settings["popsize"], maxiter=settings["maxiter"], max_perturbs=settings["perturbs"]
        )
        # The fields are protected inside: TextAttack's constraint does not reach these transformations.
        return assembled(recipe, goal_function, [], FieldwiseEvolution(inner, protected_fields), search, ())

    return assemble


add(
    Recipe(
        name="deepwordbug",
        textattack_class="DeepWordBugGao2018",
        citation="Gao et al. 2018",
        url="https://arxiv.org/abs/1801.04354",
        bibtex_key="gao2018deepwordbug",
        space="characters",
        needs=("stopwords",),
        assemble=stock,
    ),
    Recipe(
        name="pruthi",
        textattack_class="Pruthi2019",
        citation="Pruthi et al. 2019",
        url="https://arxiv.org/abs/1905.11268",
        bibtex_key="pruthi2019combating",
        space="characters",
        needs=("stopwords",),
        assemble=stock,
        defaults={"max_num_word_swaps": 1},
    ),
    Recipe(
        name="textbugger",
        textattack_class="TextBuggerLi2018",
        citation="Li et al. 2019",
        url="https://arxiv.org/abs/1812.05271",
        bibtex_key="li2019textbugger",
        space="characters and words",
        needs=("stopwords", "counter-fitted-vectors", "sentence-encoder"),
        assemble=tuned,
        defaults={SIMILARITY: 0.8},
    ),
    *(
        Recipe(
            name=f"bad-characters-{kind}",
            textattack_class="BadCharacters2021",
            citation="Boucher et al. 2022",
            url="https://arxiv.org/abs/2106.09898",
            bibtex_key="boucher2022bad",
            space="invisible characters",
            needs=("homoglyphs",) if kind == "homoglyphs" else (),
            assemble=_bad_characters(kind),
            language=None,
            effort=2,
            defaults={"perturbs": 1, "popsize": 32, "maxiter": 10},
        )
        for kind in ("homoglyphs", "invisible", "deletions", "reorderings")
    ),
)
