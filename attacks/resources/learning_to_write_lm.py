"""The language model of Jia's faster genetic algorithm."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Final

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.causal_lm import or_causal_lm
from robustexit.attacks.resources.textattack_files import find_download, stored

LEARNING_TO_WRITE: Final = "constraints/grammaticality/language-models/learning-to-write"
LEARNING_TO_WRITE_FILES: Final = ("word_map.th7", "word_freq.th7", "lm-state-dict.pt")

_INSTALLED: Final = importlib.util.find_spec("torchfile") is not None
_fetch: Final = stored("learning-to-write-lm", LEARNING_TO_WRITE, LEARNING_TO_WRITE_FILES)


@finder("learning-to-write-lm", fetch=_fetch if _INSTALLED else None)
def learning_to_write_lm() -> Resource:
    """The recurrent model of "Learning to Write" (Holtzman et al. 2018), as TextAttack downloads it.

    The package torchfile reads it. In its place: the model of the resource ``causal-lm``.
    """
    here = find_download("learning-to-write-lm", LEARNING_TO_WRITE, LEARNING_TO_WRITE_FILES)
    if not _INSTALLED:
        get = f"pip install torchfile, and {here.how_to_get}" if not here.found else "pip install torchfile"
        here = replace(here, found=False, where="torchfile is not installed", how_to_get=get)
    return or_causal_lm(here)
