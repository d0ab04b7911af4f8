"""What is done to a text: resources, recipes, goals and attempts.

Importing this package is light. `Attacker` and what else needs TextAttack is loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from robustexit.attacks.goals import Goal, goals, make_goal
from robustexit.attacks.limits import Limits
from robustexit.attacks.recipes import (
    Recipe,
    RecipeStatus,
    check,
    check_combination,
    effective_name,
    make_recipe,
    recipes,
)
from robustexit.attacks.resources import Resource
from robustexit.attacks.views import VIEWS, View, get_view

if TYPE_CHECKING:
    from robustexit.attacks.attempt import Attacker, AttemptResult, attempt_seed

_LAZY = ("Attacker", "AttemptResult", "attempt_seed")


def __getattr__(name: str) -> Any:
    """Load what needs TextAttack when it is asked for."""
    if name in _LAZY:
        from robustexit.attacks import attempt

        return getattr(attempt, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "VIEWS",
    "Attacker",
    "AttemptResult",
    "Goal",
    "Limits",
    "Recipe",
    "RecipeStatus",
    "Resource",
    "View",
    "attempt_seed",
    "check",
    "check_combination",
    "effective_name",
    "get_view",
    "goals",
    "make_goal",
    "make_recipe",
    "recipes",
]
