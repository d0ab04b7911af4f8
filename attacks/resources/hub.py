"""Models of the Hugging Face Hub as resources: a folder of the user's, or one of the Hub's own cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import (
    HOW_TO_ALLOW,
    Resource,
    configured,
    misconfigured,
    network_allowed,
    require,
)
from robustexit.attacks.resources.places import hub_cache
from robustexit.errors import ResourceError

_READ: Final = ["*.json", "*.txt", "*.model", "model*.safetensors"]
_UNREAD: Final = ["onnx/*", "openvino/*", "*/model*.safetensors"]
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

    A configured model that is not the stock one by its id stands in for it under its own name.

    Args:
        name: The resource.
        ids: Ids of the stock model on the Hub, the one that TextAttack asks for first.
        kind: What it is, for messages: ``masked language model``.
    """
    value = configured(name)
    expected = f"a folder with a {kind} as save_pretrained writes it, or its id on the Hub"
    if value is not None and Path(value).is_absolute():
        if not is_model(Path(value)):
            return misconfigured(name, f"does not hold a {kind}", expected)
        return Resource(name, False, value, model_name(value), f"give {ids[0]} as {name}")
    stock = value is None or value in ids
    folder = cached_model(*ids) if stock else cached_model(value or "")
    asked = ids[0] if stock else value
    get = f"run hf download {asked}, or give {expected} as {name}"
    if folder is None:
        return Resource(name, False, f"{hub_cache()} does not hold {asked}", None, get)
    return Resource(name, stock, str(folder), None if stock else model_name(value or ""), get)


def model_path(name: str) -> Path:
    """Return the folder of the model that is there for a resource, whether it is the stock one or stands in for it.

    Raises:
        ResourceError: None is there.
    """
    return Path(require([name])[0].where)


def model_name(value: str) -> str:
    """Return the name that a model stands in a recipe's name by: the last part of its path or id."""
    return value.rstrip("/\\").replace("\\", "/").rpartition("/")[2]


def hub_model(name: str, model: str) -> Callable[[], None]:
    """Return a function that downloads a model into the Hub's cache, as `Finder.fetch` wants it.

    The Hub's own library does it: it checks sizes and hashes, continues where it was cut off, and renames.

    Args:
        name: The resource; the id configured for it goes before `model`.
        model: Id of the stock model.
    """

    def fetch() -> None:
        asked = configured(name) or model
        with hub_errors(asked):
            from huggingface_hub import snapshot_download

            snapshot_download(asked, cache_dir=hub_cache(), allow_patterns=_READ, ignore_patterns=_UNREAD)
            if cached_model(asked) is None:  # old models have no safetensors
                snapshot_download(asked, cache_dir=hub_cache(), allow_patterns=["pytorch_model.bin"])

    return fetch


@contextmanager
def hub_errors(asked: str) -> Iterator[None]:
    """Turn what the Hub's library raises into one line; refuses at once if the network is not allowed."""
    if not network_allowed():
        raise ResourceError(f"downloads are not allowed ({asked} on the Hub); {HOW_TO_ALLOW}")
    try:
        yield
    except (OSError, ValueError) as error:  # all of the library's errors derive from these
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ResourceError(f"could not download {asked} from the Hub ({first})") from error
