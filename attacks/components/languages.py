"""What the French and Spanish recipes read: WordNets and stop words of their language."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.resources.language_stopwords import language_stopwords
from robustexit.attacks.textattack_api import StopwordModification, add_nltk_folder


@route("omw")
def omw() -> AbstractContextManager[None]:
    """Show the multilingual WordNet to NLTK, also where it lies in a folder of the user's."""
    add_nltk_folder(Path(resources.find("omw").where))
    return nullcontext()


def _stopwords_of(language: str) -> Callable[[], AbstractContextManager[None]]:
    """Stop words of a language. TextAttack takes the name "french" itself for the list: f, r, e, n, c, h."""

    def constraint(stopwords: Iterable[str] | str | None = None) -> Any:
        listed = language_stopwords(language) if stopwords is None or isinstance(stopwords, str) else stopwords
        return StopwordModification(stopwords=listed)

    def enter() -> AbstractContextManager[None]:
        return in_recipes(StopwordModification, constraint)

    return enter


route("stopwords-french")(_stopwords_of("french"))
route("stopwords-spanish")(_stopwords_of("spanish"))
