"""WordNet's synonyms, in English and in the languages of the Open Multilingual Wordnet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final

from robustexit.attacks.components.install import in_recipes
from robustexit.attacks.textattack_api import WordSwapWordNet, wordnet

_LANGUAGES: Final = {"esp": "spa"}
"""ISO 639-3, as the Open Multilingual Wordnet names languages, by what TextAttack says instead."""
_REMEMBERED: Final = 2**14


class WordNetSynonyms(WordSwapWordNet):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's WordNet synonyms, in alphabetical order, in every language there is.

    TextAttack's own come in the order of a set of strings, which differs from process to process; so did every search
    that breaks ties by order. It refuses French and Spanish: NLTK knows no language but English before it has read
    the multilingual data, and names Spanish ``spa``, not ``esp``.

    Args:
        language: TextAttack's code of the language.
    """

    def __init__(self, language: str = "eng") -> None:
        language = _LANGUAGES.get(language, language)
        if language != "eng" and not wordnet.omw_langs:
            wordnet.add_omw()
        super().__init__(language)
        self._synonyms = lru_cache(maxsize=_REMEMBERED)(self._look_up)

    def _get_replacement_words(self, word: str, random: bool = False) -> list[str]:
        return list(self._synonyms(word))

    def _look_up(self, word: str) -> tuple[str, ...]:
        return tuple(sorted(super()._get_replacement_words(word)))


@contextmanager
def ordered() -> Iterator[None]:
    """Let TextAttack's recipes find these synonyms in the place of its own."""
    with in_recipes(WordSwapWordNet, WordNetSynonyms):
        yield
