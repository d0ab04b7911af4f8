"""Models of the Hugging Face Hub as resources: a folder of the user's, or one of the Hub's own cache."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured, misconfigured, network_allowed
from robustexit.attacks.resources.places import hub_cache

WEIGHTS: Final = ("model.safetensors", "pytorch_model.bin", "model.safetensors.index.json")


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model as ``save_pretrained`` writes it."""
    return (folder / "config.json").is_file() and any((folder / name).is_file() for name in WEIGHTS)


def cached_model(*ids: str) -> Path | None:
    """Folder of the first of some Hub models that the Hub's cache holds, or None.

    Args:
        ids: Ids on the Hub; the names that one model has had.
    """
    for model in ids:
        snapshots = hub_cache() / f"models--{model.replace('/', '--')}" / "snapshots"
        found = [folder for folder in sorted(snapshots.glob("*")) if is_model(folder)]
        if found:
            return found[-1]
    return None


def find_model(name: str, *ids: str, kind: str) -> Resource:
    """Look for a model: the configured one, else the stock one in the Hub's cache.

    A configured model that is not the stock one by its id or its folder's name stands in for it under its own name.

    Args:
        name: The resource.
        ids: Ids of the stock model on the Hub, the one that TextAttack asks for first.
        kind: What it is, for messages: ``masked language model``.
    """
    value = configured(name)
    folder = Path(value) if value and Path(value).exists() else cached_model(*([value] if value else ids))
    expected = f"a folder with a {kind} as save_pretrained writes it, or its id on the Hub"
    if value and Path(value).exists() and not is_model(Path(value)):
        return misconfigured(name, f"does not hold a {kind}", expected)
    asked = value or ids[0]
    get = f"hf download {asked}, or give {expected} as {name}"
    if folder is None:
        # With the network allowed it is downloaded when it is loaded, by the Hub's own library.
        here = network_allowed()
        where = f"{asked} on the Hub" if here else f"{hub_cache()} does not hold {asked}"
        return Resource(name, here and asked in ids, where, asked if here and asked not in ids else None, get)
    stock = value is None or value in ids
    return Resource(name, stock, str(folder), None if stock else model_name(value or ""), get)


def model_name(value: str) -> str:
    """Return the name that a model stands in a recipe's name by: the last part of its path or id."""
    return value.rstrip("/\\").replace("\\", "/").rpartition("/")[2].partition("@")[0]
