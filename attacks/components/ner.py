"""Names of people and places: flair's taggers, or rules over TextAttack's own lists where they are not to be had."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, lru_cache, partial
from itertools import pairwise
from typing import Any, Final

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.components.tagged import Tag, TaggedText
from robustexit.attacks.textattack_api import (
    NAMED_ENTITIES,
    PERSON_NAMES,
    WordSwapChangeLocation,
    WordSwapChangeName,
    lemminflect,
    load_flair_tagger,
    words_from_text,
)

_OUTSIDE: Final = Tag("O", 0.0)
_ENDS: Final = re.compile(r"[.!?…:;\n\"“”«»¿¡()\[\]{}|]|--|—")
_ALTERNATIVES: Final = re.compile(r"[\t/,]| ou ")
_LISTS: Final = {"en": "", "fr": "-french", "es": "-spanish"}
_CODES: Final = {"en": "en", "fra": "fr", "esp": "es"}
"""ISO 639-1 by TextAttack's codes."""

Tagger = Callable[[str], Sequence[Tag]]


class RuleNer:
    """Tags names of people and places in the scheme of flair's taggers (B-, I-, E-, S- with PER and LOC, else O).

    A word is looked at only if it starts with a capital, which tells nothing where a sentence starts, nor where most
    words of the sentence have one, as in headlines. Then

    - a country of TextAttack's list is a place, and so is a city of several words; a city of one word needs a capital
      that tells and no entry in the dictionary ("Mobile"), or a preposition before it;
    - a first name of TextAttack's list, with the initials and names after it, is a person; if it is in the dictionary
      ("Grace"), after such a preposition, or its capital tells nothing, only with a last name of the list after it; so
      are the names after a title;
    - what a word like "Inc" follows is a company, and not tagged; nor are months and days.

    The dictionary is lemminflect's, and English; French and Spanish common nouns have no capitals. Tags are sure or
    absent (score 1 or 0), and depend on the text alone.

    Args:
        language: Language of the texts: ``en``, ``fr`` or ``es``.
    """

    def __init__(self, language: str) -> None:
        suffix = _LISTS[language]
        self._countries = _phrases(NAMED_ENTITIES[f"country{suffix}"])
        self._places = self._countries | _phrases(NAMED_ENTITIES["city"])
        self._longest = max(map(len, self._places))
        no_names = _context("no-names", language)
        self._first = _single_words(PERSON_NAMES[f"first{suffix}"]) - no_names
        self._last = _single_words(PERSON_NAMES[f"last{suffix}"]) - no_names
        self._titles = _context("titles", language)
        self._before_places = _context("before-places", language)
        self._companies = _context("after-companies", language)
        self._in_dictionary = _in_dictionary if language == "en" else lambda word: False
        self.tags = lru_cache(maxsize=2**10)(self._tag)

    def _tag(self, text: str) -> tuple[Tag, ...]:
        """Return one tag for each of a text's words, as TextAttack splits it."""
        words = words_from_text(text)
        gaps = _gaps(text, words)
        tags = [_OUTSIDE] * len(words)
        for sentence in self._sentences(words, gaps):
            capitals = [words[i][0].isupper() for i in sentence if len(words[i]) > 1]
            headline = sum(capitals) * 2 > len(capitals)
            i = sentence.start
            while i < sentence.stop:
                tells = not headline and i > sentence.start
                kind, end = self._at(words, gaps, i, sentence.stop, tells)
                if kind:
                    tags[i:end] = _scheme(kind, end - i)
                i = max(end, i + 1)
        return tuple(tags)

    def _sentences(self, words: list[str], gaps: list[str]) -> Iterator[range]:
        starts = [
            i for i in range(len(words)) if i == 0 or (_ENDS.search(gaps[i]) and not self._abbreviated(words[i - 1]))
        ]
        for start, stop in pairwise([*starts, len(words)]):
            yield range(start, stop)

    def _abbreviated(self, word: str) -> bool:
        return word in self._titles or (len(word) == 1 and word.isupper())

    def _at(self, words: list[str], gaps: list[str], i: int, stop: int, tells: bool) -> tuple[str, int]:
        """Return what name starts at a word ("" if none) and where it ends."""
        if not words[i][0].isupper() or words[i] in self._titles:
            return "", i
        stop = self._touching(words, gaps, i, stop)
        person = self._person(words, i, stop, tells)
        place = self._place(words, i, stop, tells)
        kind, end = ("PER", person) if person > max(place, i + 1) or not place else ("LOC", place)
        if kind == "PER" and not person:
            return "", i
        return ("", end) if end < stop and words[end] in self._companies else (kind, end)

    def _touching(self, words: list[str], gaps: list[str], i: int, stop: int) -> int:
        """Return where the run of words ends that nothing but spaces (or the dot of an initial) separates."""
        for j in range(i + 1, stop):
            if gaps[j].strip(" ") not in ({"", "."} if self._abbreviated(words[j - 1]) else {""}):
                return j
        return stop

    def _place(self, words: list[str], i: int, stop: int, tells: bool) -> int:
        for length in range(min(self._longest, stop - i), 0, -1):
            name = tuple(words[i : i + length])
            if name in self._places:
                sure = length > 1 or name in self._countries or (tells and not self._in_dictionary(words[i]))
                return i + length if sure or self._placed(words, i) else 0
        return 0

    def _person(self, words: list[str], i: int, stop: int, tells: bool) -> int:
        titled = i > 0 and words[i - 1] in self._titles
        if words[i] not in self._first and not titled:
            return 0
        unknown = tells and (words[i],) not in self._places
        end = i + 1
        while end < stop and self._goes_on(words[end], unknown):
            end += 1
        while len(words[end - 1]) == 1 and end > i + 1:
            end -= 1
        named = end - i > 1 and words[end - 1] in self._last
        alone = tells and not self._in_dictionary(words[i]) and not self._placed(words, i)
        return end if titled or named or alone else 0

    def _placed(self, words: list[str], i: int) -> bool:
        return i > 0 and words[i - 1].lower() in self._before_places

    def _goes_on(self, word: str, unknown: bool) -> bool:
        """Whether a word goes on with a name: a known one, an initial, or (`unknown`) one that is no other word."""
        if not word[0].isupper() or word in self._companies:
            return False
        known = word in self._last or word in self._first or len(word) == 1
        return known or (unknown and word.isalpha() and not word.isupper() and not self._in_dictionary(word))


