"""Train a model and, if asked, calibrate an exit policy and store it: a folder that is a whole victim."""

from __future__ import annotations

from pathlib import Path

from robustexit.data import TextDataset
from robustexit.errors import ConfigError
from robustexit.exits import Calibration, Target, calibrate, make_policy, policies
from robustexit.models import load_model
from robustexit.permissions import Permissions
from robustexit.training import TrainResult, TrainSpec, train
from robustexit.victims.model_victim import DeployedModel
from robustexit.victims.outputs import collect_outputs
from robustexit.victims.stored import StoredPolicy, save_stored_policy


def train_victim(
    spec: TrainSpec,
    data: TextDataset,
    held_out: TextDataset | None,
    folder: Path,
    *,
    policy: str | None = None,
    target: Target | None = None,
    permissions: Permissions,
) -> tuple[TrainResult, Calibration | None]:
    """Train (or continue to train) a model and store a calibrated exit policy beside it.

    Args:
        spec: How to train.
        data: Training data.
        held_out: Held-out data for accuracies and thresholds.
        folder: Where the model goes.
        policy: Policy to calibrate; none is stored if None.
        target: What the calibration aims at.
        permissions: What the user allowed.

    Raises:
        ConfigError: A policy without held-out data or without a target.
    """
    if policy is not None and (held_out is None or target is None):
        raise ConfigError("a stored policy needs held-out data (--eval) and a target (--speedup or --accuracy-drop)")
    if policy is not None and policies.get(policy).module is not None:
        raise ConfigError(
            f"policy {policy!r} needs the post-hoc module {policies.get(policy).module!r}: train without --policy, "
            "then `robustexit fit-modules`, then `robustexit calibrate`"
        )
    result = train(spec, data, held_out, folder, permissions=permissions)
    if policy is None or held_out is None or target is None:
        return result, None
    outputs = collect_outputs(DeployedModel(load_model(str(folder))), held_out)
    found = calibrate(policy, target, outputs.held_out())
    save_stored_policy(folder, StoredPolicy(make_policy(policy, **found.parameters), found))
    return result, found
