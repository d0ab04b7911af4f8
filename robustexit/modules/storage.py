"""Post-hoc modules on disk: a folder each beside the model's weights, tied to those weights by their hash."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from robustexit.errors import ModelError, NotFittedError
from robustexit.modules.base import ExitModule, ModuleShape, make_module, modules
from robustexit.runs import write_atomically

FOLDER: Final = "modules"
DESCRIPTION: Final = "module.json"
WEIGHTS: Final = "weights.safetensors"


@dataclass(frozen=True)
class FittedOn:
    """Where a module comes from.

    Attributes:
        weights_hash: Hash of the model's weights; a module is of no use to others.
        data: Name of the data it was fitted on.
        data_hash: Content hash of those examples.
        n: Number of examples.
        seed: Seed of the fit.
        report: What the fit reported.
    """

    weights_hash: str
    data: str
    data_hash: str
    n: int
    seed: int
    report: dict[str, float]


def module_folder(model_folder: Path) -> Path:
    """Return the folder of the modules beside a model's weights."""
    return model_folder / FOLDER


def saved_modules(folder: Path) -> list[str]:
    """Return the names of the modules saved in a folder (see `module_folder`), sorted."""
    return sorted(path.parent.name for path in folder.glob(f"*/{DESCRIPTION}"))


def save_module(folder: Path, module: ExitModule, fitted_on: FittedOn) -> Path:
    """Save a fitted module; one that is there under the same name is replaced.

    Args:
        folder: See `module_folder`.
        module: The module.
        fitted_on: Where it comes from.

    Returns:
        The module's own folder.

    Raises:
        RunError: The files could not be written.
    """
    home = folder / module.name
    # The description is written last: a folder that holds one is whole.
    (home / DESCRIPTION).unlink(missing_ok=True)
    write_atomically(home / WEIGHTS, save({name: value.contiguous() for name, value in module.state_dict().items()}))
    content = {
        "module": module.name,
        "settings": module.parameters_by_name,
        "shape": asdict(module.shape),
        "fitted_on": asdict(fitted_on),
    }
    write_atomically(home / DESCRIPTION, json.dumps(content, indent=2).encode())
    return home


def load_module(folder: Path, name: str, weights_hash: str) -> tuple[ExitModule, FittedOn]:
    """Load a fitted module.

    Args:
        folder: See `module_folder`.
        name: The module's registered name.
        weights_hash: Hash of the model that it shall serve.

    Returns:
        The module in evaluation mode, and where it comes from.

    Raises:
        ConfigError: No such module is registered.
        NotFittedError: Nobody fitted it yet.
        ModelError: Fitted on other weights, or unreadable.
    """
    modules.get(name)
    home = folder / name
    if not (home / DESCRIPTION).exists():
        found = ", ".join(saved_modules(folder)) or "none"
        raise NotFittedError(
            f"{folder} holds no fitted module {name!r} (there: {found}); fit it with "
            f"`robustexit fit-modules MODEL --data train.jsonl --module {name}`"
        )
    try:
        content = json.loads((home / DESCRIPTION).read_text(encoding="utf-8"))
        fitted_on = FittedOn(**content["fitted_on"])
        module = make_module(name, ModuleShape(**content["shape"]), **content["settings"])
        _load_weights(module, load((home / WEIGHTS).read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{home} cannot be read ({error}); fit the module again") from error
    if fitted_on.weights_hash != weights_hash:
        raise ModelError(
            f"{home} was fitted on other weights ({fitted_on.weights_hash[:12]}..., the model has "
            f"{weights_hash[:12]}...); fit the module again"
        )
    return module, fitted_on


def _load_weights(module: ExitModule, weights: dict[str, torch.Tensor]) -> Any:
    # Buffers whose size follows from the data (class means, covariances) take the stored shape.
    for name, buffer in list(module.named_buffers()):
        if name in weights and buffer.shape != weights[name].shape:
            owner = module.get_submodule(name.rpartition(".")[0])
            owner.register_buffer(name.rpartition(".")[2], torch.empty_like(weights[name]))
    module.load_state_dict(weights)
    module.requires_grad_(False)
    module.train(False)
