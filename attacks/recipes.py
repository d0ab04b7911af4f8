"""Attack recipes by name: TextAttack's own search, transformation and constraints, rebuilt with our goal.

Listing and checking recipes does not import TextAttack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from robustexit.attacks import resources
from robustexit.attacks.goals import Goal
from robustexit.attacks.resources import Resource
from robustexit.errors import ConfigError, did_you_mean
from robustexit.registry import Registry

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches import CountingAttack

Assemble = Callable[["Recipe", "TraceGoalFunction", tuple[str, ...]], "CountingAttack"]


@dataclass(frozen=True)
class Recipe:
    """One attack recipe.

    Attributes:
        name: Name in campaigns.
        textattack_class: Class of ``textattack.attack_recipes`` that it is.
        citation: Short citation.
        url: Where the paper is.
        bibtex_key: Key for a bibliography.
        needs: Names of the resources it reads.
        assemble: Builds the attack from the recipe, a goal function and the protected fields.
        own_goal: Name of the goal that is part of the recipe, or None if it takes any.
        defaults: Parameters, with the paper's values.
        parameters: Parameters changed from `defaults`.
    """

    name: str
    textattack_class: str
    citation: str
    url: str
    bibtex_key: str
    needs: tuple[str, ...]
    assemble: Assemble = field(repr=False)
    own_goal: str | None = None
    defaults: Mapping[str, int] = field(default_factory=dict, hash=False)
    parameters: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def settings(self) -> dict[str, int]:
        """Every parameter with its value."""
        return {**self.defaults, **self.parameters}

    def with_parameters(self, **parameters: int) -> Recipe:
        """Return the recipe with other parameters; they become part of its effective name.

        Raises:
            ConfigError: A parameter the recipe does not have, or a value that is no positive whole number.
        """
        for name, value in parameters.items():
            if name not in self.defaults:
                known = ", ".join(self.defaults) or "none"
                raise ConfigError(
                    f"recipe {self.name!r} has no parameter {name!r}{did_you_mean(name, self.defaults)}; "
                    f"expected one of: {known}"
                )
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"recipe {self.name!r}: {name} must be a whole number from 1 on, got {value!r}")
        changed = {**self.parameters, **parameters}
        kept = {name: value for name, value in changed.items() if value != self.defaults[name]}
        return replace(self, parameters=kept)

    def build(self, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...] = ()) -> CountingAttack:
        """Build the attack: the stock recipe's constraints, transformation and search with our goal.

        Args:
            goal_function: Goal over the victim; its wrapper knows the field names.
            protected_fields: Fields that no candidate may change.

        Raises:
            ResourceError: A resource is missing.
            ConfigError: A protected field does not exist, or nothing is left to attack.
        """
        names = goal_function.model.field_names
        for name in protected_fields:
            if name not in names:
                raise ConfigError(
                    f"cannot protect field {name!r}{did_you_mean(name, names)}; the fields are: {', '.join(names)}"
                )
        if set(names) <= set(protected_fields):
            raise ConfigError(f"every field is protected ({', '.join(names)}); leave one to attack")
        return self.assemble(self, goal_function, protected_fields)


def _stock(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
    """Build TextAttack's recipe and rebuild it around our goal (a built attack keeps its goal in its search)."""
    from robustexit.attacks.searches import CountingAttack
    from robustexit.attacks.textattack_api import InputColumnModification, prepared, stock_attack

    with prepared(recipe.needs):
        stock = stock_attack(recipe.textattack_class, goal_function.model, recipe.settings)
    constraints = [*stock.constraints, *stock.pre_transformation_constraints]
    if protected_fields:
        # TextAttack's constraint does nothing unless it is told exactly the names that the inputs have.
        names = list(goal_function.model.field_names)
        constraints.append(InputColumnModification(names, set(protected_fields)))
    return CountingAttack(goal_function, constraints, stock.transformation, stock.search_method)


def _bad_characters(kind: str) -> Assemble:
    """BadCharacters2021 with one kind of perturbation; its build takes only goals of its own."""

    def assemble(recipe: Recipe, goal_function: TraceGoalFunction, protected_fields: tuple[str, ...]) -> CountingAttack:
        from robustexit.attacks.searches import (
            CountingAttack,
            EvolutionUntilMet,
            FieldwiseEvolution,
            TableHomoglyphs,
        )
        from robustexit.attacks.textattack_api import prepared, stock_attack

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
        return CountingAttack(goal_function, [], FieldwiseEvolution(inner, protected_fields), search)

    return assemble


recipes: Registry[Recipe] = Registry("recipe", "robustexit.recipes")
"""Recipes by name."""

