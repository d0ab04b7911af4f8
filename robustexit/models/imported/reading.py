"""Read weights and configuration of a checkpoint from elsewhere: data only, never code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from robustexit.errors import ModelError
from robustexit.models.sources import read_checked

Weights = Mapping[str, torch.Tensor]

_USUAL_NAMES = ("model.safetensors", "pytorch_model.bin", "model.bin", "pytorch_model.pt", "model.pt")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
_NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "scheduler.pt")
"""What Hugging Face's scripts leave beside the weights."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts put the state dict, beside an optimizer's."""

_PARALLEL_PREFIX = "module."


@dataclass(frozen=True)
class Checkpoint:
    """What was read.

    Attributes:
        file: The weights' file.
        weights: Tensors by the names they have there, float32.
        config: Its config.json.
        sha256: Hash of the weights' file.
    """

    file: Path
    weights: Weights
    config: Mapping[str, Any]
    sha256: str


def read_checkpoint(source: Path) -> Checkpoint:
    """Read a checkpoint.

    Args:
        source: A folder with config.json and one weights file, or the weights file with config.json beside it.

    Raises:
        ModelError: Missing, truncated or corrupt; a pickle with anything but tensors; values that are not finite.
    """
    file = _weights_file(source)
    weights = _tensors(file, _read(file))
    broken = [name for name, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise ModelError(
            f"{file}: {broken[0]} holds values that are not finite (NaN or infinity); train or save it again"
        )
    return Checkpoint(file, weights, _read_config(file.with_name("config.json")), _sha256(file))


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _weights_file(source: Path) -> Path:
    if source.is_file():
        if source.suffix not in _SUFFIXES:
            raise ModelError(
                f"{source}: expected weights as {', '.join(_SUFFIXES)}, got {source.suffix or 'no suffix'!r}"
            )
        return source
    if not source.is_dir():
        raise ModelError(f"{source}: expected a checkpoint (a folder or a weights file), found nothing; check the path")
    for name in _USUAL_NAMES:
        if (source / name).is_file():
            return source / name
    others = sorted(path for path in source.iterdir() if path.suffix in _SUFFIXES and path.name not in _NOT_WEIGHTS)
    if len(others) != 1:
        found = ", ".join(path.name for path in others) or "none"
        raise ModelError(
            f"{source}: expected one weights file ({' or '.join(_USUAL_NAMES[:2])}), found {found}; "
            "give the path of the file itself"
        )
    return others[0]


def _read(file: Path) -> Any:
    if file.suffix == ".safetensors":
        return read_checked("weights", str(file), lambda: load_file(file))
    return read_checked("weights", str(file), lambda: torch.load(file, map_location="cpu", weights_only=True))


def _tensors(file: Path, content: Any) -> Weights:
    """Return the tensors by name, without what wraps them or stands before their names."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
            break
    if not isinstance(content, Mapping) or not content:
        raise ModelError(
            f"{file}: expected a state dict (tensors by name), got {type(content).__name__}; "
            "save model.state_dict() and import that"
        )
    strange = [name for name, value in content.items() if not isinstance(value, torch.Tensor)]
    if strange:
        kind = type(content[strange[0]]).__name__
        raise ModelError(f"{file}: expected tensors by name, got {kind} for {strange[0]!r}; save model.state_dict()")
    return {str(name).removeprefix(_PARALLEL_PREFIX): _float(value) for name, value in content.items()}


def _float(value: torch.Tensor) -> torch.Tensor:
    return value.float() if value.is_floating_point() else value


def _read_config(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise ModelError(
            f"{path.parent}: expected the encoder's config.json beside the weights, found none; copy it there from "
            "the training's output folder (or from the pretrained model it started from)"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: expected JSON, got something else ({error}); save or copy it again") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{path}: expected an object with the encoder's sizes, got {type(settings).__name__}")
    return settings
