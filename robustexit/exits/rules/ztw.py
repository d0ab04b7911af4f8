"""Leave where the learned ensemble of the exits so far is confident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from robustexit.exits.policy import policies
from robustexit.exits.rules.confidence import MaxProbability


@policies.register("ztw")
@dataclass(frozen=True)
class ZeroTimeWaste(MaxProbability):
    """Leave at the first exit with max q_i > t, q_i the ensemble that the post-hoc module of the same name learned.

    Zero Time Waste (Wolczyk et al. 2021, NeurIPS).
    """

    name: ClassVar[str] = "ztw"
    source: ClassVar[str] = "Zero Time Waste, Wolczyk et al. 2021, NeurIPS, arXiv 2106.05409"
    module: ClassVar[str | None] = "ztw"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">"

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability exceeds t={self.t:g}; choose t below 1" if self.t >= 1 else None
