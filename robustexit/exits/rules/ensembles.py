"""Ensembles of the exits so far, each with a confidence threshold."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from robustexit.exits.policy import Scalars, State, policies
from robustexit.exits.threshold import Observation, Threshold


@dataclass(frozen=True)
class Ensemble(Threshold):
    """Leave, with its answer, at the first exit where the ensemble of exits 1 to i has a probability of at least t."""

    leaves: ClassVar[Literal[">=", ">", "<"]] = ">="

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """No exit seen yet."""
        return {"total": torch.zeros(rows, num_classes)}

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Add this exit's distribution."""
        total = state["total"] + self.term(logits)
        p = self.combined(total, exit)
        return Observation({"total": total}, p.amax(dim=-1), p)

    @abstractmethod
    def term(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what one exit adds to the total, shape [rows, classes]."""

    @abstractmethod
    def combined(self, total: torch.Tensor, exits: int) -> torch.Tensor:
        """Return the ensemble's distribution from the total over `exits` exits, shape [rows, classes]."""

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None


@policies.register("arithmetic-mean")
@dataclass(frozen=True)
class ArithmeticMean(Ensemble):
    """The mean of p_1 to p_i; leave at max >= t.

    The running mean that early-exit ensembles answer with (Qendro et al. 2021, PMLR 158), here with a threshold.
    """

    name: ClassVar[str] = "arithmetic-mean"
    source: ClassVar[str] = "Early Exit Ensembles, Qendro et al. 2021, PMLR 158"

    def term(self, logits: torch.Tensor) -> torch.Tensor:
        """The distribution."""
        return torch.softmax(logits, dim=-1)

    def combined(self, total: torch.Tensor, exits: int) -> torch.Tensor:
        """The mean."""
        return total / exits


@policies.register("geometric-mean")
@dataclass(frozen=True)
class GeometricMean(Ensemble):
    """The normalised geometric mean of p_1 to p_i; leave at max >= t.

    ZTW's ensemble (Wołczyk et al. 2021, arXiv 2106.05409) with equal weights and no bias.
    """

    name: ClassVar[str] = "geometric-mean"
    source: ClassVar[str] = "Zero Time Waste with equal weights, Wołczyk et al. 2021, arXiv 2106.05409"

    def term(self, logits: torch.Tensor) -> torch.Tensor:
        """The log-distribution."""
        return torch.log_softmax(logits, dim=-1)

    def combined(self, total: torch.Tensor, exits: int) -> torch.Tensor:
        """The mean in logarithms, normalised."""
        return torch.softmax(total / exits, dim=-1)


@policies.register("product-of-experts")
@dataclass(frozen=True)
class ProductOfExperts(Ensemble):
    """The normalised product of p_1 to p_i; leave at max >= t.

    Product of experts (Hinton 2002) over the exits; Allingham & Nalisnick 2022 use it for early-exit ensembles with
    distributions of finite support, here the exits' softmax.
    """

    name: ClassVar[str] = "product-of-experts"
    source: ClassVar[str] = "A Product of Experts Approach to Early-Exit Ensembles, Allingham & Nalisnick 2022"

    def term(self, logits: torch.Tensor) -> torch.Tensor:
        """The log-distribution."""
        return torch.log_softmax(logits, dim=-1)

    def combined(self, total: torch.Tensor, exits: int) -> torch.Tensor:
        """The sum in logarithms, normalised."""
        return torch.softmax(total, dim=-1)
