"""Evaluate any exit policy on stored logits: the same fold as the forward, without the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from robustexit.errors import ModelError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import ExitPolicy


@dataclass(frozen=True)
class Replay:
    """What a policy does on N stored inputs.

    Attributes:
        exit: Exit taken, 1-based, shape [N].
        answer: Argmax of what the policy returns there, shape [N].
        probabilities: What it returns, shape [N, C].
    """

    exit: NDArray[np.int64]
    answer: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def require_finite(values: torch.Tensor, what: str = "logit") -> None:
    """Refuse values that hold a NaN or an infinity.

    Args:
        values: Any shape.
        what: What they are, for the message.

    Raises:
        ModelError: A value is not finite.
    """
    if not bool(torch.isfinite(values).all()):
        raise ModelError(
            f"the model returned a {what} that is not finite (NaN or infinity); check its weights and precision"
        )


def replay(policy: ExitPolicy, logits: ArrayLike, scalars: Mapping[str, ArrayLike] | None = None) -> Replay:
    """Fold a policy over stored per-exit logits.

    Args:
        policy: Any exit policy, at any setting (also one that never leaves early).
        logits: Shape [N, K, C]; read as float32, as the forward computes them.
        scalars: Named per-exit values, each of shape [N, K].

    Returns:
        Exits, answers and probabilities; equal to what the layer-skipping forward does on the same logits.

    Raises:
        ModelError: Wrong shape, or logits or scalars that are not finite.
    """
    values = torch.as_tensor(np.asarray(logits), dtype=torch.float32)
    if values.ndim != 3 or 0 in values.shape[1:]:
        raise ModelError(f"expected logits of shape [N, exits, classes], got {list(values.shape)}")
    require_finite(values)
    rows, num_exits, num_classes = values.shape
    extra = {name: torch.as_tensor(np.asarray(value), dtype=torch.float32) for name, value in (scalars or {}).items()}
    for name, value in extra.items():
        if value.shape != (rows, num_exits):
            raise ModelError(f"expected scalar {name!r} of shape {[rows, num_exits]}, got {list(value.shape)}")
        require_finite(value, f"scalar {name!r}")
    state = policy.start(rows, num_exits, num_classes)
    exits = torch.zeros(rows, dtype=torch.long)
    returned = torch.zeros(rows, num_classes)
    for exit in range(1, num_exits + 1):
        at_exit = {name: value[:, exit - 1] for name, value in extra.items()}
        state, stop, probabilities = policy.update(state, exit, values[:, exit - 1], at_exit)
        leaving = (exits == 0) & (stop | (exit == num_exits))
        exits[leaving] = exit
        returned[leaving] = probabilities[leaving]
    return Replay(exits.numpy(), returned.argmax(dim=-1).numpy(), returned.numpy())


def replay_held_out(policy: ExitPolicy, held_out: HeldOut) -> Replay:
    """Fold a policy over stored outputs; also policies that read the true label, which none deployed may.

    Raises:
        ModelError: Wrong shape, or outputs that are not finite.
    """
    scalars = dict(held_out.scalars)
    if policy.needs_labels:
        scalars["label"] = np.repeat(held_out.labels[:, None], held_out.num_exits, axis=1).astype(np.float32)
    return replay(policy, held_out.logits, scalars)
