"""Words with a common sememe, for PSO: HowNet's bank, or WordNet's synonyms where it is not to be had."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, Protocol

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, prepared, route
from robustexit.attacks.components.pickles import read_plain
from robustexit.attacks.components.pos import lexicon_tagger
from robustexit.attacks.components.tagged import TaggedText
from robustexit.attacks.textattack_api import (
    WordSwap,
    WordSwapHowNet,
    load_flair_tagger,
    universal_tags,
    wordnet,
)

_PARTS: Final = {"ADJ": "adj", "NOUN": "noun", "ADV": "adv", "VERB": "verb"}
"""HowNet's parts of speech by universal tags, as in TextAttack."""
_WORDNET_PARTS: Final = {"adj": "a", "noun": "n", "adv": "r", "verb": "v"}
_REMEMBERED: Final = 2**14


class Bank(Protocol):
    """Words by word, lower case, and part of speech (``adj``, ``noun``, ``adv``, ``verb``); KeyError where none are."""

    def __getitem__(self, word: str) -> Mapping[str, Sequence[str]]: ...


Tagger = Callable[[Sequence[str]], Sequence[str]]
"""Universal parts of speech of a text's words."""


class SememeSwap(WordSwapHowNet):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's sememe-based word swap, with bank and tags from anywhere.

    TextAttack's own downloads the bank, unpickles it whatever it holds, and asks flair for the tag of each word anew.

    Args:
        bank: The words to swap in.
        tags: Parts of speech, or None for flair's, which TextAttack asks for itself.
        max_candidates: Words taken for each word; -1 for all.
    """

    def __init__(self, bank: Bank, tags: Tagger | None, max_candidates: int = -1) -> None:
        WordSwap.__init__(self)
        self.candidates_bank = bank
        self.max_candidates = max_candidates
        self.pos_dict = dict(_PARTS)
        self._tags = None if tags is None else lru_cache(maxsize=_REMEMBERED)(lambda words: tuple(tags(words)))

    def _get_transformations(self, current_text: Any, indices_to_modify: Collection[int]) -> list[Any]:
        if self._tags is not None:
            current_text = TaggedText(current_text, self._tags(tuple(current_text.words)))
        found: list[Any] = super()._get_transformations(current_text, sorted(indices_to_modify))
        return found


class WordNetBank:
    """WordNet's synonyms as a bank: the single-word lemmas of a word's senses, its most frequent senses first."""

    def __getitem__(self, word: str) -> Mapping[str, Sequence[str]]:
        return _synonyms(word)


@lru_cache(maxsize=_REMEMBERED)
def _synonyms(word: str) -> Mapping[str, Sequence[str]]:
    """Return a word's synonyms by part of speech, as a bank holds them."""
    found = {}
    for part, code in _WORDNET_PARTS.items():
        lemmas = (lemma for sense in wordnet.synsets(word, code) for lemma in sense.lemma_names())
        found[part] = [lemma for lemma in dict.fromkeys(lemmas) if "_" not in lemma and lemma.lower() != word]
    return found


@route("hownet")
def hownet() -> AbstractContextManager[None]:
    """HowNet's bank where it is found, else WordNet's synonyms of the same part of speech."""
    found = resources.find("hownet")
    bank: Bank = read_plain(Path(found.where)) if found.found else WordNetBank()
    flair = _flair_file() is not None
    needs = [*([] if found.found else ["wordnet"]), *([] if flair else ["pos-tagger"])]
    return _in_place(partial(SememeSwap, bank, None if flair else _tags), needs)


def _tags(words: Sequence[str]) -> Sequence[str]:
    """Tag by NLTK where its tagger is found, else by the lexicon."""
    return universal_tags(words) if resources.find("pos-tagger").found else lexicon_tagger().tag(words)


@contextmanager
def _in_place(swap: Callable[..., SememeSwap], needs: Sequence[str]) -> Iterator[None]:
    with prepared(needs), in_recipes(WordSwapHowNet, swap):
        yield


@route("upos-tagger")
def parts_of_speech() -> AbstractContextManager[None]:
    """Flair's model, or the user's, read from its file without asking the Hub."""
    file = _flair_file()
    if file is not None:
        load_flair_tagger("upos-fast", file)
    return nullcontext()


def _flair_file() -> str | None:
    tagger = resources.find("upos-tagger")
    return tagger.where if tagger.found or resources.configured(tagger.name) else None
