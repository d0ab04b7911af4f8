"""Policies that look at one exit's distribution alone and leave at the first confident one."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from typing_extensions import Self

from robustexit.exits.policy import ExitPolicy, Scalars, State, Update, policies, require_number

CANDIDATES = 512
"""Thresholds tried in a calibration: enough for steps of 0.2 % of the held-out decisions."""


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the Shannon entropy in nats of softmax(logits) over the last axis; shape loses that axis."""
    log_p = torch.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


@dataclass(frozen=True)
class Threshold(ExitPolicy):
    """A policy that leaves at the first exit whose statistic passes the threshold t."""

    t: float

    def __post_init__(self) -> None:
        """Check t."""
        require_number(self.name, "t", self.t)

    @abstractmethod
    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what is held against t: shape [..., classes] -> [...]."""

    @abstractmethod
    def passes(self, statistic: torch.Tensor) -> torch.Tensor:
        """Return where the statistic lets a row leave."""

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Leave where the statistic passes."""
        return Update(state, self.passes(self.statistic(logits)), torch.softmax(logits, dim=-1))

    def settings(self, logits: torch.Tensor) -> Sequence[Self]:
        """Thresholds halfway between observed values, so that no held-out decision sits on the edge."""
        seen = torch.unique(self.statistic(logits[:, :-1]).double())
        if len(seen) > CANDIDATES:
            at = torch.linspace(0, len(seen) - 1, CANDIDATES).round().long()
            seen = seen[at]
        between = ((seen[1:] + seen[:-1]) / 2).tolist()
        ends = [seen[0].item() - 1e-3, seen[-1].item() + 1e-3] if len(seen) else []
        return [replace(self, t=t) for t in [*between, *ends]]


@policies.register("max-probability")
@dataclass(frozen=True)
class MaxProbability(Threshold):
    """Leave at the first exit with max p_i >= t.

    Shallow-Deep Networks (Kaya et al. 2019, arXiv 1810.07052); ElasticBERT's confidence variant.
    """

    name: ClassVar[str] = "max-probability"
    source: ClassVar[str] = "Shallow-Deep Networks, Kaya et al. 2019, arXiv 1810.07052"

    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """The largest class probability."""
        return torch.softmax(logits, dim=-1).amax(dim=-1)

    def passes(self, statistic: torch.Tensor) -> torch.Tensor:
        """At or above t."""
        return statistic >= self.t

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None


@policies.register("entropy")
@dataclass(frozen=True)
class Entropy(Threshold):
    """Leave at the first exit with H(p_i) < t, in raw nats.

    BranchyNet (Teerapittayanon et al. 2016, arXiv 1709.01686), DeeBERT (Xin et al. 2020, arXiv 2004.12993).
    """

    name: ClassVar[str] = "entropy"
    source: ClassVar[str] = "DeeBERT, Xin et al. 2020, arXiv 2004.12993"

    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """Entropy in nats."""
        return entropy(logits)

    def passes(self, statistic: torch.Tensor) -> torch.Tensor:
        """Below t."""
        return statistic < self.t

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """Entropy is never below 0."""
        return f"no entropy lies below t={self.t:g}; choose t above 0" if self.t <= 0 else None


@policies.register("normalised-entropy")
@dataclass(frozen=True)
class NormalisedEntropy(Entropy):
    """Leave at the first exit with H(p_i) / log C < t, so that t lies in (0, 1] for every C.

    FastBERT (Liu et al. 2020, arXiv 2004.02178), whose "speed" is this t.
    """

    name: ClassVar[str] = "normalised-entropy"
    source: ClassVar[str] = "FastBERT, Liu et al. 2020, arXiv 2004.02178"

    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """Entropy as a share of its largest value."""
        return entropy(logits) / math.log(logits.shape[-1])
