"""The Universal Sentence Encoder."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder

SENTENCE_ENCODER_URL: Final = "https://tfhub.dev/google/universal-sentence-encoder/3"


@finder("sentence-encoder")
def sentence_encoder() -> Resource:
    """The Universal Sentence Encoder 3 and ``tensorflow_hub``, which loads it."""
    folder = configured_path("sentence-encoder") or stock_sentence_encoder()
    installed = importlib.util.find_spec("tensorflow_hub") is not None
    found = installed and folder.is_dir()
    lacking = f"{folder} is missing" if installed else "tensorflow_hub is not installed"
    return Resource(
        "sentence-encoder",
        found,
        str(folder) if found else lacking,
        None,
        f"pip install tensorflow tensorflow_hub, and unpack {SENTENCE_ENCODER_URL} to {folder}",
    )


def stock_sentence_encoder() -> Path:
    """The folder that ``tensorflow_hub`` keeps the encoder in."""
    base = Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir(), "tfhub_modules")).expanduser()
    return base / hashlib.sha1(SENTENCE_ENCODER_URL.encode()).hexdigest()
