"""Whether each recipe can run on this machine, and the one thing that would let it; TextAttack is not imported."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from robustexit.attacks import resources
from robustexit.attacks.recipes import Recipe, effective_name, recipes
from robustexit.attacks.resources import Resource
from robustexit.errors import ConfigError, ResourceError

READY: Final = "ready"
SUBSTITUTED: Final = "ready with substitution"
MISSING: Final = "missing"
UNSUPPORTED: Final = "unsupported"


@dataclass(frozen=True)
class Diagnosis:
    """How one recipe stands on this machine.

    Attributes:
        recipe: Its name.
        textattack_class: The class of ``textattack.attack_recipes`` that it is, or empty if it is none.
        state: ``ready``, ``ready with substitution``, ``missing`` or ``unsupported``.
        effective_name: Its name in records.
        missing: What lacks, by resource name.
        substitutes: What stands in, by resource name.
        fix: The one command or setting that makes it ready, or without substitution; None if there is nothing to do.
        by_hand: What to do in the place of each download in `fix` for what is missing, by resource name.
        reason: Why it cannot attack a classifier at all, or None.
    """

    recipe: str
    textattack_class: str
    state: str
    effective_name: str
    missing: dict[str, str]
    substitutes: dict[str, str]
    fix: str | None
    by_hand: dict[str, str]
    reason: str | None

    @property
    def lines(self) -> list[str]:
        """What the state means and what to do about it, in a few lines."""
        if self.reason is not None:
            return [f"cannot attack a classifier: {self.reason}"]
        if self.missing:
            by_hand = [f"or by hand, for {name}: {way}" for name, way in self.by_hand.items()]
            return [f"lacks {', '.join(self.missing)}", f"do this: {self.fix}", *by_hand]
        if self.substitutes:
            return [f"recorded as {self.effective_name}", f"for the recipe itself: {self.fix}"]
        return []

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def diagnose(recipe: Recipe | str) -> Diagnosis:
    """Look how a recipe stands here.

    Raises:
        ConfigError: No recipe of that name.
    """
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    needed = [resources.find(need) for need in recipe.needs]
    missing = [resource for resource in needed if not resource.usable]
    replaced = [resource for resource in needed if resource.usable and not resource.found]
    if recipe.unsupported is not None:
        state = UNSUPPORTED
    elif missing:
        state = MISSING
    else:
        state = SUBSTITUTED if replaced else READY
    return Diagnosis(
        recipe=recipe.name,
        textattack_class=recipe.textattack_class,
        state=state,
        effective_name=effective_name(recipe),
        missing={resource.name: resource.where for resource in missing},
        substitutes={resource.name: resource.substitute or "" for resource in replaced},
        fix=None if recipe.unsupported is not None else _fix(recipe.name, missing or replaced),
        by_hand={resource.name: resource.how_to_get for resource in missing if resources.downloadable(resource.name)},
        reason=recipe.unsupported,
    )


def diagnose_all(names: Iterable[str] | None = None) -> list[Diagnosis]:
    """Look how recipes stand here; all of them by default, those of TextAttack first.

    Raises:
        ConfigError: No recipe of one of the names.
    """
    found = [diagnose(name) for name in (recipes.names() if names is None else names)]
    return sorted(found, key=lambda one: not one.textattack_class) if names is None else found


def refuse_unready(diagnosis: Diagnosis) -> None:
    """Refuse a recipe that cannot run here.

    Raises:
        ConfigError: It cannot attack a classifier at all.
        ResourceError: Something is missing; what, and what to do, in one line.
    """
    if diagnosis.state == UNSUPPORTED:
        raise ConfigError(f"recipe {diagnosis.recipe!r} {diagnosis.lines[0]}")
    if diagnosis.state == MISSING:
        lacks = "; ".join(f"{name} ({where})" for name, where in diagnosis.missing.items())
        raise ResourceError(f"recipe {diagnosis.recipe!r} lacks {lacks}; do this: {diagnosis.fix}")


def fetchable(names: Iterable[str] | None = None) -> list[str]:
    """Return the resources that recipes need, that are not found here and that a download brings, sorted.

    Args:
        names: Names of recipes; all that can attack a classifier by default.

    Raises:
        ConfigError: No recipe of one of the names.
    """
    asked = [recipes.get(name) for name in (recipes.names() if names is None else names)]
    needs = sorted({need for recipe in asked if recipe.unsupported is None for need in recipe.needs})
    return [need for need in needs if resources.downloadable(need) and not resources.find(need).found]


def _fix(recipe: str, lacking: list[Resource]) -> str | None:
    """What to do about everything that lacks: one command where downloads bring all of it."""
    if not lacking:
        return None
    by_hand = [resource for resource in lacking if not resources.downloadable(resource.name)]
    steps = [resource.how_to_get for resource in by_hand]
    if len(by_hand) < len(lacking):
        steps.append(f"robustexit doctor {recipe} --fetch")
    return "; then ".join(steps)
