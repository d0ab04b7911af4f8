"""Leave where the state looks like one of a confident text of the class that is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from robustexit.exits.policy import policies
from robustexit.exits.threshold import ModuleScore


@policies.register("exemplar-cosine")
@dataclass(frozen=True)
class ExemplarCosine(ModuleScore):
    """Leave at the first exit whose state has cosine >= t to the nearest exemplars of the class that it answers.

    The exemplars are the post-hoc module ``exemplar-bank``: stored states of confident, right texts, after CFINet's
    feature imitation (Yuan et al. 2023, arXiv 2308.09534). A class without an exemplar at an exit counts as -1.
    """

    name: ClassVar[str] = "exemplar-cosine"
    source: ClassVar[str] = "the exemplars of CFINet, Yuan et al. 2023, ICCV, arXiv 2308.09534, as an exit score"
    module: ClassVar[str | None] = "exemplar-bank"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">="
    scalar: ClassVar[str] = "cosine"

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No cosine exceeds 1."""
        return f"no cosine reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None
