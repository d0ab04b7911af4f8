"""Build TextAttack's parts with the resources of this machine: the one place where substitutes are put in.

A file of this folder registers how a resource gets into TextAttack's parts::

    @route("sentence-encoder")
    def minilm() -> AbstractContextManager[None]:
        if resources.find("sentence-encoder").found:
            return nullcontext()
        return in_recipes(UniversalSentenceEncoder, MiniLmSimilarity)

`prepared` enters the routes of what a recipe needs, and leaves them when the recipe is built, so that stock attacks
in the same process stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

from robustexit.attacks import resources
from robustexit.attacks.textattack_api import add_nltk_folder, attack_recipes, no_nltk_downloads
from robustexit.discovery import import_all
from robustexit.errors import ConfigError

Route = Callable[[], AbstractContextManager[None]]

_routes: dict[str, Route] = {}


def route(resource: str) -> Callable[[Route], Route]:
    """Return a decorator that registers how a resource, or what stands in for it, gets into TextAttack's parts.

    Args:
        resource: Name of the resource, as in `Recipe.needs`.

    Raises:
        ConfigError: The resource has another route already.
    """

    def register(enter: Route) -> Route:
        if _routes.get(resource, enter) is not enter:
            raise ConfigError(f"resource {resource!r} has two routes; keep one")
        _routes[resource] = enter
        return enter

    return register


@contextmanager
def prepared(needs: Sequence[str]) -> Iterator[None]:
    """Build TextAttack components within this context: resources in place, no download.

    Args:
        needs: Names of the resources the components read.

    Raises:
        ResourceError: One of them is missing, or cannot be read.
    """
    resources.require(needs)
    import_all("robustexit.attacks.components", [str(Path(__file__).parent)])
    with ExitStack() as stack:
        stack.enter_context(no_nltk_downloads())
        for need in needs:
            if need in _routes:
                stack.enter_context(_routes[need]())
        yield


@contextmanager
def in_recipes(stock: Any, ours: Any) -> Iterator[None]:
    """Let TextAttack's recipes find a part of ours under the name of theirs.

    Args:
        stock: The class that the recipes' modules import.
        ours: What they find there within this context; it is called as they call theirs.
    """
    prefix = f"{attack_recipes.__name__}."
    modules = [module for name, module in sys.modules.items() if name.startswith(prefix)]
    with ExitStack() as stack:
        for module in modules:
            for name in [name for name, value in vars(module).items() if value is stock]:
                stack.enter_context(mock.patch.object(module, name, ours))
        yield


@route("wordnet")
def wordnet() -> AbstractContextManager[None]:
    """NLTK reads the configured copy or its own; WordNet's own files are completed in our cache and shown to it."""
    add_nltk_folder(resources.wordnet_folder(), first=resources.configured("wordnet") is not None)
    return nullcontext()
