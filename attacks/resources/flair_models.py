"""Flair's models: where its own downloads lie."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from robustexit.attacks.resources.base import Resource, configured_path, misconfigured
from robustexit.attacks.resources.hub import hub_errors


def flair_cache() -> Path:
    """The folder of flair's downloads: ``$FLAIR_CACHE_ROOT`` or ``~/.flair``."""
    return Path(os.environ.get("FLAIR_CACHE_ROOT") or "~/.flair").expanduser()


def find_flair(name: str, model: str) -> Resource:
    """Look for a flair model: the configured file, else the stock one in flair's cache.

    A configured file that does not lie in a cache folder of the stock model stands in for it under its own name.

    Args:
        name: The resource.
        model: Its id on the Hub, ``flair/ner-english``.
    """
    folder = flair_cache() / "models" / model.rpartition("/")[2] / f"models--{model.replace('/', '--')}"
    get = f"run hf download {model} pytorch_model.bin --cache-dir {folder.parent}, or give flair's model file as {name}"
    chosen = configured_path(name)
    if chosen is not None and not chosen.is_file():
        return misconfigured(name, "is a folder", "the file of a flair model")
    if chosen is not None and folder.name not in chosen.parts:
        named = chosen.parent.name if chosen.stem in ("pytorch_model", "final-model", "best-model") else chosen.stem
        return Resource(name, False, str(chosen), named, get)
    cached = sorted((folder / "snapshots").glob("*/pytorch_model.bin"))
    file = chosen or (cached[-1] if cached else None)
    return Resource(name, file is not None, str(file) if file else f"{folder} is missing", None, get)


def flair_model(model: str) -> Callable[[], None]:
    """Return a function that downloads a model into flair's cache as flair would, as `Finder.fetch` wants it.

    Args:
        model: Its id on the Hub.
    """

    def fetch() -> None:
        with hub_errors(model):
            from huggingface_hub import hf_hub_download

            hf_hub_download(model, "pytorch_model.bin", cache_dir=flair_cache() / "models" / model.rpartition("/")[2])

    return fetch
