"""The folder of a training run: whose it is, where it stands, and how it is finished.

While a run is going on, everything lies under ``checkpoints/``. The model's own files appear at the end,
each by an atomic rename, and training.json after all of them: a folder that holds training.json is finished.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model

from robustexit.data.types import TextDataset
from robustexit.errors import RunError
from robustexit.training.arguments import TrainSpec
from robustexit.training.results import TRAINING_FILE, read_training_file

OPERATIONAL = frozenset({"checkpoint_steps"})
"""Settings that change nothing in the weights: a run may be continued with others."""


def identity(
    spec: TrainSpec, train_data: TextDataset, eval_data: TextDataset | None, target_data: TextDataset | None = None
) -> dict[str, Any]:
    """Return what makes two runs the same run: the settings and the content of the data."""
    return {
        "spec": spec.model_dump(mode="json", exclude=set(OPERATIONAL)),
        "train_hash": train_data.content_hash(),
        "eval_hash": None if eval_data is None else eval_data.content_hash(),
        "target_hash": None if target_data is None else target_data.content_hash(),
    }


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Return one phrase a difference between two identities."""
    before, now = (
        # Runs of earlier versions lack what came later: target data, and settings that then had one value.
        {
            **{name: field.get_default(call_default_factory=True) for name, field in TrainSpec.model_fields.items()},
            **run["spec"],
            "train": run["train_hash"],
            "eval": run["eval_hash"],
            "target": run.get("target_hash"),
        }
        for run in (there, here)
    )
    named = {
        "train": "training data (SHA-256)",
        "eval": "held-out data (SHA-256)",
        "target": "target data (SHA-256)",
    }
    return [
        f"{named.get(key, key)}: {before.get(key)!r} there, {now.get(key)!r} here"
        for key in {**before, **now}
        if key not in OPERATIONAL and before.get(key) != now.get(key)
    ]


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failed write (a full disk, a missing right) into an error that says what to do.

    Raises:
        RunError: A file under the folder could not be written or read.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise _write_error(folder, error) from error
    except RuntimeError as error:
        # torch.save reports a full disk as a RuntimeError of its zip writer.
        if "PytorchStreamWriter" not in str(error) and "unexpected pos" not in str(error):
            raise
        raise _write_error(folder, error) from error


def _write_error(folder: Path, error: Exception) -> RunError:
    return RunError(
        f"cannot write the training run in {folder}: {error}; free space there or check its rights, then run "
        "the same command again: it goes on from the last checkpoint"
    )


@dataclass(frozen=True)
class RunFolder:
    """One training run's folder.

    Attributes:
        output: Where the model will lie.
    """

    output: Path

    @property
    def checkpoints(self) -> Path:
        """Everything that only an unfinished run needs."""
        return self.output / "checkpoints"

    @property
    def _plan(self) -> Path:
        return self.checkpoints / "plan.json"

    def stage(self, number: int) -> Path:
        """Return the folder of stage `number` (1-based)."""
        return self.checkpoints / f"stage-{number}"

    def finished(self, this: Mapping[str, Any]) -> bool:
        """Return whether this very run is finished here.

        Args:
            this: The identity of the run.

        Raises:
            RunError: The folder holds another run, finished or not, or files of another model.
        """
        if (self.output / TRAINING_FILE).exists():
            self._refuse_other(read_training_file(self.output), this, "a finished run")
            return True
        if self._plan.exists():
            self._refuse_other(_read_json(self._plan), this, "an unfinished run")
        elif (self.output / "config.json").exists() or any(self.output.glob("*.safetensors")):
            raise RunError(
                f"{self.output} holds a model that no training run of ours wrote; choose an empty output folder"
            )
        return False

    def _refuse_other(self, there: Mapping[str, Any], here: Mapping[str, Any], what: str) -> None:
        try:
            changed = differences(there, here)
        except (KeyError, TypeError) as error:
            raise RunError(f"{self.output}: {what} with an unreadable plan ({error}); delete the folder") from error
        if changed:
            raise RunError(
                f"{self.output} holds {what} with other settings or data; " + "; ".join(changed) + ". Choose another "
                "output folder, or delete this one to train again"
            )

    def begin(self, this: Mapping[str, Any], initial_weights: str) -> bool:
        """Start or continue the run.

        Args:
            this: The identity of the run.
            initial_weights: Hash of the model before training.

        Returns:
            Whether an earlier session left something to continue from.

        Raises:
            RunError: The backbone is not what it was when the run began.
        """
        if not self._plan.exists():
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            write_json(self._plan, {**this, "initial_weights": initial_weights})
            return False
        if _read_json(self._plan).get("initial_weights") != initial_weights:
            raise RunError(
                f"{self.output} holds an unfinished run that began from other weights; put the backbone back as "
                "it was, choose another output folder, or delete this one to train again"
            )
        return any(self.checkpoints.glob("stage-*/*"))

    def latest_checkpoint(self, number: int) -> Path | None:
        """Return the newest complete checkpoint of a stage.

        The Trainer writes its state file last, so a checkpoint without a readable one was cut short.
        """
        found = sorted(self.stage(number).glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
        for path in reversed(found):
            try:
                json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            return path
        return None

    def load_stage(self, number: int, model: torch.nn.Module) -> tuple[list[Any], dict[str, Any]] | None:
        """Load the weights that a finished stage left.

        Returns:
            Its history and what its objective learned, as JSON, or None if the stage is not finished.
        """
        done = self.stage(number) / "done.json"
        if not done.exists():
            return None
        load_model(model, self.stage(number) / "weights.safetensors")
        kept = _read_json(done)
        return list(kept["history"]), dict(kept.get("learned", {}))

    def finish_stage(self, number: int, model: torch.nn.Module, history: list[Any], learned: Mapping[str, Any]) -> None:
        """Keep a finished stage's weights and drop its checkpoints."""
        stage = self.stage(number)
        stage.mkdir(parents=True, exist_ok=True)
        save_model(model, str(stage / "weights.safetensors"))
        write_json(stage / "done.json", {"history": history, "learned": dict(learned)})
        for path in stage.glob("checkpoint-*"):
            shutil.rmtree(path)

    def add_seconds(self, seconds: float) -> None:
        """Note the time spent so far, over all sessions."""
        write_json(self.checkpoints / "clock.json", {"seconds": seconds})

    def seconds(self) -> float:
        """Return the time that earlier sessions noted."""
        path = self.checkpoints / "clock.json"
        return float(_read_json(path)["seconds"]) if path.exists() else 0.0

    def finish(self, save: Callable[[Path], None], record: Mapping[str, Any]) -> None:
        """Put the finished model in place, then its record, then drop the checkpoints.

        Args:
            save: Writes the model's files into a folder.
            record: The content of training.json.
        """
        staging = self.checkpoints / "final"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        save(staging)
        for path in sorted(path for path in staging.rglob("*") if path.is_file()):
            target = self.output / path.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
        write_json(self.output / TRAINING_FILE, record)
        self.clean()

    def clean(self) -> None:
        """Drop the checkpoints of a finished run."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise RunError(f"cannot read {path}: {error}; delete {path.parent} to train again") from error
    return content
