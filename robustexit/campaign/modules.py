"""The post-hoc modules of a campaign's models: fitted once, kept in the run folder."""

from __future__ import annotations

from pathlib import Path

from robustexit.campaign.spec import ModelSpec
from robustexit.data import load_dataset_spec
from robustexit.errors import ConfigError
from robustexit.modules import saved_modules
from robustexit.permissions import Permissions
from robustexit.victims.fitting import fit_and_save
from robustexit.victims.model_victim import DeployedModel
from robustexit.victims.outputs import collect_outputs


def modules_home(run: Path, model: str) -> Path:
    """Where the run keeps the modules that it fitted for a model."""
    return run / "modules" / model


def fit_missing(name: str, model: ModelSpec, deployed: DeployedModel, base: Path, permissions: Permissions) -> None:
    """Fit the modules that a campaign asks for and that are not in its run folder yet.

    Args:
        name: The model's name in the campaign.
        model: What the campaign says of it.
        deployed: The model, whose module folder is the run's.
        base: Folder that relative paths count from.
        permissions: What the user allowed.

    Raises:
        ConfigError: Unknown module or hyper-parameter, no data, or data whose classes are not the model's.
        DataError: The data cannot be used.
        ModelError: A plain model, or a fit that diverged.
    """
    if model.modules is None:
        return
    there = set(saved_modules(deployed.module_folder))
    wanted = [module for module in model.modules.fit if module.name not in there]
    if not wanted:
        return
    spec = model.modules.data or (model.train.data if model.train else None)
    if spec is None:
        raise ConfigError(f"model {name!r}: modules need data to be fitted on")
    data = load_dataset_spec(spec, name=f"{name}-modules", base=base, allow_network=permissions.network)
    if len(data.label_names) != deployed.shape.num_classes:
        raise ConfigError(
            f"model {name!r} has {deployed.shape.num_classes} classes, the data of its modules {len(data.label_names)}"
        )
    outputs = collect_outputs(deployed, data)
    for module in wanted:
        fit_and_save(deployed, module.name, data, outputs, settings=module.settings, seed=model.modules.seed)
