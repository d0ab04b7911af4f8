"""Attack recipes, one file a family; each file registers its recipes when it is imported."""

from robustexit.attacks.recipes.base import (
    Recipe,
    RecipeStatus,
    check,
    check_combination,
    describe_recipes,
    describe_resources,
    effective_name,
    hash_resources,
    make_recipe,
    recipes,
    refused_combination,
    refused_language,
    require_ready,
)
from robustexit.discovery import import_all

import_all(__name__, __path__)

__all__ = [
    "Recipe",
    "RecipeStatus",
    "check",
    "check_combination",
    "describe_recipes",
    "describe_resources",
    "effective_name",
    "hash_resources",
    "make_recipe",
    "recipes",
    "refused_combination",
    "refused_language",
    "require_ready",
]
