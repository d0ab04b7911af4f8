"""Words of a text, and which words there are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

from robustexit.attacks.resources import PACKAGED
from robustexit.errors import ResourceError

_LETTERS: Final = re.compile(r"[^\W\d_]+")
TOKENISED: Final = re.compile(r"\s(?:n['’]t|['’](?:s|re|ve|ll|d|m))\b|\s[.,!?;:](?:\s|$)")
"""Marks of a text whose clitics and punctuation stand apart, as in SST-2."""


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return where TextAttack's words of a text are: first character and the one behind the last, in order."""
    from robustexit.attacks.textattack_api import words_from_text

    spans, end = [], 0
    for word in words_from_text(text):
        start = text.index(word, end)
        end = start + len(word)
        spans.append((start, end))
    return spans


def like(new: str, original: str) -> str:
    """Return a word in the case of another: all capitals, a capital first, or as it is."""
    if len(original) > 1 and original.isupper():
        return new.upper()
    return new[:1].upper() + new[1:] if original[:1].isupper() else new


class Lexicon(Protocol):
    """Knows which words there are."""

    def __contains__(self, word: object) -> bool: ...


@lru_cache(maxsize=1)
def loaded_wordnet() -> Any:
    """Return NLTK's reader of WordNet, with its data in memory.

    Raises:
        ResourceError: WordNet is missing.
    """
    from robustexit.attacks.components.install import prepared
    from robustexit.attacks.textattack_api import wordnet

    with prepared(("wordnet",)):
        wordnet.ensure_loaded()
    return wordnet


class _WordNetLexicon:
    def __init__(self) -> None:
        self._wordnet = loaded_wordnet()

    def __contains__(self, word: object) -> bool:
        word = str(word).lower()
        return word in closed_classes() or self._wordnet.morphy(word) is not None


@lru_cache(maxsize=1)
def closed_classes() -> frozenset[str]:
    """Return English function words, most of which WordNet lacks, and what splitters leave of contractions."""
    files = ("function_words.txt", "english_stopwords.txt")
    return frozenset(word for name in files for word in (PACKAGED / name).read_text("utf-8").split())


@lru_cache(maxsize=8)
def lexicon(path: str = "") -> Lexicon:
    """Return the words of a file (one or more a line) or, without one, all that WordNet knows in some form.

    The closed classes, which WordNet leaves out, always count.

    Raises:
        ResourceError: The file cannot be read, or WordNet is missing.
    """
    if not path:
        return _WordNetLexicon()
    return closed_classes() | {word.lower() for word in _read(path, "a word list").split()}


@lru_cache(maxsize=8)
def typo_dictionary(path: str) -> Mapping[str, tuple[str, ...]]:
    """Return word -> its typos from a file of lines ``word typo typo ...``, all in lower case.

    Raises:
        ResourceError: The file cannot be read.
    """
    typos: dict[str, dict[str, None]] = {}
    for line in _read(path, "a typo dictionary").splitlines():
        word, *wrong = line.lower().split() or [""]
        if wrong:
            typos.setdefault(word, {}).update(dict.fromkeys(wrong))
    return {word: tuple(wrong) for word, wrong in typos.items()}


def _read(path: str, what: str) -> str:
    try:
        return Path(path).expanduser().read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise ResourceError(f"cannot read {path} ({error}); expected {what} as UTF-8 text") from error


def reads_as_words(text: str, known: Lexicon) -> bool:
    """Whether a text may be read as words that there are: as it stands, or each of its parts.

    ``can'``, ``ell-made`` and ``now`` may, ``isnt`` and ``goood`` may not.
    """
    parts = list(_parts(text))
    return text in known or "".join(parts) in known or all(part in known for part in parts)


def _parts(text: str) -> Iterator[str]:
    return (match.group() for match in _LETTERS.finditer(text))
