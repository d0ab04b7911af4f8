"""Frozen encoders: run once over the data, store every exit's pooled state, fit heads on the stored states.

With the encoder frozen, a head sees the same state of a text in every epoch. Computing the states once turns
minutes an epoch into seconds for the whole fit.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import DataCollatorWithPadding

from robustexit.errors import ModelError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.tensors import own_copy
from robustexit.training.encoding import EncodedTexts
from robustexit.training.objectives import Batch, Objective, Step

FLUSH_BATCHES = 20
"""Batches between two notes of how far the features are: at most this much is computed again after a kill."""


@dataclass(frozen=True)
class Features:
    """Stored states of a dataset, on disk.

    Attributes:
        pooled: Shape [N, K, D], float32, memory-mapped, in the dataset's order.
        labels: Shape [N].
    """

    pooled: NDArray[np.float32]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class FitOptions:
    """How heads are fitted on stored states.

    Attributes:
        epochs: Passes over the states.
        learning_rate: AdamW's peak rate, falling to zero along a cosine.
        weight_decay: Decoupled weight decay.
        batch_size: Rows a step.
        seed: Seeds the order and the heads' dropout.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    batch_size: int
    seed: int


def store_features(
    model: MultiExitForSequenceClassification,
    texts: EncodedTexts,
    path: Path,
    *,
    batch_size: int,
    bf16: bool,
    advance: Callable[[int], None],
) -> Features:
    """Run the frozen encoder once over the texts, or continue or reuse what `path` holds.

    Args:
        model: The multi-exit model.
        texts: What to run it on.
        path: The ``.npy`` file of the states; `path` + ``.rows`` counts those that are done. The caller
            vouches that both come from this model and these texts.
        batch_size: Texts a batch; texts of like length share one.
        bf16: Run under bfloat16 autocast.
        advance: Told the number of texts finished, also those found done.

    Returns:
        The states, memory-mapped for reading.

    Raises:
        ModelError: A state is not finite.
        OSError: The states could not be written.
    """
    order = sorted(range(len(texts)), key=lambda row: texts.lengths[row])
    progress = path.with_name(path.name + ".rows")
    done = int(progress.read_text()) if progress.exists() and path.exists() else 0
    advance(done)
    model.eval()  # type: ignore[no-untyped-call]
    states = np.load(path, mmap_mode="r+") if done else None
    collate = DataCollatorWithPadding(texts.tokenizer)
    for number, start in enumerate(range(done, len(order), batch_size), start=1):
        rows = order[start : start + batch_size]
        pooled = _pooled(model, collate([texts[row] for row in rows]), bf16)
        if states is None:
            shape = (len(texts), *pooled.shape[1:])
            states = _new_states(path, shape)
        states[rows] = pooled
        done = start + len(rows)
        advance(len(rows))
        if number % FLUSH_BATCHES == 0 or done == len(order):
            states.flush()
            _replace_text(progress, str(done))
    return Features(np.load(path, mmap_mode="r"), np.asarray(texts.labels, dtype=np.int64))


def _new_states(path: Path, shape: tuple[int, ...]) -> Any:
    states = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    # A memory map is a sparse file: without its space reserved, a full disk would kill the process (SIGBUS).
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return states


def _pooled(
    model: MultiExitForSequenceClassification, batch: dict[str, torch.Tensor], bf16: bool
) -> NDArray[np.float32]:
    device = next(model.parameters()).device
    inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        pooled: torch.Tensor = model(**inputs).pooled
    if not bool(torch.isfinite(pooled).all()):
        raise ModelError(
            "the frozen encoder returned states that are not finite; check the checkpoint, or use precision fp32"
        )
    return pooled.float().cpu().numpy()


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def fit_heads(
    model: MultiExitForSequenceClassification, features: Features, objective: Objective, options: FitOptions
) -> Iterator[float]:
    """Fit the heads that require gradients on stored states, all in one loop.

    Args:
        model: The multi-exit model; only heads with gradients on change.
        features: Its states on the training data.
        objective: What the stage minimises, started.
        options: How to fit.

    Yields:
        The mean loss of each epoch (nats), after that epoch's steps.

    Raises:
        ModelError: The loss is not finite.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad] + objective.learned()
    device = learned[0].device
    optimizer = torch.optim.AdamW(learned, lr=options.learning_rate, weight_decay=options.weight_decay)
    steps = options.epochs * -(-len(features.labels) // options.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator = torch.Generator().manual_seed(options.seed)
    number = 0
    for epoch in range(1, options.epochs + 1):
        model.heads.train()
        total = 0.0
        shuffled = torch.randperm(len(features.labels), generator=generator)
        for rows in torch.split(shuffled, options.batch_size):
            # Sorted rows are read in file order from the memory map; a batch mean ignores order.
            rows = rows.sort().values
            batch = Batch({}, own_copy(features.labels[rows.numpy()]).to(device), rows.to(device))
            pooled = own_copy(features.pooled[rows.numpy()]).to(device)
            rate = float(schedule.get_last_lr()[0])
            step = Step(model, number, steps, batch, model.head_logits(pooled), pooled, head_rate=rate)
            optimizer.zero_grad(set_to_none=True)
            value = objective.gradients(step)
            check_loss(value, f"epoch {epoch} of the fit on stored features", "feature_learning_rate")
            optimizer.step()
            schedule.step()
            objective.after_step(step)
            number += 1
            total += float(value) * len(rows)
        model.heads.eval()
        yield total / len(features.labels)


def check_loss(value: torch.Tensor, where: str, rate: str) -> None:
    """Stop at a loss that is not finite.

    Args:
        value: The scalar loss.
        where: The step it was found at, for the message.
        rate: The setting to lower, for the message.

    Raises:
        ModelError: The loss is infinite or not a number.
    """
    if not bool(torch.isfinite(value.detach())):
        raise ModelError(
            f"expected a finite loss, got {float(value.detach())} at {where}; lower {rate}, raise "
            "warmup_ratio, or use precision fp32"
        )


def stored_logits(
    model: MultiExitForSequenceClassification, features: Features, batch_size: int
) -> NDArray[np.float32]:
    """Return every head's logits on stored states.

    Args:
        model: The multi-exit model.
        features: Its states, N texts.
        batch_size: Rows a step.

    Returns:
        Shape [N, K, C].
    """
    device = next(model.parameters()).device
    parts = []
    with torch.inference_mode():
        for start in range(0, len(features.labels), batch_size):
            pooled = own_copy(features.pooled[start : start + batch_size]).to(device)
            parts.append(model.head_logits(pooled).cpu().numpy())
    return np.concatenate(parts)
