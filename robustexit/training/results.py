"""What a training run reports: the accuracy of every exit, epoch by epoch and at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from robustexit.errors import RunError
from robustexit.training.arguments import TrainSpec

TRAINING_FILE = "training.json"
"""Written last: a folder that holds it is a finished run."""

Status: TypeAlias = Literal["trained", "resumed", "already finished"]
"""How this call came to its result."""


@dataclass(frozen=True)
class ExitAccuracy:
    """Held-out accuracy of one exit, with its 95 % Wilson interval.

    Attributes:
        exit: 1-based exit.
        layer: Its encoder layer, 1-based.
        correct: Held-out texts that it answers right.
        total: Held-out texts.
        accuracy: Their ratio.
        low: Lower end of the interval.
        high: Upper end of the interval.
    """

    exit: int
    layer: int
    correct: int
    total: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class EpochRecord:
    """One epoch of one stage.

    Attributes:
        stage: Name of the regime's stage.
        epoch: 1-based epoch within the stage.
        loss: Mean of the stage's training loss over its steps (nats).
        trained_exits: Exits whose heads learn in this stage; the others keep their earlier (or random) state.
        exit_correct: Held-out texts that each exit 1..K answers right after the epoch, or None
            without held-out data.
    """

    stage: str
    epoch: int
    loss: float
    trained_exits: tuple[int, ...]
    exit_correct: tuple[int, ...] | None

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> EpochRecord:
        """Return the record that `dataclasses.asdict` and JSON made of it."""
        correct = record["exit_correct"]
        return cls(
            stage=record["stage"],
            epoch=record["epoch"],
            loss=record["loss"],
            trained_exits=tuple(record["trained_exits"]),
            exit_correct=None if correct is None else tuple(correct),
        )


@dataclass(frozen=True)
class TrainResult:
    """A finished training run.

    Attributes:
        output: The model's folder.
        spec: What was asked.
        exit_layers: Encoder layer of each exit.
        exits: Held-out accuracy of each exit at the end; empty without held-out data.
        history: Every epoch of every stage.
        seconds: Wall-clock time spent, over all sessions (without what was lost to a kill).
        synthetic: The training or held-out text is generated.
        status: How this call came to it.
        target_exits: Accuracy of each exit on the labelled target texts, which trained without their labels; empty
            without them.
        learned: What each stage learned beside the weights, by stage name and then by name.
    """

    output: Path
    spec: TrainSpec
    exit_layers: tuple[int, ...]
    exits: tuple[ExitAccuracy, ...]
    history: tuple[EpochRecord, ...]
    seconds: float
    synthetic: bool
    status: Status
    target_exits: tuple[ExitAccuracy, ...] = ()
    learned: Mapping[str, Any] = field(default_factory=dict)

    def as_record(self) -> dict[str, Any]:
        """Return the part of training.json that the run found out."""
        return {
            "exit_layers": list(self.exit_layers),
            "exits": [asdict(accuracy) for accuracy in self.exits],
            "target_exits": [asdict(accuracy) for accuracy in self.target_exits],
            "history": [asdict(epoch) for epoch in self.history],
            "learned": dict(self.learned),
            "seconds": round(self.seconds, 3),
            "synthetic": self.synthetic,
            "resumed": self.status == "resumed",
        }


def count_correct(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[int, ...]:
    """Return how many texts each exit answers right.

    Args:
        logits: Shape [N, K, C].
        labels: Shape [N].
    """
    return tuple(int(count) for count in (logits.argmax(-1) == labels[:, None]).sum(0))


def exit_accuracies(correct: tuple[int, ...], total: int, exit_layers: tuple[int, ...]) -> tuple[ExitAccuracy, ...]:
    """Return each exit's accuracy with its 95 % Wilson interval (Wilson 1927).

    Args:
        correct: Right answers of each exit.
        total: Texts asked.
        exit_layers: Encoder layer of each exit.
    """
    found = []
    for index, (count, layer) in enumerate(zip(correct, exit_layers, strict=True), start=1):
        interval = binomtest(count, total).proportion_ci(method="wilson")
        low, high = float(interval.low), float(interval.high)
        found.append(ExitAccuracy(index, layer, count, total, count / total, low, high))
    return tuple(found)


def read_training_file(folder: Path) -> dict[str, Any]:
    """Return what a finished run wrote about itself.

    Raises:
        RunError: There is no training.json, or it cannot be read.
    """
    path = folder / TRAINING_FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot read {path}: {error}; expected a folder written by training") from error
    if not isinstance(record, dict):
        raise RunError(f"{path}: expected a JSON object, got {type(record).__name__}")
    return record


def read_result(folder: Path) -> TrainResult:
    """Return the result of a finished run.

    Raises:
        RunError: There is no training.json, or it cannot be read.
        ConfigError: Its settings are not this version's.
    """
    record = read_training_file(folder)
    try:
        return TrainResult(
            output=folder,
            spec=TrainSpec.parse(record["spec"]),
            exit_layers=tuple(record["exit_layers"]),
            exits=tuple(ExitAccuracy(**accuracy) for accuracy in record["exits"]),
            history=tuple(EpochRecord.from_json(epoch) for epoch in record["history"]),
            seconds=record["seconds"],
            synthetic=record["synthetic"],
            status="already finished",
            target_exits=tuple(ExitAccuracy(**accuracy) for accuracy in record.get("target_exits", ())),
            learned=record.get("learned", {}),
        )
    except (KeyError, TypeError) as error:
        raise RunError(f"{folder / TRAINING_FILE}: not a record of this version ({error}); train again") from error
