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
    target_data: TextDataset | None = None,
    policy: str | None = None,
    aim: Target | None = None,
    permissions: Permissions,
) -> tuple[TrainResult, Calibration | None]:
    """Train (or continue to train) a model and store a calibrated exit policy beside it.

    Args:
        spec: How to train.
        data: Training data.
        held_out: Held-out data for accuracies and thresholds.
        folder: Where the model goes.
        target_data: Texts of the domain to adapt to, for the regimes that do; their labels are reported on only.
        policy: Policy to calibrate; none is stored if None.
        aim: What the calibration aims at.
        permissions: What the user allowed.

    Raises:
        ConfigError: A policy without held-out data or without an aim.
    """
    if policy is not None and (held_out is None or aim is None):
        raise ConfigError("a stored policy needs held-out data (--eval) and an aim (--speedup or --accuracy-drop)")
    if policy is not None and policies.get(policy).module is not None:
        raise ConfigError(
            f"policy {policy!r} needs the post-hoc module {policies.get(policy).module!r}: train without --policy, "
            "then `robustexit fit-modules`, then `robustexit calibrate`"
        )
    result = train(spec, data, held_out, folder, target_data=target_data, permissions=permissions)
    if policy is None or held_out is None or aim is None:
        return result, None
    outputs = collect_outputs(DeployedModel(load_model(str(folder))), held_out)
    found = calibrate(policy, aim, outputs.held_out())
    save_stored_policy(folder, StoredPolicy(make_policy(policy, **found.parameters), found))
    return result, found
