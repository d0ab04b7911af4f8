"""WordNet's synonyms in the languages of the Open Multilingual Wordnet."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from robustexit.attacks.components.install import in_recipes
from robustexit.attacks.textattack_api import WordSwapWordNet, wordnet

_LANGUAGES: Final = {"esp": "spa"}
"""ISO 639-3, as the Open Multilingual Wordnet names languages, by what TextAttack says instead."""


class WordNetSynonyms(WordSwapWordNet):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's WordNet synonyms, in every language there is.

    TextAttack's own refuses French and Spanish: NLTK knows no language but English before it has read the multilingual
    data, and names Spanish ``spa``, not ``esp``.

    Args:
        language: TextAttack's code of the language.
    """

    def __init__(self, language: str = "eng") -> None:
        language = _LANGUAGES.get(language, language)
        if language != "eng" and not wordnet.omw_langs:
            wordnet.add_omw()
        super().__init__(language)


def every_language() -> AbstractContextManager[None]:
    """Let TextAttack's recipes find these synonyms in the place of its own."""
    return in_recipes(WordSwapWordNet, WordNetSynonyms)
