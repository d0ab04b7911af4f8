"""Leave where a policy network learned by reinforcement says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from robustexit.exits.policy import policies
from robustexit.exits.threshold import ModuleScore


@policies.register("consistent-ee")
@dataclass(frozen=True)
class ConsistentEE(ModuleScore):
    """Leave at the first exit with pi_i > t, pi_i the policy network's probability of leaving.

    ConsistentEE (Zeng et al. 2024, arXiv 2312.11882), where t is .5; moving it sweeps one fitted policy, where the
    authors fit one for each price of depth. Needs the post-hoc module of the same name.
    """

    name: ClassVar[str] = "consistent-ee"
    source: ClassVar[str] = "ConsistentEE, Zeng et al. 2024, arXiv 2312.11882"
    module: ClassVar[str | None] = "consistent-ee"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">"
    scalar: ClassVar[str] = "leave"

    t: float = 0.5

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability exceeds t={self.t:g}; choose t below 1" if self.t >= 1 else None
