"""The one module that imports TextAttack and NLTK: offline, quietly, and without side effects on the process.

Left to itself, ``import textattack`` downloads NLTK packages, fails without stop words, points the Hugging Face
caches into its own folder, turns off every logger that exists and sets ``TOKENIZERS_PARALLELISM``. Here its
resources are prepared first and everything it changed is put back. All other attack modules take what they need
from this one.
"""

from __future__ import annotations

import logging
import logging.config
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from unittest import mock

import nltk

from robustexit.attacks import resources
from robustexit.errors import ResourceError
from robustexit.network import ALLOWED


def add_nltk_folder(folder: os.PathLike[str], *, first: bool = False) -> None:
    """Let NLTK look into another folder, after its own or first of all."""
    if str(folder) not in nltk.data.path:
        nltk.data.path.insert(0 if first else len(nltk.data.path), str(folder))


@contextmanager
def no_nltk_downloads() -> Iterator[None]:
    """Make ``nltk.download`` do nothing, unless the user allowed the network."""
    if resources.network_allowed():
        yield
        return
    with mock.patch.object(nltk, "download", lambda *_, **__: False):
        yield


@contextmanager
def _loggers_left_alone() -> Iterator[None]:
    """TextAttack and flair call ``dictConfig``, which disables every logger and closes every handler there is."""
    with mock.patch.object(logging.config, "dictConfig", lambda config: None):
        yield


@contextmanager
def _own_cache() -> Iterator[None]:
    """Import TextAttack with RobustExit's cache folder.

    TextAttack would take the folder from ``TA_CACHE_DIR`` too, but then it also redirects the caches of Hugging
    Face, TensorFlow Hub and everything that reads ``XDG_CACHE_HOME``. So its default is redirected instead.
    """
    kept = {"TOKENIZERS_PARALLELISM": "false"}
    kept |= {name: os.environ[name] for name in ("TA_CACHE_DIR", "TOKENIZERS_PARALLELISM") if name in os.environ}
    expanduser, folder = os.path.expanduser, str(resources.textattack_cache())
    os.environ.pop("TA_CACHE_DIR", None)
    try:
        with mock.patch.object(
            os.path, "expanduser", lambda path: folder if path == "~/.cache/textattack" else expanduser(path)
        ):
            yield
    finally:
        os.environ.update(kept)


if resources.configured("stopwords"):
    add_nltk_folder(Path(resources.require(["stopwords"])[0].where), first=True)
elif not resources.find("stopwords").found:
    add_nltk_folder(resources.substitute_stopwords())

with _loggers_left_alone(), _own_cache(), no_nltk_downloads():
    import textattack
    from textattack import Attack, attack_recipes
    from textattack.attack_results import (
        AttackResult,
        FailedAttackResult,
        MaximizedAttackResult,
        SkippedAttackResult,
        SuccessfulAttackResult,
    )
    from textattack.constraints.pre_transformation import (
        InputColumnModification,
        MaxModificationRate,
        RepeatModification,
        StopwordModification,
    )
    from textattack.goal_function_results import GoalFunctionResult, GoalFunctionResultStatus
    from textattack.goal_functions import GoalFunction
    from textattack.models.wrappers import ModelWrapper
    from textattack.search_methods import DifferentialEvolution, GreedyWordSwapWIR, SearchMethod
    from textattack.shared import AttackedText
    from textattack.shared.utils import install, strings
    from textattack.transformations import (
        CompositeTransformation,
        WordDeletion,
        WordInsertion,
        WordInsertionMaskedLM,
        WordMergeMaskedLM,
        WordSwap,
        WordSwapHomoglyphSwap,
        WordSwapMaskedLM,
        WordSwapNeighboringCharacterSwap,
        WordSwapRandomCharacterDeletion,
        WordSwapRandomCharacterInsertion,
    )
    from textattack.transformations.word_merges.word_merge_masked_lm import find_merge_index
    from textattack.transformations.word_swaps.word_swap_differential_evolution import (
        WordSwapDifferentialEvolution,
    )