_MEMBERS: Final = (
    Recipe(
        "deepwordbug",
        "DeepWordBugGao2018",
        "Gao et al. 2018",
        "https://arxiv.org/abs/1801.04354",
        "gao2018deepwordbug",
        ("stopwords",),
        _stock,
    ),
    Recipe(
        "pruthi",
        "Pruthi2019",
        "Pruthi et al. 2019",
        "https://arxiv.org/abs/1905.11268",
        "pruthi2019combating",
        ("stopwords",),
        _stock,
        defaults={"max_num_word_swaps": 1},
    ),
    Recipe(
        "input-reduction",
        "InputReductionFeng2018",
        "Feng et al. 2018",
        "https://arxiv.org/abs/1804.07781",
        "feng2018pathologies",
        ("stopwords",),
        _stock,
        own_goal="input-reduction",
    ),
    Recipe(
        "pwws",
        "PWWSRen2019",
        "Ren et al. 2019",
        "https://doi.org/10.18653/v1/P19-1103",
        "ren2019generating",
        ("stopwords", "wordnet"),
        _stock,
    ),
    Recipe(
        "textfooler",
        "TextFoolerJin2019",
        "Jin et al. 2020",
        "https://arxiv.org/abs/1907.11932",
        "jin2020bert",
        ("counter-fitted-vectors", "sentence-encoder", "pos-tagger"),
        _stock,
    ),
    *(
        Recipe(
            f"bad-characters-{kind}",
            "BadCharacters2021",
            "Boucher et al. 2022",
            "https://arxiv.org/abs/2106.09898",
            "boucher2022bad",
            ("homoglyphs",) if kind == "homoglyphs" else (),
            _bad_characters(kind),
            defaults={"perturbs": 1, "popsize": 32, "maxiter": 10},
        )
        for kind in ("homoglyphs", "invisible", "deletions", "reorderings")
    ),
)
for _member in _MEMBERS:
    recipes.register(_member.name)(_member)


def make_recipe(name: str, **parameters: int) -> Recipe:
    """Return a recipe by name, with parameters where given.

    Raises:
        ConfigError: Unknown name or parameter.
    """
    recipe = recipes.get(name)
    return recipe.with_parameters(**parameters) if parameters else recipe


def effective_name(recipe: Recipe | str) -> str:
    """Return the name for records: parameters changed and resources substituted on this machine stand in it.

    ``pwws`` with RobustExit's stop words in the place of NLTK's is ``pwws+robustexit-stopwords``.

    Raises:
        ConfigError: Unknown recipe.
    """
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    changed = ", ".join(f"{name}={value}" for name, value in recipe.parameters.items())
    name = f"{recipe.name}({changed})" if changed else recipe.name
    return "+".join([name, *_substitutes([resources.find(need) for need in recipe.needs])])


def _substitutes(needed: list[Resource]) -> tuple[str, ...]:
    return tuple(r.substitute for r in needed if not r.found and r.substitute is not None)


@dataclass(frozen=True)
class RecipeStatus:
    """Whether a recipe can run on this machine.

    Attributes:
        name: The recipe.
        effective_name: Its name in records.
        ready: Every resource, or its substitute, is here.
        missing: Names of the resources that are not here and have no substitute.
        substitutes: Names of what stands in.
        fix: What to do about the first missing resource, else None.
    """

    name: str
    effective_name: str
    ready: bool
    missing: tuple[str, ...]
    substitutes: tuple[str, ...]
    fix: str | None


def check(recipe: Recipe | str) -> RecipeStatus:
    """Look whether a recipe can run here, without importing TextAttack.

    Raises:
        ConfigError: Unknown recipe.
    """
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    needed = [resources.find(need) for need in recipe.needs]
    missing = [resource for resource in needed if not resource.usable]
    return RecipeStatus(
        recipe.name,
        effective_name(recipe),
        not missing,
        tuple(resource.name for resource in missing),
        _substitutes(needed),
        missing[0].how_to_get if missing else None,
    )


def require_ready(recipe: Recipe | str) -> str:
    """Refuse a recipe that cannot run here; return its effective name otherwise.

    Raises:
        ConfigError: Unknown recipe.
        ResourceError: One line: what is missing and how to get it.
    """
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    resources.require(recipe.needs)
    return effective_name(recipe)


def describe_recipes(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Describe recipes as plain values for a manifest, by name.

    Raises:
        ConfigError: Unknown recipe.
    """
    described: dict[str, dict[str, Any]] = {}
    for name in names:
        recipe, status = recipes.get(name), check(name)
        described[name] = {
            "effective_name": status.effective_name,
            "textattack_class": recipe.textattack_class,
            "citation": recipe.citation,
            "url": recipe.url,
            "bibtex_key": recipe.bibtex_key,
            "own_goal": recipe.own_goal,
            "settings": recipe.settings,
            "needs": list(recipe.needs),
            "substitutes": list(status.substitutes),
        }
    return described


def describe_resources(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Describe the resources that recipes need as plain values for a manifest, by resource name.

    Args:
        names: Names of recipes.

    Raises:
        ConfigError: Unknown recipe.
    """
    needed = {need for name in names for need in recipes.get(name).needs}
    return {need: asdict(resources.find(need)) for need in sorted(needed)}


def check_combination(recipe: Recipe, goal: Goal) -> None:
    """Refuse a recipe with a goal it cannot take.

    Raises:
        ConfigError: Naming both, and the one that fits.
    """
    if recipe.own_goal is not None and goal.name != recipe.own_goal:
        raise ConfigError(
            f"recipe {recipe.name!r} keeps its own goal: expected goal {recipe.own_goal!r}, got {goal.name!r}"
        )
    if goal.recipe is not None and recipe.name != goal.recipe:
        raise ConfigError(
            f"goal {goal.name!r} belongs to recipe {goal.recipe!r}; choose another goal for {recipe.name!r}"
        )
