"""The Chinese recipe's swaps without TextAttack's defects: characters alike in sound or shape, sememes, a masked LM."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import lru_cache, partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.components.masked_lm import MaskedLM, Rule, load_masked_lm
from robustexit.attacks.components.pickles import PlainUnpickler
from robustexit.attacks.resources.homophones import homophone_table
from robustexit.attacks.textattack_api import (
    MORPHONYM_LS,
    ChineseHomophoneCharacterSwap,
    ChineseMorphonymCharacterSwap,
    ChineseWordSwapHowNet,
    ChineseWordSwapMaskedLM,
    OpenHowNet,
    WordSwap,
    jieba,
    pinyin,
)

_HOMOPHONES: Final = 3
"""Characters of the same sound that TextAttack proposes, the most frequent first."""
_PREDICTIONS: Final = 50
"""Predictions of the masked language model that TextAttack looks at."""


class Morphonyms(ChineseMorphonymCharacterSwap):  # type: ignore[misc]  # TextAttack is untyped
    """Words with one character replaced by one of like shape, as TextAttack's class says of itself.

    TextAttack's own writes each replacement into the word that the next one starts from, so that later candidates
    have every character before replaced as well.
    """

    def _get_replacement_words(self, word: str) -> list[str]:
        return list(_one_character(word, _like_shapes))


@lru_cache(maxsize=2**13)
def _like_shapes(character: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(other for group in MORPHONYM_LS if character in group for other in group))


class Homophones(ChineseHomophoneCharacterSwap):  # type: ignore[misc]  # TextAttack is untyped
    """Words with one character replaced by one of like sound.

    TextAttack's own fails twice: its wheel lacks the table, and pandas no longer reads it in this way.

    Args:
        table: Characters by their sound, the most frequent first.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        WordSwap.__init__(self)
        self.table = table

    def _get_replacement_words(self, word: str) -> list[str]:
        return list(_one_character(word, self._like_sounds))

    def _like_sounds(self, character: str) -> Sequence[str]:
        return self.table.get(sound(character), ())[:_HOMOPHONES]


def _one_character(word: str, alike: Callable[[str], Sequence[str]]) -> Iterator[str]:
    """Yield the word with one character replaced, in order."""
    for i, character in enumerate(word):
        for other in alike(character):
            if other != character:
                yield word[:i] + other + word[i + 1 :]


def sound(character: str) -> str:
    """Return a character's first reading without its tone; the character itself if it is not Chinese."""
    return str(pinyin.get(character, format="strip", delimiter=" "))


def read_homophones(file: Path) -> dict[str, list[str]]:
    """Read TextAttack's table.

    Args:
        file: UTF-8 lines of a sound and its characters, the most frequent first, between tabs.
    """
    table: dict[str, list[str]] = {}
    for line in file.read_text("utf-8").splitlines():
        key, *characters = line.split("\t")
        table.setdefault(key, [character for character in characters if character])
    return table


@lru_cache(maxsize=1)
def counted_homophones() -> dict[str, list[str]]:
    """Make such a table from what TextAttack installs: pinyin's readings, by jieba's word frequencies."""
    frequencies: dict[str, int] = {}
    with jieba.get_dict_file() as lines:
        for line in lines:
            word, frequency = line.decode("utf-8").split(" ")[:2]
            for character in set(word):
                frequencies[character] = frequencies.get(character, 0) + int(frequency)
    table: dict[str, list[str]] = {}
    for character in sorted(frequencies, key=lambda c: (-frequencies[c], c)):
        if sound(character) != character:
            table.setdefault(sound(character), []).append(character)
    return table


class Sememes(ChineseWordSwapHowNet):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's nearest words in HowNet.

    TextAttack takes the first of a word's senses from a set of objects, another one in every process; here it is the
    one that HowNet numbers first.

    Args:
        hownet: OpenHowNet's dictionary with similarities.
        topk: Nearest words looked at.
    """

    def __init__(self, hownet: Any, topk: int = 5) -> None:
        WordSwap.__init__(self)
        self.hownet_dict = hownet
        self.topk = topk
        self._nearest = lru_cache(maxsize=2**14)(self._look_up)

    def _get_replacement_words(self, word: str) -> list[str]:
        return list(self._nearest(word))

    def _look_up(self, word: str) -> tuple[str, ...]:
        senses = self.hownet_dict.get_nearest_words(word, language="zh", K=self.topk) or {}
        first = min(senses, key=lambda sense: int(sense.No), default=None)
        return () if first is None else tuple(senses[first][1:])


@lru_cache(maxsize=1)
def _hownet(folder: str) -> Any:
    """Load OpenHowNet from a folder, silently, making nothing but its own trees from its pickles."""
    module = import_module(OpenHowNet.HowNetDict.__module__)
    node = import_module(OpenHowNet.Sense.__module__).Node
    trees = {(node.__module__, node.__name__): node}
    with (
        mock.patch.object(module, "get_resource", partial(_open, Path(folder))),
        mock.patch.object(module, "pickle", SimpleNamespace(load=lambda file: PlainUnpickler(file, trees).load())),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        return OpenHowNet.HowNetDict(init_sim=True)


def _open(folder: Path, path: str, mode: str = "r") -> Any:
    return (folder / Path(path).name).open(mode, encoding=None if "b" in mode else "utf-8")


class MaskedLMSwap(ChineseWordSwapMaskedLM):  # type: ignore[misc]  # TextAttack is untyped
    """Words that a masked language model proposes in the place of a word.

    TextAttack's own writes "[MASK]", which its XLM-RoBERTa does not know for a mask, reads the prediction at the token
    with the word's number, which is another word's, takes SentencePiece's space marks for letters, and fails beyond
    the model's positions. Like it, this takes the 50 likeliest tokens; those that are no word are left out.

    Args:
        lm: The model.
    """

    def __init__(self, lm: MaskedLM) -> None:
        WordSwap.__init__(self)
        self.lm = lm
        self.rule = Rule(count=_PREDICTIONS, least=0.0, pieces=True)

    def _get_transformations(self, current_text: Any, indices_to_modify: Collection[int]) -> list[Any]:
        text, places = current_text, sorted(indices_to_modify)
        gaps = [self.lm.gap(text.text_until_word_index(i), text.text_after_word_index(i)) for i in places]
        return [
            text.replace_word_at_index(i, word)
            for i, words in zip(places, self.lm.fill(gaps, self.rule), strict=True)
            for word in words
            if word != text.words[i]
        ]


@contextmanager
def one_character_at_a_time() -> Iterator[None]:
    """Let the recipe find the swap of like shapes in the place of TextAttack's."""
    with in_recipes(ChineseMorphonymCharacterSwap, Morphonyms):
        yield


@route("homophones-chinese")
def homophones() -> AbstractContextManager[None]:
    """TextAttack's table, or one counted from pinyin and jieba."""
    found = resources.find("homophones-chinese").found
    table = read_homophones(homophone_table()) if found else counted_homophones()
    return in_recipes(ChineseHomophoneCharacterSwap, partial(Homophones, table))


@route("hownet-chinese")
def sememes() -> AbstractContextManager[None]:
    """OpenHowNet's data, from where it was found."""
    return in_recipes(ChineseWordSwapHowNet, lambda: Sememes(_hownet(resources.find("hownet-chinese").where)))


@route("masked-lm-chinese")
def masked_lm() -> AbstractContextManager[None]:
    """XLM-RoBERTa, or the user's model."""
    return in_recipes(ChineseWordSwapMaskedLM, lambda: MaskedLMSwap(load_masked_lm("masked-lm-chinese")))
