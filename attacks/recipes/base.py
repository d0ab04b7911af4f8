"""Attack recipes by name: TextAttack's own search, transformation and constraints, rebuilt with our goal.

Listing and checking recipes does not import TextAttack.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from robustexit.attacks import resources
from robustexit.attacks.goals import Goal
from robustexit.attacks.resources import Resource
from robustexit.attacks.searches import OWN, searches
from robustexit.attacks.views import ANSWER, EXIT, GRADIENTS, SCORES, View
from robustexit.errors import ConfigError, did_you_mean
from robustexit.parameters import parse_call
from robustexit.registry import Registry

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.searches.counting import CountingAttack

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
        space: What it may change, in a word or two; tables group recipes by it and never rank across.
        needs: Names of the resources it reads.
        assemble: Builds the attack from the recipe, a goal function and the protected fields.
        own_goal: Name of the goal that is part of the recipe, or None if it takes any.
        language: Language of the texts it is made for (ISO 639-1), or None for any.
        white_box: It needs gradients.
        made_for: Views that its own search is made for.
        effort: What an attempt usually costs: 1 tens of queries, 2 hundreds, 3 thousands.
        window: Words below which its sentence constraint does not look at a text at all, or None.
        unsupported: Why it cannot run on a classifier at all, or None.
        defaults: Parameters, with the paper's values.
        parameters: Parameters changed from `defaults`.
        search: Search in the place of the recipe's own, by name; ``own`` keeps it.
    """

    name: str
    textattack_class: str
    citation: str
    url: str
    bibtex_key: str
    space: str
    needs: tuple[str, ...]
    assemble: Assemble = field(repr=False)
    own_goal: str | None = None
    language: str | None = "en"
    white_box: bool = False
    made_for: frozenset[str] = frozenset({"scores", "gradients"})
    effort: int = 1
    window: int | None = None
    unsupported: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict, hash=False)
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    search: str = OWN

    @property
    def settings(self) -> dict[str, Any]:
        """Every parameter with its value."""
        return {**self.defaults, **self.parameters}

    @property
    def label(self) -> str:
        """The name with what differs from its defaults: ``bad-characters-invisible(perturbs=2)``."""
        shown = dict(self.parameters) | ({} if self.search == OWN else {"search": self.search})
        changed = ", ".join(f"{name}={value}" for name, value in shown.items())
        return f"{self.name}({changed})" if changed else self.name

    def with_parameters(self, **parameters: Any) -> Recipe:
        """Return the recipe with other parameters, or another search; they become part of its label.

        Raises:
            ConfigError: A parameter the recipe does not have, or a value that is not of its default's kind.
        """
        search = parameters.pop("search", self.search)
        if search != OWN:
            searches.get(search)
        for name, value in parameters.items():
            if name not in self.defaults:
                known = ", ".join([*self.defaults, "search"])
                raise ConfigError(
                    f"recipe {self.name!r} has no parameter {name!r}{did_you_mean(name, [*self.defaults, 'search'])}; "
                    f"expected one of: {known}"
                )
            _check_parameter(f"recipe {self.name!r}", name, value, self.defaults[name])
        changed = {**self.parameters, **parameters}
        kept = {name: value for name, value in changed.items() if value != self.defaults[name]}
        return replace(self, parameters=kept, search=search)

    def weak_under(self, view: View, goal: Goal) -> bool:
        """Whether its search climbs a score that the view shows only as met or not met.

        A searcher that sees exits still climbs by them where the goal is after them; where it is not, the exit tells
        it nothing, and only a search made for answers alone is made for that.
        """
        graded = SCORES in view.shows or (EXIT in view.shows and EXIT in goal.needs)
        shown = view.name if EXIT in goal.needs else "label"
        return not graded and shown not in self.views_made_for

    @property
    def views_made_for(self) -> frozenset[str]:
        """Views that the search in use is made for."""
        return self.made_for if self.search == OWN else searches.get(self.search).made_for

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


recipes: Registry[Recipe] = Registry("recipe", "robustexit.recipes")
"""Recipes by name."""


def add(*members: Recipe) -> None:
    """Register recipes."""
    for member in members:
        recipes.register(member.name)(member)


def make_recipe(name: str, **parameters: Any) -> Recipe:
    """Return a recipe by name, with parameters (and another search) where given, in brackets or beside the name.

    Raises:
        ConfigError: Unknown name, parameter or search.
    """
    name, given = parse_call("recipe", name)
    recipe, given = recipes.get(name), {**given, **parameters}
    return recipe.with_parameters(**given) if given else recipe


