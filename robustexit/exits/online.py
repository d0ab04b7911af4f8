"""Run a policy inside a forward pass: layers a row does not need are not computed for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from robustexit.exits.layerwise import LayerwiseRun
from robustexit.exits.policy import ExitPolicy
from robustexit.exits.replay import require_finite


@dataclass(frozen=True)
class RowResult:
    """One row's way through the model.

    Attributes:
        logits: Logits of the exits computed, shape [depth, classes].
        exit: Exit the policy takes, 1-based.
        probabilities: What it returns there, shape [classes].
    """

    logits: NDArray[np.float32]
    exit: int
    probabilities: NDArray[np.float32]


class _Fold:
    """The bookkeeping of one batch: which rows are in it, what each has shown so far."""

    def __init__(self, policy: ExitPolicy, rows: int, batch_rows: int, shape: tuple[int, int]) -> None:
        num_exits, num_classes = shape
        self.policy = policy
        self.num_exits = num_exits
        self.rows = rows
        self.state = policy.start(batch_rows, num_exits, num_classes)
        self.present = torch.arange(batch_rows)
        self.exits = torch.zeros(batch_rows, dtype=torch.long)
        self.returned = torch.zeros(batch_rows, num_classes)
        self.logits: list[list[NDArray[np.float32]]] = [[] for _ in range(batch_rows)]

    def update(self, exit: int, logits: torch.Tensor) -> None:
        """Fold one exit's logits (rows as in `present`) in."""
        require_finite(logits)
        self.state, stop, probabilities = self.policy.update(self.state, exit, logits, {})
        for row, values in zip(self.present.tolist(), logits.numpy(), strict=True):
            self.logits[row].append(values)
        open_rows = self.exits[self.present] == 0
        leaving = open_rows & (stop | (exit == self.num_exits))
        self.exits[self.present[leaving]] = exit
        self.returned[self.present[leaving]] = probabilities[leaving]

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

    def results(self) -> list[RowResult]:
        return [
            RowResult(np.stack(self.logits[row]), int(self.exits[row]), self.returned[row].numpy())
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

    Raises:
        ModelError: A logit is not finite.
    """
    num_exits, _ = shape
    fold = _Fold(policy, rows, batch_rows, shape)
    for exit in range(1, num_exits + 1):
        fold.update(exit, run.advance().logits.float().cpu())
        if exit == num_exits:
            break
        kept = fold.still_needed(exit, min_depth, min_rows)
        if kept is None:
            break
        if len(kept) < len(fold.present):
            fold.keep(kept)
            run.keep(kept)
    return fold.results()
