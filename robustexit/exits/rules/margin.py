"""Leave where the two best classes are far apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robustexit.exits.policy import policies
from robustexit.exits.rules.confidence import Confidence


@policies.register("margin")
@dataclass(frozen=True)
class Margin(Confidence):
    """Leave at the first exit whose two largest probabilities are more than t apart.

    CALM's softmax response (Schuster et al. 2022, arXiv 2207.07061), applied to an exit's class distribution instead
    of a generated token's.
    """

    name: ClassVar[str] = "margin"
    source: ClassVar[str] = "CALM, Schuster et al. 2022, arXiv 2207.07061"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">"

    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """The largest less the second largest probability."""
        p = torch.softmax(logits, dim=-1)
        best, at = p.max(dim=-1, keepdim=True)
        # The largest of what is left once one winner is struck out; on the CPU twice as fast as topk.
        return (best - p.scatter(-1, at, -1.0).amax(dim=-1, keepdim=True))[..., 0]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No margin exceeds 1."""
        return f"no margin exceeds t={self.t:g}; choose t below 1" if self.t >= 1 else None
