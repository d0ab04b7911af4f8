"""Patience that counts confident exits in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from typing_extensions import Self

from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import (
    CANDIDATES,
    ExitPolicy,
    Scalars,
    State,
    Update,
    policies,
    require_count,
    require_number,
)
from robustexit.exits.rules.confidence import NormalisedEntropy
from robustexit.exits.threshold import between
from robustexit.exits.tuning import combinations, require_learned
from robustexit.parameters import require_one_of

ENSEMBLES = ("none", "run", "all")


@policies.register("confident-patience")
@dataclass(frozen=True)
class ConfidentPatience(ExitPolicy):
    """Leave once t exits in a row have H(p_i) / log C < tau, whatever they answer.

    PCEE-BERT (Zhang et al. 2022, Findings of NAACL). A less confident exit sets the counter back to 0. With t = 1 it is
    the normalised entropy rule. Of the code's ways to answer, ``run`` leaves out the unconfident exit just before
    the run, which the public code averages in.

    Attributes:
        tau: Normalised entropy below which an exit counts as confident.
        t: Confident exits in a row that are asked for (the paper's patience); a calibration tries every one if not
            given.
        ensemble: The answer: the exit's own (``none``), or the mean distribution of the confident run so far
            (``run``; the exit's own where there is none) or of all exits so far (``all``).
    """

    name: ClassVar[str] = "confident-patience"
    source: ClassVar[str] = "PCEE-BERT, Zhang et al. 2022, Findings of NAACL"
    several: ClassVar[bool] = True

    tau: float
    t: int | None = None
    ensemble: str = "none"

    def __post_init__(self) -> None:
        """Check the parameters."""
        require_number(self.name, "tau", self.tau)
        if self.t is not None:
            require_count(self.name, "t", self.t)
        require_one_of(f"exit policy {self.name!r}", "ensemble", self.ensemble, ENSEMBLES)

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """No exit seen yet."""
        require_learned(self.name, "t", self.t)
        return {"confident": torch.zeros(rows, dtype=torch.long), "total": torch.zeros(rows, num_classes)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Count confident exits in a row."""
        rule, p = NormalisedEntropy(self.tau), torch.softmax(logits, dim=-1)
        is_confident = rule.passes(rule.statistic(logits))
        confident = torch.where(is_confident, state["confident"] + 1, 0)
        total, answer = state["total"], p
        if self.ensemble == "all":
            total = total + p
            answer = total / exit
        elif self.ensemble == "run":
            total = torch.where(is_confident[:, None], total + p, 0)
            answer = torch.where(is_confident[:, None], total / confident.clamp(min=1)[:, None], p)
        return Update(
            {"confident": confident, "total": total}, confident == require_learned(self.name, "t", self.t), answer
        )

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Every patience with which an input can leave early, each with taus between the entropies observed."""
        seen = NormalisedEntropy(self.tau).statistics(held_out)[:, :-1]
        patiences = range(1, max(held_out.num_exits, 2)) if self.t is None else [self.t]
        taus = between(seen, most) or [self.tau]  # no exit before K that could leave
        return [replace(self, t=t, tau=tau) for t, tau in combinations(most, patiences, taus)]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """Entropy is never below 0, and t exits in a row end at exit t at the earliest."""
        if self.tau <= 0:
            return f"no entropy lies below tau={self.tau:g}; choose tau above 0"
        if (self.t or 1) < num_exits:
            return None
        return f"t={self.t or 1} leaves at exit {self.t or 1} at the earliest, of {num_exits}; choose a smaller t"
