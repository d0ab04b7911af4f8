"""One forward of every exit over a dataset, stored: what calibrations, sweeps and post-hoc modules work on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from robustexit.data.types import TextDataset
from robustexit.errors import ModelError, RunError
from robustexit.exits import HeldOut
from robustexit.exits.replay import require_finite
from robustexit.modules import ExitModule, FitData, read_stored
from robustexit.runs import write_atomically
from robustexit.victims.model_victim import DeployedModel

ARRAYS: Final = ("logits", "pooled", "labels", "tokens", "exit_macs", "full_macs")
DESCRIPTION: Final = "outputs.json"


@dataclass(frozen=True)
class Outputs:
    """What a model computes on N texts, at every exit.

    Attributes:
        logits: The heads' logits, shape [N, K, C].
        pooled: What the heads read, shape [N, K, D]; D is 0 for a model that shows no states.
        labels: Shape [N].
        tokens: Tokens of each text, shape [N].
        exit_macs: MACs of leaving at each exit with every head on the way read, shape [N, K].
        full_macs: MACs of the full-depth control (every layer, the last head), shape [N].
        data_hash: Content hash of the examples.
    """

    logits: NDArray[np.float32]
    pooled: NDArray[np.float32]
    labels: NDArray[np.int64]
    tokens: NDArray[np.int64]
    exit_macs: NDArray[np.int64]
    full_macs: NDArray[np.int64]
    data_hash: str

    def costs(self, module: ExitModule | None = None) -> NDArray[np.float64]:
        """Return the cost of leaving at each exit as a share of the full-depth control's, shape [N, K].

        Every head on the way is charged, and the module where there is one.
        """
        spent = self.exit_macs if module is None else self.exit_macs + np.cumsum(module.macs())
        shares: NDArray[np.float64] = spent / self.full_macs[:, None]
        return shares

    def held_out(self, module: ExitModule | None = None) -> HeldOut:
        """Return the outputs as a policy sees them, read by a post-hoc module if there is one."""
        costs = self.costs(module)
        if module is None:
            # Copies: stored outputs are memory-mapped for reading only, which tensors cannot be.
            return HeldOut(np.array(self.logits), np.array(self.labels), costs, self.data_hash)
        reading = read_stored(module, self.pooled, self.logits)
        for name, values in {"logit": reading.logits, **reading.scalars}.items():
            require_finite(torch.from_numpy(values), f"{name} of module {module.name!r}")
        return HeldOut(reading.logits, np.array(self.labels), costs, self.data_hash, reading.scalars)

    def fit_data(self) -> FitData:
        """Return the outputs as post-hoc modules are fitted on them."""
        return FitData(self.pooled, self.logits, self.labels, self.costs().mean(axis=0))


def collect_outputs(
    deployed: DeployedModel,
    data: TextDataset,
    store: Path | None = None,
    advance: Callable[[int], None] = lambda rows: None,
) -> Outputs:
    """Run every exit on every text, or read what an earlier call stored.

    Args:
        deployed: The model.
        data: The texts.
        store: Folder to keep the outputs in (an own one for each model and dataset is made inside); None to keep
            them in memory only.
        advance: Told the number of texts finished, for progress.

    Returns:
        The outputs; each row is what a victim would compute on that text alone.

    Raises:
        ModelError: A logit is not finite.
        RunError: The outputs could not be stored.
    """
    home = None if store is None else store / outputs_key(deployed, data)
    if home is not None and (home / DESCRIPTION).exists():
        advance(len(data))
        return read_outputs(home)
    outputs = _run(deployed, data, advance)
    if home is None:
        return outputs
    write_outputs(home, outputs, {"data": data.name, "weights_hash": deployed.loaded.weights_hash})
    return read_outputs(home)


def outputs_key(deployed: DeployedModel, data: TextDataset) -> str:
    """Return a name that is the same only for the same weights, token limit and examples."""
    parts = [deployed.loaded.weights_hash, deployed.max_length, data.content_hash()]
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return f"{data.name}-{digest[:16]}"


def _run(deployed: DeployedModel, data: TextDataset, advance: Callable[[int], None]) -> Outputs:
    encoded = deployed.encode(data.texts)
    shape = deployed.shape
    logits = np.empty((len(data), shape.num_exits, shape.num_classes), dtype=np.float32)
    pooled: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for batch in deployed.batches(encoded):
            run = deployed.forward(batch)
            rows = len(batch.positions)
            for index in range(shape.num_exits):
                output = run.advance()
                values = output.logits[:rows].float().cpu()
                require_finite(values)
                logits[batch.positions, index] = values.numpy()
                states = np.empty((rows, 0)) if output.pooled is None else output.pooled[:rows].float().cpu().numpy()
                if pooled is None:
                    pooled = np.empty((len(data), shape.num_exits, states.shape[1]), dtype=np.float32)
                pooled[batch.positions, index] = states
            advance(rows)
    tokens = np.asarray([one.tokens for one in encoded], dtype=np.int64)
    every_head = np.ones(shape.num_exits, dtype=np.bool_)
    return Outputs(
        logits=logits,
        pooled=np.empty((0, shape.num_exits, 0), dtype=np.float32) if pooled is None else pooled,
        labels=np.asarray(data.labels, dtype=np.int64),
        tokens=tokens,
        exit_macs=np.stack([deployed.macs.leaving(int(count), every_head) for count in tokens]),
        full_macs=np.asarray([deployed.full_macs(int(count)) for count in tokens], dtype=np.int64),
        data_hash=data.content_hash(),
    )


def write_outputs(folder: Path, outputs: Outputs, about: dict[str, Any]) -> None:
    """Store outputs: one ``.npy`` file an array, and a description written last.

    Raises:
        RunError: The disk is full or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            partial = folder / f"{name}.partial"
            with partial.open("wb") as file:
                np.save(file, getattr(outputs, name))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(folder / f"{name}.npy")
    except OSError as error:
        raise RunError(f"cannot store outputs in {folder}: {error.strerror or error}; free space there") from error
    content = {**about, "data_hash": outputs.data_hash, "n": len(outputs.labels)}
    write_atomically(folder / DESCRIPTION, json.dumps(content, indent=2).encode())


def read_outputs(folder: Path) -> Outputs:
    """Read stored outputs; arrays are memory-mapped.

    Raises:
        ModelError: Missing, truncated or unreadable files.
    """
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
        outputs = Outputs(**arrays, data_hash=content["data_hash"])
        if any(len(array) != content["n"] for array in arrays.values()):
            raise ValueError(f"expected {content['n']} rows in every array")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"stored outputs in {folder} cannot be read ({error}); delete that folder") from error
    return outputs
