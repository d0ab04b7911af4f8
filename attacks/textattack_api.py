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
from nltk.corpus import wordnet

from robustexit.attacks import resources


def add_nltk_folder(folder: os.PathLike[str], *, first: bool = False) -> None:
    """Let NLTK look into another folder, after its own or first of all."""
    if str(folder) not in nltk.data.path:
        nltk.data.path.insert(0 if first else len(nltk.data.path), str(folder))


_stock_nltk_download = nltk.download

_RENAMED: Final = {"averaged_perceptron_tagger": "averaged_perceptron_tagger_eng"}
"""Packages that TextAttack asks NLTK for by a name whose data NLTK 3.9 and later no longer read."""


def _renamed_download(package: Any = None, *rest: Any, **options: Any) -> Any:
    if isinstance(package, str):
        package = _RENAMED.get(package, package)
    return _stock_nltk_download(package, *rest, **options)


@contextmanager
def no_nltk_downloads() -> Iterator[None]:
    """Make ``nltk.download`` do nothing; where the user allowed the network, fetch what NLTK reads today."""
    download = _renamed_download if resources.network_allowed() else lambda *_, **__: False
    with mock.patch.object(nltk, "download", download):
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
elif not resources.require(["stopwords"])[0].found:
    add_nltk_folder(resources.substitute_stopwords())

add_nltk_folder(resources.nltk_downloads())

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
    from textattack.constraints import Constraint
    from textattack.constraints.grammaticality import PartOfSpeech
    from textattack.constraints.grammaticality.language_models import (
        GPT2,
        Google1BillionWordsLanguageModel,
        LanguageModelConstraint,
        LearningToWriteLanguageModel,
    )
    from textattack.constraints.pre_transformation import (
        InputColumnModification,
        MaxModificationRate,
        RepeatModification,
        StopwordModification,
    )
    from textattack.constraints.semantics.sentence_encoders import (
        SBERT,
        SentenceEncoder,
        ThoughtVector,
        UniversalSentenceEncoder,
    )
    from textattack.goal_function_results import GoalFunctionResult, GoalFunctionResultStatus
    from textattack.goal_functions import GoalFunction
    from textattack.models.wrappers import ModelWrapper
    from textattack.search_methods import (
        DifferentialEvolution,
        GreedyWordSwapWIR,
        ParticleSwarmOptimization,
        ParticleSwarmOptimizationLEAP,
        PopulationMember,
        SearchMethod,
    )
    from textattack.shared import AbstractWordEmbedding, AttackedText, WordEmbedding
    from textattack.shared.data import CHN_STOPWORD, EXTENSION_MAP, MORPHONYM_LS, NAMED_ENTITIES, PERSON_NAMES
    from textattack.shared.utils import install, strings
    from textattack.transformations import (
        CompositeTransformation,
        WordDeletion,
        WordInsertion,
        WordInsertionMaskedLM,
        WordMergeMaskedLM,
        WordSwap,
        WordSwapChangeLocation,
        WordSwapChangeName,
        WordSwapChangeNumber,
        WordSwapContract,
        WordSwapExtend,
        WordSwapGradientBased,
        WordSwapHomoglyphSwap,
        WordSwapHowNet,
        WordSwapMaskedLM,
        WordSwapNeighboringCharacterSwap,
        WordSwapRandomCharacterDeletion,
        WordSwapRandomCharacterInsertion,
        WordSwapWordNet,
    )
    from textattack.transformations.word_merges.word_merge_masked_lm import find_merge_index
    from textattack.transformations.word_swaps.chn_transformations import (
        ChineseHomophoneCharacterSwap,
        ChineseMorphonymCharacterSwap,
        ChineseWordSwapHowNet,
        ChineseWordSwapMaskedLM,
    )
    from textattack.transformations.word_swaps.chn_transformations.chinese_homophone_character_swap import pinyin
    from textattack.transformations.word_swaps.chn_transformations.chinese_word_swap_hownet import OpenHowNet
    from textattack.transformations.word_swaps.word_swap_change_number import STR_NUM, num2words, w2n
    from textattack.transformations.word_swaps.word_swap_differential_evolution import (
        WordSwapDifferentialEvolution,
    )
    from textattack.transformations.word_swaps.word_swap_inflections import lemminflect

