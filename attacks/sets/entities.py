"""Names of people and places swapped for others of their kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Final

from robustexit.attacks.sets.base import Edit, PerturbationSet, perturbation_sets
from robustexit.attacks.sets.words import closed_classes, loaded_wordnet, word_spans
from robustexit.parameters import require_count

KINDS: Final = ("country", "nationality", "city", "first", "last")
"""TextAttack's lists, in the order in which a word that stands on several is taken."""


@perturbation_sets.register("entities")
@dataclass(frozen=True)
class Entities(PerturbationSet):
    """Countries, nationalities, cities, first and last names of TextAttack's lists, each for others of its list.

    No tagger decides what a name is, for a wrong one would break the soundness: a name is what stands on a list and
    is no common word of WordNet in lower case (``grace``, ``orange`` and ``john`` are), or a capitalised first name
    followed by a capitalised last name. What is a place outside the lists (``paris``) is not swapped for a person.
    Replacements are the first `options` of the list that are no common words;
    CheckList draws ten, and changes every occurrence at once.

    Attributes:
        options: Replacements of each name.
    """

    name: ClassVar[str] = "entities"
    source: ClassVar[str] = "CheckList's invariance tests, Ribeiro et al. 2020, ACL, arXiv 2005.04118"
    sound_for: ClassVar[tuple[str, ...]] = ("sentiment",)
    why: ClassVar[str] = "whom and where a text is about does not change what it thinks of it; topic and inference may"
    options: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(f"set {self.name!r}", "options", self.options)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the resources that it reads."""
        return ("wordnet",)

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield the swaps of every name."""
        for start, end, kind in _names(text):
            found = text[start:end]
            for new in _replacements(kind, found.lower(), self.options):
                yield start, end, new.lower() if found == found.lower() else new


def _names(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield where names stand and of which kind they are, the longest first at each word."""
    spans = word_spans(text)
    position = 0
    while position < len(spans):
        found = next(
            ((count, kind) for count in (3, 2, 1) if (kind := _kind(text, spans[position : position + count], count))),
            None,
        )
        if found and found[1] == "pair":
            yield *spans[position], "first"
            yield *spans[position + 1], "last"
        elif found:
            yield spans[position][0], spans[position + found[0] - 1][1], found[1]
        position += found[0] if found else 1


def _kind(text: str, spans: list[tuple[int, int]], count: int) -> str | None:
    """Return the list that `count` words stand on, ``pair`` for a first and a last name, or None."""
    if len(spans) < count:
        return None
    words = [text[start:end] for start, end in spans]
    phrase = text[spans[0][0] : spans[-1][1]]
    lists = _lists()
    kind = next((kind for kind in KINDS if phrase.lower() in lists[kind]), None)
    capitalised = all(word[:1].isupper() and word[1:].islower() for word in words)
    if kind is not None and not all(map(_common, words)):
        return None if kind in ("first", "last") and _place(phrase) else kind
    if kind is not None and count > 1 and capitalised:
        return kind
    is_pair = count == 2 and phrase == " ".join(words) and capitalised
    if is_pair and words[0].lower() in lists["first"] and words[1].lower() in lists["last"]:
        return "pair"
    return None


@lru_cache(maxsize=1)
def _lists() -> Mapping[str, Mapping[str, str]]:
    """Return TextAttack's English lists by kind: lower case -> as it is written, in their order."""
    from robustexit.attacks.textattack_api import NAMED_ENTITIES, PERSON_NAMES

    return {kind: {name.lower(): name for name in (NAMED_ENTITIES | PERSON_NAMES)[kind]} for kind in KINDS}


@lru_cache(maxsize=2**14)
def _common(word: str) -> bool:
    """Whether a word, in lower case, is an English word as well as a name."""
    word, wordnet = word.lower(), loaded_wordnet()
    forms = {word, *(form for part in "nvar" if (form := wordnet.morphy(word, part)))}
    lemmas = {lemma for synset in wordnet.synsets(word) for lemma in synset.lemma_names()}
    plural = len(word) > 3 and word.endswith("s") and _common(word[:-1])  # WordNet knows Sessions, the composer
    return plural or word in closed_classes() or bool(forms & lemmas)


@lru_cache(maxsize=2**14)
def _place(word: str) -> bool:
    """Whether a name is one of a place as well, as far as WordNet knows."""
    return any(synset.lexname() == "noun.location" for synset in loaded_wordnet().synsets(word))


@lru_cache(maxsize=2**12)
def _replacements(kind: str, name: str, options: int) -> tuple[str, ...]:
    """Return the first names of a list that are neither common words nor the name itself."""
    found: list[str] = []
    for lower, written in _lists()[kind].items():
        if len(found) == options:
            break
        if lower != name and not all(map(_common, lower.split())):
            found.append(written)
    return tuple(found)
