"""Stored outputs of a model on held-out data: what thresholds are calibrated and policies are swept on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class HeldOut:
    """Stored outputs of a model (with a post-hoc module's reading, where a policy needs one) on N texts.

    Attributes:
        logits: Shape [N, K, C].
        labels: Shape [N].
        costs: Cost of leaving at each exit as a share of the full-depth control's, with every head on the way
            read, shape [N, K].
        data_hash: Content hash of the examples.
        scalars: Named per-exit values that a policy reads beside the logits, each of shape [N, K].
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    costs: NDArray[np.float64]
    data_hash: str
    scalars: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def num_exits(self) -> int:
        """K."""
        return int(self.logits.shape[1])

    @property
    def num_classes(self) -> int:
        """C."""
        return int(self.logits.shape[2])

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each exit alone is right, shape [N, K]."""
        right: NDArray[np.bool_] = self.logits.argmax(axis=-1) == self.labels[:, None]
        return right

    def take(self, rows: NDArray[np.int64]) -> HeldOut:
        """Return the chosen examples, in the order of `rows` (indices, shape [M])."""
        scalars = {name: values[rows] for name, values in self.scalars.items()}
        return HeldOut(self.logits[rows], self.labels[rows], self.costs[rows], self.data_hash, scalars)
