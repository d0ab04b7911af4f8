"""Leave where a distance-aware head is confident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from robustexit.exits.policy import policies
from robustexit.exits.rules.confidence import MaxProbability


@policies.register("sngp")
@dataclass(frozen=True)
class SNGP(MaxProbability):
    """Leave at the first exit with max p_i >= t, p_i from a head whose confidence falls with the distance to the data.

    SNGP (Liu et al. 2020, NeurIPS) as an exit criterion; the heads are the post-hoc module of the same name.
    """

    name: ClassVar[str] = "sngp"
    source: ClassVar[str] = "SNGP, Liu et al. 2020, NeurIPS, arXiv 2006.10108, as an exit criterion"
    module: ClassVar[str | None] = "sngp"
