"""One typo a word, from a dictionary of typos that people made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

from robustexit.attacks import resources
from robustexit.attacks.sets.base import ANY_TASK, Edit, PerturbationSet, perturbation_sets
from robustexit.attacks.sets.words import lexicon, like, reads_as_words, typo_dictionary, word_spans
from robustexit.parameters import require_count


@perturbation_sets.register("typos")
@dataclass(frozen=True)
class Typos(PerturbationSet):
    """A word for one of its typos: a few slips away, no word itself, and a typo of no other word.

    Sound as far as a typo that is no word lets its reader find the word that was meant. So ``not`` has ``noct`` but
    neither ``now`` nor ``note`` (words) nor ``dont'n`` (three slips), and a typo that the dictionary has for two words
    is left out.

    Attributes:
        dictionary: File of lines ``word typo typo ...``; the resource ``typo-dictionary`` by default.
        words: File of the words there are; WordNet by default. The dictionary's own words count in any case.
        slips: Letters inserted, left out, changed or swapped with their neighbour, at most.
    """

    name: ClassVar[str] = "typos"
    source: ClassVar[str] = "natural typos as in Zéroe, Eger and Benz 2020, AACL, arXiv 2010.05648"
    sound_for: ClassVar[tuple[str, ...]] = (ANY_TASK,)
    why: ClassVar[str] = "a typo that is no word, and a typo of one word only, leaves its reader with that word"
    dictionary: str = ""
    words: str = ""
    slips: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(f"set {self.name!r}", "slips", self.slips)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the resources that it reads."""
        return (*(() if self.words else ("wordnet",)), *(() if self.dictionary else ("typo-dictionary",)))

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield the typos of every word."""
        typos = sound_typos(self.dictionary or _configured(), self.words, self.slips)
        for start, end in word_spans(text):
            for typo in typos.get(text[start:end].lower(), ()):
                yield start, end, like(typo, text[start:end])


def _configured() -> str:
    resources.require(["typo-dictionary"])
    return str(resources.configured_path("typo-dictionary"))


@lru_cache(maxsize=4)
def sound_typos(dictionary: str, words: str, slips: int) -> Mapping[str, tuple[str, ...]]:
    """Return the typos of a dictionary that leave no doubt about their word, by word, in its order.

    Args:
        dictionary: The dictionary's file.
        words: File of words; WordNet if empty.
        slips: Restricted edit distance between word and typo, at most.

    Raises:
        ResourceError: A file or WordNet is missing.
    """
    from rapidfuzz.distance import OSA

    listed, known = typo_dictionary(dictionary), lexicon(words)
    of = Counter(typo for wrong in listed.values() for typo in wrong)
    return {
        word: kept
        for word, wrong in listed.items()
        if (
            kept := tuple(
                typo
                for typo in wrong
                if of[typo] == 1
                and typo not in listed
                and word_spans(typo) == [(0, len(typo))]
                and OSA.distance(word, typo) <= slips
                and not reads_as_words(typo, known)
            )
        )
    }
