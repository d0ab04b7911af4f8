"""Words swapped for synonyms of any of their senses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from robustexit.attacks.sets.base import Edit, PerturbationSet, perturbation_sets
from robustexit.attacks.sets.words import loaded_wordnet, word_spans


@perturbation_sets.register("synonyms")
@dataclass(frozen=True)
class Synonyms(PerturbationSet):
    """WordNet's single-word synonyms of every sense of a word, as TextAttack's WordNet swap proposes them."""

    name: ClassVar[str] = "synonyms"
    source: ClassVar[str] = "the space of PWWS, Ren et al. 2019, ACL, doi 10.18653/v1/P19-1103"
    sound_for: ClassVar[tuple[str, ...]] = ()
    why: ClassVar[str] = "not sound: synonyms of another sense, or of another strength, may change the label"

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the resources that it reads."""
        return ("wordnet",)

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield the synonyms of every word."""
        for start, end in word_spans(text):
            for new in synonyms_of(text[start:end]):
                yield start, end, new


@lru_cache(maxsize=2**14)
def synonyms_of(word: str) -> tuple[str, ...]:
    """Return WordNet's single-word synonyms of a word, sorted.

    Raises:
        ResourceError: WordNet is missing.
    """
    from robustexit.attacks.textattack_api import words_from_text

    found = {name for synset in loaded_wordnet().synsets(word) for name in synset.lemma_names()}
    return tuple(sorted(n for n in found if n != word and "_" not in n and len(words_from_text(n)) == 1))
