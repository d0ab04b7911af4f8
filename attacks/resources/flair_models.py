"""Flair's models: where its own downloads lie."""

from __future__ import annotations

import os
from pathlib import Path

from robustexit.attacks.resources.base import Resource, configured_path


def flair_cache() -> Path:
    """The folder of flair's downloads: ``$FLAIR_CACHE_ROOT`` or ``~/.flair``."""
    return Path(os.environ.get("FLAIR_CACHE_ROOT") or "~/.flair").expanduser()


def find_flair(name: str, model: str) -> Resource:
    """Look for a flair model: the configured file, else the stock one in flair's cache.

    Args:
        name: The resource.
        model: Its id on the Hub, ``flair/ner-english``.
    """
    folder = flair_cache() / "models" / model.rpartition("/")[2] / f"models--{model.replace('/', '--')}"
    cached = sorted((folder / "snapshots").glob("*/pytorch_model.bin"))
    file = configured_path(name) or (cached[-1] if cached else None)
    return Resource(
        name,
        file is not None,
        str(file) if file else f"{folder} is missing",
        None,
        f"hf download {model} pytorch_model.bin --cache-dir {folder.parent}, or give flair's model file as {name}",
    )
