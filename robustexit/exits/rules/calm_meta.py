"""Leave where a probe expects the answer of the last exit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from robustexit.exits.policy import policies
from robustexit.exits.threshold import ModuleScore


@policies.register("calm-meta")
@dataclass(frozen=True)
class CalmMeta(ModuleScore):
    """Leave at the first exit with m_i >= t, m_i the probe's probability that exit i agrees with exit K.

    CALM (Schuster et al. 2022, arXiv 2207.07061), whose t is chosen by learn-then-test: calibrate with
    ``risk: 0.05, loss: disagreement``. Needs the post-hoc module of the same name.
    """

    name: ClassVar[str] = "calm-meta"
    source: ClassVar[str] = "CALM, Schuster et al. 2022, arXiv 2207.07061"
    module: ClassVar[str | None] = "calm-meta"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">="
    scalar: ClassVar[str] = "agreement"

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None