jieba = strings.jieba
_stock_words_from_text = strings.words_from_text

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
    """TextAttack's ``download_from_s3`` with our checked downloads, and with the paths that are configured."""
    return str(resources.stock_path(folder_name))


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


def load_flair_tagger(name: str, file: str | os.PathLike[str]) -> None:
    """Let TextAttack tag with a flair model from a file; left to itself it asks the Hub for the model first.

    Args:
        name: The name that TextAttack asks for: ``ner``, ``upos-fast``.
        file: The model; flair unpickles it, so it must be one that the user trusts.
    """
    from flair.models import SequenceTagger

    if name not in strings._flair_taggers:
        strings._flair_taggers[name] = SequenceTagger.load(str(file))


def universal_tags(words: Sequence[str]) -> list[str]:
    """Return NLTK's universal part of speech of each word of a text."""
    return [str(tag) for _, tag in nltk.pos_tag(list(words), tagset="universal")]


__all__ = [
    "CHN_STOPWORD",
    "EXTENSION_MAP",
    "GPT2",
    "MORPHONYM_LS",
    "NAMED_ENTITIES",
    "PERSON_NAMES",
    "SBERT",
    "STR_NUM",
    "AbstractWordEmbedding",
    "Attack",
    "AttackResult",
    "AttackedText",
    "ChineseHomophoneCharacterSwap",
    "ChineseMorphonymCharacterSwap",
    "ChineseWordSwapHowNet",
    "ChineseWordSwapMaskedLM",
    "CompositeTransformation",
    "Constraint",
    "DifferentialEvolution",
    "FailedAttackResult",
    "GoalFunction",
    "GoalFunctionResult",
    "GoalFunctionResultStatus",
    "Google1BillionWordsLanguageModel",
    "GreedyWordSwapWIR",
    "InputColumnModification",
    "LanguageModelConstraint",
    "LearningToWriteLanguageModel",
    "MaxModificationRate",
    "MaximizedAttackResult",
    "ModelWrapper",
    "OpenHowNet",
    "PartOfSpeech",
    "ParticleSwarmOptimization",
    "ParticleSwarmOptimizationLEAP",
    "PopulationMember",
    "RepeatModification",
    "SearchMethod",
    "SentenceEncoder",
    "SkippedAttackResult",
    "StopwordModification",
    "SuccessfulAttackResult",
    "ThoughtVector",
    "UniversalSentenceEncoder",
    "WordDeletion",
    "WordEmbedding",
    "WordInsertion",
    "WordInsertionMaskedLM",
    "WordMergeMaskedLM",
    "WordSwap",
    "WordSwapChangeLocation",
    "WordSwapChangeName",
    "WordSwapChangeNumber",
    "WordSwapContract",
    "WordSwapDifferentialEvolution",
    "WordSwapExtend",
    "WordSwapGradientBased",
    "WordSwapHomoglyphSwap",
    "WordSwapHowNet",
    "WordSwapMaskedLM",
    "WordSwapNeighboringCharacterSwap",
    "WordSwapRandomCharacterDeletion",
    "WordSwapRandomCharacterInsertion",
    "WordSwapWordNet",
    "add_nltk_folder",
    "attack_recipes",
    "find_merge_index",
    "jieba",
    "lemminflect",
    "load_flair_tagger",
    "no_nltk_downloads",
    "num2words",
    "pinyin",
    "stock_attack",
    "strings",
    "universal_tags",
    "w2n",
    "wordnet",
    "words_from_text",
]
