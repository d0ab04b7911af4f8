"""Run a policy inside a forward pass: layers a row does not need are not computed for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from robustexit.errors import ModelError
from robustexit.exits.layerwise import ExitOutput, ExitReader, LayerwiseRun
from robustexit.exits.policy import ExitPolicy
from robustexit.exits.replay import require_finite


@dataclass(frozen=True)
class RowResult:
    """One row's way through the model.

    Attributes:
        logits: Logits of the exits computed, shape [depth, classes].
        exit: Exit the policy takes, 1-based.
        probabilities: What it returns there, shape [classes].
        scalars: What a post-hoc module told the policy, by name, each of shape [depth].
    """

    logits: NDArray[np.float32]
    exit: int
    probabilities: NDArray[np.float32]
    scalars: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


class _Fold:
    """The bookkeeping of one batch: which rows are in it, what each has shown so far."""

    def __init__(
        self, policy: ExitPolicy, reader: ExitReader | None, rows: int, batch_rows: int, shape: tuple[int, int]
    ) -> None:
        num_exits, num_classes = shape
        self.policy = policy
        self.reader = reader
        self.memory = {} if reader is None else reader.start(batch_rows)
        self.num_exits = num_exits
        self.rows = rows
        self.state = policy.start(batch_rows, num_exits, num_classes)
        self.present = torch.arange(batch_rows)
        self.exits = torch.zeros(batch_rows, dtype=torch.long)
        self.returned = torch.zeros(batch_rows, num_classes)
        self.logits: list[list[NDArray[np.float32]]] = [[] for _ in range(batch_rows)]
        self.scalars: dict[str, list[list[float]]] = {}

    def update(self, exit: int, output: ExitOutput) -> None:
        """Fold one exit (rows as in `present`) in."""
        logits, scalars = self._read(exit, output)
        self.state, stop, probabilities = self.policy.update(self.state, exit, logits, scalars)
        for row, values in zip(self.present.tolist(), logits.numpy(), strict=True):
            self.logits[row].append(values)
        for name, values in scalars.items():
            kept = self.scalars.setdefault(name, [[] for _ in range(len(self.logits))])
            for row, value in zip(self.present.tolist(), values.tolist(), strict=True):
                kept[row].append(value)
        open_rows = self.exits[self.present] == 0
        leaving = open_rows & (stop | (exit == self.num_exits))
        self.exits[self.present[leaving]] = exit
        self.returned[self.present[leaving]] = probabilities[leaving]

    def _read(self, exit: int, output: ExitOutput) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        """Return what the policy sees: the head's logits, or what a post-hoc module makes of them."""
        logits = output.logits.float().cpu()
        require_finite(logits)
        if self.reader is None:
            return logits, {}
        if output.pooled is None:
            raise ModelError("a post-hoc module reads pooled states, and this model shows none")
        self.memory, logits, scalars = self.reader.read_exit(self.memory, exit, output.pooled.float().cpu(), logits)
        require_finite(logits)
        for name, values in scalars.items():
            require_finite(values, f"scalar {name!r} of the post-hoc module")
        return logits, scalars

    def still_needed(self, exit: int, min_depth: int, min_rows: int) -> torch.Tensor | None:
        """Return the rows (indices into `present`) to carry on with; None when nobody needs more.

        Rows that are done stay in as filler while fewer than `min_rows` are left: the floating-point result of
        a row must not depend on how many neighbours are still there (docs/decisions.md, "Numerics").
        """
        real = self.present < self.rows
        wanted = real & ((self.exits[self.present] == 0) | (exit < min_depth))
        if not bool(wanted.any()):
            return None
        missing = min_rows - int(wanted.sum())
        if missing > 0:
            filler = (~wanted).nonzero().flatten()[:missing]
            wanted[filler] = True
        return wanted.nonzero().flatten()

    def keep(self, rows: torch.Tensor) -> None:
        self.present = self.present[rows]
        self.state = {name: value[rows] for name, value in self.state.items()}
        self.memory = {name: value[rows] for name, value in self.memory.items()}

    def results(self) -> list[RowResult]:
        return [
            RowResult(
                np.stack(self.logits[row]),
                int(self.exits[row]),
                self.returned[row].numpy(),
                {name: np.asarray(kept[row], dtype=np.float32) for name, kept in self.scalars.items()},
            )
            for row in range(self.rows)
        ]


def run_policy(
    run: LayerwiseRun,
    policy: ExitPolicy,
    *,
    rows: int,
    batch_rows: int,
    shape: tuple[int, int],
    min_depth: int = 1,
    min_rows: int = 1,
    reader: ExitReader | None = None,
) -> list[RowResult]:
    """Fold a policy over a forward pass, dropping rows as they leave.

    The policy runs on CPU float32 copies of the logits, so that a replay over stored logits decides the same.

    Args:
        run: A forward pass that has not advanced yet, over `batch_rows` rows.
        policy: The deployed exit policy.
        rows: Real rows, the first ones of the batch; the rest are filler whose results are thrown away.
        batch_rows: Rows in the padded batch, filler included.
        shape: (K, C) of the model.
        min_depth: Exits to compute for every row, also for those that left earlier.
        min_rows: The batch never shrinks below this many rows.
        reader: A post-hoc module between exits and policy, or None.

    Raises:
        ModelError: A logit or scalar is not finite.
    """
    num_exits, _ = shape
    fold = _Fold(policy, reader, rows, batch_rows, shape)
    for exit in range(1, num_exits + 1):
        fold.update(exit, run.advance())
        if exit == num_exits:
            break
        kept = fold.still_needed(exit, min_depth, min_rows)
        if kept is None:
            break
        if len(kept) < len(fold.present):
            fold.keep(kept)
            run.keep(kept)
    return fold.results()
