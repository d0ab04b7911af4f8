"""Leave where learned gates put the probability of leaving."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robustexit.exits.policy import Scalars, State, policies
from robustexit.exits.threshold import Observation, Threshold


@policies.register("jei-gates")
@dataclass(frozen=True)
class JEIGates(Threshold):
    """Leave at the first exit whose conditional probability of leaving is >= t.

    JEI-DNN (Regol, Chataoui and Coates 2024, arXiv 2310.09163; code: networkslab/dynn): gates g_i give
    P(leave at i) = max(0, min(g_i, 1 - sum_{j<i} g_j)), exit K takes the rest, and the conditional probability is P
    over what the exits before have left. The authors' t is .5 and they fit one model for each price of inference;
    moving t sweeps one fitted model. Needs the post-hoc module of the same name.
    """

    name: ClassVar[str] = "jei-gates"
    source: ClassVar[str] = "JEI-DNN, Regol et al. 2024, arXiv 2310.09163"
    module: ClassVar[str | None] = "jei-gates"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">="

    t: float = 0.5

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """No gate has taken anything yet."""
        return {"gates": torch.zeros(rows)}

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Hold the gate against what the gates before have left; where that is nothing, leave for certain."""
        left = (1 - state["gates"]).clamp(min=0)
        conditional = torch.where(left > 0, (scalars["gate"] / left).clamp(max=1), 1.0)
        return Observation({"gates": state["gates"] + scalars["gate"]}, conditional, torch.softmax(logits, dim=-1))

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None
