"""Leave where a learned layer expects the exit to be right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from robustexit.exits.policy import policies
from robustexit.exits.threshold import ModuleScore


@policies.register("learning-to-exit")
@dataclass(frozen=True)
class LearningToExit(ModuleScore):
    """Leave at the first exit with u_i < t, u_i the module's estimate that exit i is wrong.

    BERxiT (Xin et al. 2021, EACL). Needs the post-hoc module of the same name.
    """

    name: ClassVar[str] = "learning-to-exit"
    source: ClassVar[str] = "BERxiT, Xin et al. 2021, EACL"
    module: ClassVar[str | None] = "learning-to-exit"
    leaves: ClassVar[Literal[">=", ">", "<"]] = "<"
    scalar: ClassVar[str] = "uncertainty"

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """A sigmoid is never below 0."""
        return f"no uncertainty lies below t={self.t:g}; choose t above 0" if self.t <= 0 else None
