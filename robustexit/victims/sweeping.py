"""Outputs of a deployed model as a sweep asks for them: read by each policy's module, on two disjoint sets."""

from __future__ import annotations

from robustexit.data.types import TextDataset
from robustexit.errors import DataError
from robustexit.exits.sweep import Outputs as SweepOutputs
from robustexit.exits.sweep import Split
from robustexit.victims.model_victim import DeployedModel
from robustexit.victims.outputs import Outputs


def split_outputs(deployed: DeployedModel, calibration: Outputs, evaluated: Outputs) -> SweepOutputs:
    """Return what gives a sweep its outputs; each module reads once.

    Args:
        deployed: The model, for its post-hoc modules.
        calibration: Its outputs on the calibration texts.
        evaluated: Its outputs on the evaluated texts.
    """
    read: dict[str | None, Split] = {}

    def outputs(module: str | None) -> Split:
        if module not in read:
            fitted = None if module is None else deployed.module(module)
            read[module] = Split(calibration.held_out(fitted), evaluated.held_out(fitted))
        return read[module]

    return outputs


def refuse_shared_texts(calibration: TextDataset, evaluated: TextDataset) -> None:
    """Refuse calibration texts that are also evaluated: thresholds tuned on them would flatter every policy.

    Raises:
        DataError: Some are.
    """
    tuned = {tuple(text.values()) for text in calibration.texts}
    shared = [one.example_id for one in evaluated.examples if tuple(one.fields.values()) in tuned]
    if shared:
        raise DataError(
            f"{len(shared)} of {len(evaluated)} texts of {evaluated.name} are also in {calibration.name} (first: "
            f"{shared[0]}); calibrate on other texts, or remove the repeated ones"
        )
