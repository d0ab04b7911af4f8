"""Fit a post-hoc module on a deployed model's stored outputs and save it where the model looks for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from robustexit.data.types import TextDataset
from robustexit.errors import ModelError
from robustexit.modules import FittedOn, modules, save_module
from robustexit.modules.base import make_settings
from robustexit.victims.model_victim import DeployedModel
from robustexit.victims.outputs import Outputs


@dataclass(frozen=True)
class Fitted:
    """A module that was fitted and saved.

    Attributes:
        fitted_on: What it was fitted on, and what the fit reported.
        seconds: Time of the fit.
    """

    fitted_on: FittedOn
    seconds: float


def fit_and_save(
    deployed: DeployedModel,
    name: str,
    data: TextDataset,
    outputs: Outputs,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
) -> Fitted:
    """Fit a module and save it in the deployed model's module folder.

    Args:
        deployed: The model.
        name: The module's registered name.
        data: The texts that `outputs` belong to.
        outputs: The model's outputs on them.
        settings: Hyper-parameters of the module; its defaults for the rest.
        seed: Seed of the fit.

    Raises:
        ConfigError: Unknown module or hyper-parameter, or data that cannot teach it.
        ModelError: A plain model, or a fit that diverged.
        RunError: The module could not be written.
    """
    kind = modules.get(name)
    if outputs.pooled.shape[2] == 0:
        raise ModelError(
            f"module {name!r} reads the states of a multi-exit model, and this is a plain classifier; train one with "
            "`robustexit train`"
        )
    started = time.perf_counter()
    module, report = kind.fitted(outputs.fit_data(), make_settings(name, **(settings or {})), seed)
    seconds = time.perf_counter() - started
    fitted_on = FittedOn(deployed.loaded.weights_hash, data.name, outputs.data_hash, len(data), seed, report)
    save_module(deployed.module_folder, module, fitted_on)
    deployed.forget_module(name)
    return Fitted(fitted_on, seconds)
