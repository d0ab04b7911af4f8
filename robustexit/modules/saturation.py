"""Saturation: how little the pooled state changed since the exit before; nothing to learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.modules.base import ExitModule, FitData, modules

NO_EARLIER_STATE = -1.0
"""What stands at exit 1 in the scalar: the smallest cosine, since nothing has been seen to saturate."""


@dataclass(frozen=True)
class SaturationSettings:
    """The module has no hyper-parameters."""


@modules.register("saturation")
class Saturation(ExitModule):
    """cos(h_i, h_{i-1}) of the pooled states of neighbouring exits, as the scalar ``cosine``.

    CALM's hidden-state saturation (Schuster et al. 2022, arXiv 2207.07061) and MuE's similarity (Tang et al. 2023,
    arXiv 2211.11152). They compare the states of neighbouring layers from the embeddings on; here an exit knows the
    pooled states of exits only, so that exit 1 has no earlier state: it reports -1, and the policy never leaves there.
    """

    name: ClassVar[str] = "saturation"
    source: ClassVar[str] = "CALM, Schuster et al. 2022, arXiv 2207.07061"
    Settings = SaturationSettings

    def start(self, rows: int) -> State:
        """No state seen yet."""
        return {"previous": torch.zeros(rows, self.shape.width)}

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Compare with the state of the exit before (a zero state has cosine 0 with any other)."""
        if exit == 1:
            cosine = torch.full((len(pooled),), NO_EARLIER_STATE)
        else:
            cosine = functional.cosine_similarity(pooled, state["previous"], dim=-1)
        return Reading({"previous": pooled}, logits, {"cosine": cosine})

    def macs(self) -> NDArray[np.int64]:
        """Three inner products of width D from exit 2 on; they are no matrix products, which a counter would see."""
        found = np.full(self.shape.num_exits, 3 * self.shape.width, dtype=np.int64)
        found[0] = 0
        return found

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Nothing is learned."""
        return {}