def effective_name(recipe: Recipe | str) -> str:
    """Return the name for records: parameters changed and resources substituted on this machine stand in it.

    ``pwws`` with RobustExit's stop words in the place of NLTK's is ``pwws+robustexit-stopwords``, in random order
    ``pwws(search=random-order)+robustexit-stopwords``.

    Raises:
        ConfigError: Unknown recipe.
    """
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    return "+".join([recipe.label, *_substitutes([resources.find(need) for need in recipe.needs])])


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


def describe_recipes(given: Iterable[Recipe]) -> dict[str, dict[str, Any]]:
    """Describe recipes as plain values for a manifest, by label."""
    described: dict[str, dict[str, Any]] = {}
    for recipe in given:
        status = check(recipe)
        described[recipe.label] = {
            "effective_name": status.effective_name,
            "textattack_class": recipe.textattack_class,
            "citation": recipe.citation,
            "url": recipe.url,
            "bibtex_key": recipe.bibtex_key,
            "own_goal": recipe.own_goal,
            "space": recipe.space,
            "language": recipe.language,
            "made_for": sorted(recipe.views_made_for),
            "window": recipe.window,
            "settings": recipe.settings,
            "search": recipe.search,
            "needs": list(recipe.needs),
            "substitutes": list(status.substitutes),
        }
    return described


def describe_resources(given: Iterable[Recipe]) -> dict[str, dict[str, Any]]:
    """Describe the resources that recipes need as plain values for a manifest, by resource name."""
    needed = {need for recipe in given for need in recipe.needs}
    return {need: asdict(resources.find(need)) for need in sorted(needed)}


def hash_resources(given: Iterable[Recipe]) -> dict[str, str]:
    """Return the SHA-256 of every file that the user gave for a resource of the recipes, by resource name."""
    needed = sorted({need for recipe in given for need in recipe.needs})
    paths = {need: resources.configured_path(need) for need in needed}
    files = {need: path for need, path in paths.items() if path is not None and path.is_file()}
    return {need: hashlib.sha256(path.read_bytes()).hexdigest() for need, path in files.items()}


def check_combination(recipe: Recipe, goal: Goal, view: View) -> None:
    """Refuse a recipe with a goal or a view it cannot take.

    Raises:
        ConfigError: Naming them, and what fits.
    """
    reason = refused_combination(recipe, goal, view)
    if reason is not None:
        raise ConfigError(reason)


def refused_combination(recipe: Recipe, goal: Goal, view: View) -> str | None:
    """Return why a recipe, a goal and a view do not go together, or None if they do."""
    if recipe.unsupported is not None:
        return f"recipe {recipe.name!r} cannot attack a classifier: {recipe.unsupported}"
    if recipe.own_goal is not None and goal.name != recipe.own_goal:
        return f"recipe {recipe.name!r} keeps its own goal: expected goal {recipe.own_goal!r}, got {goal.label!r}"
    if goal.recipe is not None and recipe.name != goal.recipe:
        return f"goal {goal.name!r} belongs to recipe {goal.recipe!r}; choose another goal for {recipe.name!r}"
    unseen = sorted((goal.needs | {ANSWER}) - view.shows)
    if unseen:
        return f"goal {goal.label!r} needs the {' and the '.join(unseen)}, which the view {view.name!r} does not show"
    if recipe.white_box and GRADIENTS not in view.shows:
        return f"recipe {recipe.name!r} needs gradients; attack in the view 'gradients'"
    return None


def refused_language(recipe: Recipe, language: str) -> str | None:
    """Return why a recipe does not fit texts of a language (ISO 639-1), or None if it does."""
    if recipe.language is not None and recipe.language != language:
        return f"recipe {recipe.name!r} is made for texts in {recipe.language!r}, the data's language is {language!r}"
    return None


def _check_parameter(where: str, name: str, value: Any, default: Any) -> None:
    """Refuse a value of another kind than the default: a whole number from 1 on, a number, a word."""
    if isinstance(default, bool) or isinstance(value, bool):
        fits, expected = isinstance(default, bool) and isinstance(value, bool), "true or false"
    elif isinstance(default, int):
        fits, expected = isinstance(value, int) and value >= 1, "a whole number from 1 on"
    elif isinstance(default, float):
        fits, expected = isinstance(value, (int, float)) and value >= 0, "a number from 0 on"
    else:
        fits, expected = isinstance(value, str), "a name"
    if not fits:
        raise ConfigError(f"{where}: {name} must be {expected}, got {value!r}")