_stock_words_from_text = strings.words_from_text
_stock_download = install.download_from_s3

_SHORT: Final = 48
"""Characters up to which a text is taken for a word; words recur far more often than whole texts."""


def _split(text: str) -> tuple[str, ...]:
    return tuple(_stock_words_from_text(text))


_words_of_word = lru_cache(maxsize=2**16)(_split)
_words_of_text = lru_cache(maxsize=2**12)(_split)


def words_from_text(s: str, words_to_ignore: Sequence[str] = ()) -> list[str]:
    """TextAttack's word splitter, remembered: it takes 63 to 76 % of TextAttack's own time, on few texts.

    Args:
        s: Text to split.
        words_to_ignore: Words to leave out.

    Returns:
        The words, in a list of the caller's own.
    """
    if words_to_ignore:
        words: list[str] = _stock_words_from_text(s, list(words_to_ignore))
        return words
    return list(_words_of_word(s) if len(s) <= _SHORT else _words_of_text(s))


def _downloaded_only(folder_name: str, skip_if_cached: bool = True) -> str:
    """TextAttack's ``download_from_s3`` without the download, and without its lock file where all is there."""
    path = resources.textattack_downloads() / folder_name
    if path.exists() and skip_if_cached:
        return str(path)
    if resources.network_allowed():
        downloaded: str = _stock_download(folder_name, skip_if_cached)
        return downloaded
    raise ResourceError(
        f"TextAttack's {folder_name} is not at {path}, and downloads are not allowed; put it there, or set {ALLOWED}=1"
    )


def _patch() -> None:
    """Point TextAttack at the user's downloads and at the remembered word splitter, wherever it holds a copy."""
    from textattack.goal_functions.text import non_overlapping_output

    for module in (textattack.shared.utils, install):
        module.TEXTATTACK_CACHE_DIR = str(resources.textattack_downloads())
        module.download_from_s3 = _downloaded_only
    for module in (textattack.shared.utils, strings, textattack.shared.attacked_text, non_overlapping_output):
        module.words_from_text = words_from_text
    install.logger.setLevel(logging.ERROR)


_patch()


def stock_attack(class_name: str, wrapper: Any, parameters: dict[str, Any]) -> Attack:
    """Build a stock recipe of ``textattack.attack_recipes`` around a model wrapper."""
    return getattr(attack_recipes, class_name).build(wrapper, **parameters)


def universal_tags(words: Sequence[str]) -> list[str]:
    """Return NLTK's universal part of speech of each word of a text."""
    return [str(tag) for _, tag in nltk.pos_tag(list(words), tagset="universal")]


__all__ = [
    "Attack",
    "AttackResult",
    "AttackedText",
    "CompositeTransformation",
    "DifferentialEvolution",
    "FailedAttackResult",
    "GoalFunction",
    "GoalFunctionResult",
    "GoalFunctionResultStatus",
    "GreedyWordSwapWIR",
    "InputColumnModification",
    "MaxModificationRate",
    "MaximizedAttackResult",
    "ModelWrapper",
    "RepeatModification",
    "SearchMethod",
    "SkippedAttackResult",
    "StopwordModification",
    "SuccessfulAttackResult",
    "WordDeletion",
    "WordInsertion",
    "WordInsertionMaskedLM",
    "WordMergeMaskedLM",
    "WordSwap",
    "WordSwapDifferentialEvolution",
    "WordSwapHomoglyphSwap",
    "WordSwapMaskedLM",
    "WordSwapNeighboringCharacterSwap",
    "WordSwapRandomCharacterDeletion",
    "WordSwapRandomCharacterInsertion",
    "add_nltk_folder",
    "attack_recipes",
    "find_merge_index",
    "no_nltk_downloads",
    "stock_attack",
    "strings",
    "universal_tags",
    "words_from_text",
]
