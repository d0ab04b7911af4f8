"""Leave where the state lies much nearer to one class's prototype than to any other's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robustexit.errors import ConfigError
from robustexit.exits.policy import Scalars, State, policies, require_number
from robustexit.exits.rules.confidence import entropy
from robustexit.exits.threshold import Observation, Threshold


def distance_ratio(r1: torch.Tensor, r2: torch.Tensor) -> torch.Tensor:
    """Return DR = (1 + (r1 - r2) / max(r1, r2)) / 2, same shape: small where r1 is much the smaller.

    Two distances of zero are as undecided as any two equal ones: 1/2.
    """
    larger = torch.maximum(r1, r2)
    return (1 + torch.where(larger > 0, (r1 - r2) / larger.clamp(min=torch.finfo(r1.dtype).tiny), 0.0)) / 2


@policies.register("class-means")
@dataclass(frozen=True)
class ClassMeans(Threshold):
    """Leave at the first exit whose distance ratio DR = (1 + (r1 - r2) / max(r1, r2)) / 2 lies below t.

    r1 and r2 are the distances to the nearest and second nearest class mean (post-hoc module of the same name), so
    that DR = r1 / (2 r2) lies in [0, 1/2]. The distance half of DE3-BERT (He et al. 2024), alone.
    """

    name: ClassVar[str] = "class-means"
    source: ClassVar[str] = "the distance ratio of DE3-BERT, He et al. 2024, arXiv 2402.05948"
    module: ClassVar[str | None] = "class-means"
    leaves: ClassVar[Literal[">=", ">", "<"]] = "<"

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Compare the two distances."""
        return Observation(state, distance_ratio(scalars["r1"], scalars["r2"]), torch.softmax(logits, dim=-1))

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No ratio is below 0."""
        return f"no distance ratio lies below t={self.t:g}; choose t above 0" if self.t <= 0 else None


@policies.register("de3")
@dataclass(frozen=True)
class DE3(Threshold):
    """Leave at the first exit with EDR < t, the weighted harmonic mean of distance ratio and normalised entropy.

    EDR = (lam + 1) / (lam / DR + 1 / H), DR = (1 + (r1 - r2) / max(r1, r2)) / 2 in the metric space of the post-hoc
    module of the same name, H = entropy / log C of the head's distribution. It is 0 where DR or H is.

    DE3-BERT (He et al. 2024, arXiv 2402.05948).

    Attributes:
        lam: Weight of the distance ratio against the entropy's 1 (lambda in the paper).
    """

    name: ClassVar[str] = "de3"
    source: ClassVar[str] = "DE3-BERT, He et al. 2024, arXiv 2402.05948"
    module: ClassVar[str | None] = "de3"
    leaves: ClassVar[Literal[">=", ">", "<"]] = "<"

    lam: float = 1.0

    def __post_init__(self) -> None:
        """Check t and the weight."""
        super().__post_init__()
        require_number(self.name, "lam", self.lam)
        if not 0 < self.lam < math.inf:
            raise ConfigError(
                f"exit policy {self.name!r}: expected lam above 0 and finite, got {self.lam!r}; for one half alone "
                "use normalised-entropy or class-means"
            )

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Combine how far with how sure."""
        ratio = distance_ratio(scalars["r1"], scalars["r2"])
        uncertainty = (entropy(logits) / math.log(logits.shape[-1])).clamp(min=0)
        return Observation(state, self.combined(ratio, uncertainty), torch.softmax(logits, dim=-1))

    def combined(self, ratio: torch.Tensor, uncertainty: torch.Tensor) -> torch.Tensor:
        """Return EDR of a distance ratio and a normalised entropy, same shape."""
        # Over the common denominator nothing is divided by zero but where both are zero, and there EDR is zero.
        of_entropy = 1 / (self.lam + 1)
        below = (1 - of_entropy) * uncertainty + of_entropy * ratio
        return torch.where(below > 0, ratio * uncertainty / below.clamp(min=torch.finfo(below.dtype).tiny), 0.0)

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """EDR is never below 0."""
        return f"no EDR lies below t={self.t:g}; choose t above 0" if self.t <= 0 else None
