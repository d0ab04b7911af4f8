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
        best = torch.softmax(logits, dim=-1).topk(2, dim=-1).values
        return best[..., 0] - best[..., 1]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No margin exceeds 1."""
        return f"no margin exceeds t={self.t:g}; choose t below 1" if self.t >= 1 else None
