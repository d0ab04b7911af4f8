"""The language model of Alzantot's genetic algorithm."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Final

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.causal_lm import or_causal_lm
from robustexit.attacks.resources.textattack_files import find_download, stored

GOOGLE_LM: Final = "constraints/semantics/language-models/alzantot-goog-lm"
GOOGLE_LM_FILES: Final = ("graph-2016-09-10-gpu.pbtxt", "ckpt-*", "vocab-2016-09-10.txt")

_INSTALLED: Final = importlib.util.find_spec("tensorflow") is not None
_fetch: Final = stored("google-lm", GOOGLE_LM, GOOGLE_LM_FILES)


@finder("google-lm", fetch=_fetch if _INSTALLED else None)
def google_lm() -> Resource:
    """The Google 1 Billion Words model, as TextAttack downloads it, and TensorFlow, which runs it.

    In its place: the model of the resource ``causal-lm``.
    """
    here = find_download("google-lm", GOOGLE_LM, GOOGLE_LM_FILES)
    if not _INSTALLED:
        get = f"pip install tensorflow, and {here.how_to_get}" if not here.found else "pip install tensorflow"
        here = replace(here, found=False, where="tensorflow is not installed", how_to_get=get)
    return or_causal_lm(here)