@lru_cache(maxsize=2**14)
def _in_dictionary(word: str) -> bool:
    return bool(lemminflect.getAllLemmas(word.lower()))


def _context(kind: str, language: str) -> frozenset[str]:
    """Return the packaged words of one kind."""
    lines = (resources.PACKAGED / "name_context.txt").read_text("utf-8").splitlines()
    rows = [line.split() for line in lines if line.startswith(f"{kind} {language} ")]
    return frozenset(word for _, _, *words in rows for word in words)


def _phrases(names: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """Return names as words; TextAttack's lists hold alternatives in one entry ("Birmania / Myanmar")."""
    return frozenset(tuple(part.split()) for name in names for part in _alternatives(name))


def _alternatives(entry: str) -> list[str]:
    return [part.strip() for part in _ALTERNATIVES.split(entry) if part.strip()]


def _single_words(names: Sequence[str]) -> frozenset[str]:
    return frozenset(name for name in names if " " not in name)


def _gaps(text: str, words: list[str]) -> list[str]:
    """Return what stands before each word."""
    gaps, position = [], 0
    for word in words:
        start = text.index(word, position)
        gaps.append(text[position:start])
        position = start + len(word)
    return gaps


def _scheme(kind: str, length: int) -> list[Tag]:
    marks = "S" if length == 1 else "B" + "I" * (length - 2) + "E"
    return [Tag(f"{mark}-{kind}", 1.0) for mark in marks]


class ChangeName(WordSwapChangeName):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's change of names, with tags from anywhere.

    Args:
        tags: Tags of a text's words, or None for flair's, which TextAttack asks for itself.
        language: TextAttack's code of the language: ``en``, ``fra``, ``esp``.
    """

    def __init__(self, tags: Tagger | None, language: str = "en") -> None:
        super().__init__(language=language)
        self.tags = tags

    def _get_transformations(self, current_text: Any, indices_to_modify: Collection[int]) -> list[Any]:
        found: list[Any] = super()._get_transformations(_tagged(current_text, self.tags), sorted(indices_to_modify))
        return found


class ChangeLocation(WordSwapChangeLocation):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's change of places, with tags from anywhere.

    TextAttack's own groups the words of a name in the order of a set, which need not be that of the text, and draws
    list entries like "Arabia Saudita / Arabia Saudí" whole, which it never finds in a text.

    Args:
        tags: Tags of a text's words, or None for flair's, which TextAttack asks for itself.
        language: TextAttack's code of the language: ``en``, ``fra``, ``esp``.
    """

    def __init__(self, tags: Tagger | None, language: str = "en") -> None:
        super().__init__(language=language)
        self.tags = tags
        entries = [*NAMED_ENTITIES[f"country{_LISTS[_CODES[language]]}"], *NAMED_ENTITIES["city"]]
        self._entries = {self._capitalize(part): entry for entry in reversed(entries) for part in _alternatives(entry)}

    def _get_transformations(self, current_text: Any, indices_to_modify: Collection[int]) -> list[Any]:
        found: list[Any] = super()._get_transformations(_tagged(current_text, self.tags), sorted(indices_to_modify))
        return found

    def _get_new_location(self, word: str) -> list[str]:
        drawn = super()._get_new_location(self._entries.get(word, word))
        return [_alternatives(str(place))[0] for place in drawn]


def _tagged(text: Any, tags: Tagger | None) -> Any:
    return text if tags is None else TaggedText(text, tags(text.text))


@cache
def rule_ner(language: str) -> RuleNer:
    """Return the rules of a language, made once."""
    return RuleNer(language)


@contextmanager
def _swaps_with(tags: Tagger | None) -> Iterator[None]:
    with (
        in_recipes(WordSwapChangeName, partial(ChangeName, tags)),
        in_recipes(WordSwapChangeLocation, partial(ChangeLocation, tags)),
    ):
        yield


def _route(resource: str, model: str, language: str) -> AbstractContextManager[None]:
    """Flair's model, or the user's, read from its file without asking the Hub; else the rules."""
    tagger = resources.find(resource)
    if not (tagger.found or resources.configured(resource)):
        return _swaps_with(rule_ner(language).tags)
    load_flair_tagger(model, tagger.where)
    return _swaps_with(None)


@route("ner-tagger")
def english() -> AbstractContextManager[None]:
    """Tags for CheckList."""
    return _route("ner-tagger", "ner", "en")


@route("ner-tagger-french")
def french() -> AbstractContextManager[None]:
    """Tags for the French recipe."""
    return _route("ner-tagger-french", "flair/ner-french", "fr")


@route("ner-tagger-multi")
def spanish() -> AbstractContextManager[None]:
    """Tags for the Spanish recipe."""
    return _route("ner-tagger-multi", "flair/ner-multi-fast", "es")
