"""Leave where the pooled state has stopped changing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robustexit.exits.policy import Scalars, State, policies
from robustexit.exits.threshold import Observation, Threshold


@policies.register("saturation")
@dataclass(frozen=True)
class Saturation(Threshold):
    """Leave at the first exit from 2 on with cos(h_i, h_{i-1}) > t.

    CALM's hidden-state saturation (Schuster et al. 2022), MuE (Tang et al. 2023). Exit 1 has no earlier state and is
    never taken, whatever t is. Needs the post-hoc module of the same name, which has no weights.
    """

    name: ClassVar[str] = "saturation"
    source: ClassVar[str] = "CALM, Schuster et al. 2022, arXiv 2207.07061"
    module: ClassVar[str | None] = "saturation"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">"

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Read the cosine; minus infinity at exit 1, below every t."""
        cosine = scalars["cosine"] if exit > 1 else torch.full((len(logits),), -torch.inf)
        return Observation(state, cosine, torch.softmax(logits, dim=-1))

    def reads(self, exit: int, num_exits: int) -> bool:
        """The head of exit 1 is never asked."""
        return exit > 1 or num_exits == 1

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No cosine exceeds 1, and exit 2 is the first that can be taken."""
        if num_exits < 3:
            return "saturation compares neighbouring exits and leaves at exit 2 at the earliest; it needs 3 exits"
        return f"no cosine exceeds t={self.t:g}; choose t below 1" if self.t >= 1 else None
