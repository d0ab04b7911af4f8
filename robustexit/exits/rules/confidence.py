"""Policies that look at one exit's distribution alone and leave at the first confident one."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robustexit.exits.policy import Scalars, State, policies
from robustexit.exits.threshold import Observation, Threshold


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Return the Shannon entropy in nats of softmax(logits) over the last axis; shape loses that axis."""
    log_p = torch.log_softmax(logits, dim=-1)
    return -(log_p.exp() * log_p).sum(dim=-1)


@dataclass(frozen=True)
class Confidence(Threshold):
    """A threshold policy whose statistic is a function of one exit's logits and that answers with their softmax."""

    @abstractmethod
    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what is held against t: shape [..., classes] -> [...]."""

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Look at this exit alone."""
        return Observation(state, self.statistic(logits), torch.softmax(logits, dim=-1))


@policies.register("max-probability")
@dataclass(frozen=True)
class MaxProbability(Confidence):
    """Leave at the first exit with max p_i >= t.

    Shallow-Deep Networks (Kaya et al. 2019, arXiv 1810.07052); ElasticBERT's confidence variant.
    """

    name: ClassVar[str] = "max-probability"
    source: ClassVar[str] = "Shallow-Deep Networks, Kaya et al. 2019, arXiv 1810.07052"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">="

    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """The largest class probability."""
        return torch.softmax(logits, dim=-1).amax(dim=-1)

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None


@policies.register("entropy")
@dataclass(frozen=True)
class Entropy(Confidence):
    """Leave at the first exit with H(p_i) < t, in raw nats.

    BranchyNet (Teerapittayanon et al. 2016, arXiv 1709.01686), DeeBERT (Xin et al. 2020, arXiv 2004.12993).
    """

    name: ClassVar[str] = "entropy"
    source: ClassVar[str] = "DeeBERT, Xin et al. 2020, arXiv 2004.12993"
    leaves: ClassVar[Literal[">=", ">", "<"]] = "<"

    def statistic(self, logits: torch.Tensor) -> torch.Tensor:
        """Entropy in nats."""
        return entropy(logits)

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
