"""Single characters of a word swapped, changed, left out or inserted."""

from __future__ import annotations

import string
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from robustexit.attacks.sets.base import ANY_TASK, Edit, PerturbationSet, perturbation_sets
from robustexit.attacks.sets.words import lexicon, reads_as_words, word_spans
from robustexit.errors import ConfigError


def single_edits(word: str, letters: str) -> Iterator[str]:
    """Yield every word one edit away: neighbours swapped, a character changed, left out, a letter inserted.

    Args:
        word: The word; one of fewer than two characters has none, as in TextAttack's DeepWordBug.
        letters: What may be put in.
    """
    if len(word) < 2:
        return
    for i in range(len(word) - 1):
        yield word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    for i in range(len(word)):
        for letter in letters:
            yield word[:i] + letter + word[i + 1 :]
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]
    for i in range(len(word) + 1):
        for letter in letters:
            yield word[:i] + letter + word[i:]


@dataclass(frozen=True)
class _CharacterEdits(PerturbationSet):
    letters: str = string.ascii_letters

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.letters or not self.letters.isalpha():
            raise ConfigError(f"set {self.name!r}: expected letters to put in, e.g. abc, got {self.letters!r}")


@perturbation_sets.register("any-character-edit")
@dataclass(frozen=True)
class AnyCharacterEdit(_CharacterEdits):
    """Every word with any one character edit: all that DeepWordBug could draw, and nothing else.

    TextAttack's DeepWordBug draws one edit of each kind for a word, inserts before a character and takes letters of
    both cases; the authors' inserts behind the last one too, and takes small letters. This set holds both. An uncased
    model cannot tell the cases apart: small letters alone are then half the texts and the same answers.

    Attributes:
        letters: What may be put in.
    """

    name: ClassVar[str] = "any-character-edit"
    source: ClassVar[str] = "the space of DeepWordBug, Gao et al. 2018, SPW, arXiv 1801.04354"
    sound_for: ClassVar[tuple[str, ...]] = ()
    why: ClassVar[str] = "not sound: an edit may make another word (not, now)"

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield the edits of every word."""
        for start, end in word_spans(text):
            for new in single_edits(text[start:end], self.letters):
                yield start, end, new


@perturbation_sets.register("character-edits")
@dataclass(frozen=True)
class CharacterEdits(_CharacterEdits):
    """Character edits of which no word comes: ``not`` has ``nto``, but neither ``now`` nor ``no``.

    Sound as far as what is no word lets its reader find the word that was meant. Of words without digits only, and
    a result that can be read as words in its parts (``can'``, ``ell-made``) counts as words.

    Attributes:
        letters: What may be put in.
        words: File of the words there are; WordNet by default.
    """

    name: ClassVar[str] = "character-edits"
    source: ClassVar[str] = "after Pruthi et al. 2019, ACL, arXiv 1905.11268, with the words taken out"
    sound_for: ClassVar[tuple[str, ...]] = (ANY_TASK,)
    why: ClassVar[str] = "one edit away from its word and no word itself, it leaves its reader with that word"
    letters: str = string.ascii_lowercase
    words: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the resources that it reads."""
        return () if self.words else ("wordnet",)

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield the edits of every word."""
        known = lexicon(self.words)
        for start, end in word_spans(text):
            word = text[start:end]
            if any(character.isdigit() for character in word):
                continue
            for new in single_edits(word, self.letters):
                if (
                    word_spans(new) == [(0, len(new))]
                    and new.lower() != word.lower()
                    and not reads_as_words(new, known)
                ):
                    yield start, end, new
