"""Patience whose agreement is a small divergence between neighbouring exits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
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
from robustexit.exits.threshold import between
from robustexit.exits.tuning import combinations, require_learned
from robustexit.parameters import require_one_of


def kl(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return KL(p || q) in nats over the last axis of log-probabilities; shape loses that axis."""
    return (log_p.exp() * (log_p - log_q)).sum(dim=-1).clamp(min=0)


def jensen_shannon(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    """Return the Jensen-Shannon divergence in nats, at most log 2 (arguments as for `kl`)."""
    log_middle = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kl(log_p, log_middle) + kl(log_q, log_middle)) / 2


DIVERGENCES: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = MappingProxyType(
    {
        "jsd": jensen_shannon,
        "kl": kl,
        "reverse-kl": lambda log_p, log_q: kl(log_q, log_p),
        "symmetric-kl": lambda log_p, log_q: (kl(log_p, log_q) + kl(log_q, log_p)) / 2,
    }
)
"""By name: what takes log p_{i-1} and log p_i, in this order."""


@policies.register("soft-patience")
@dataclass(frozen=True)
class SoftPatience(ExitPolicy):
    """Leave once the distributions of t consecutive exits are each within tau of the exit before.

    F-PABEE (Gao et al. 2023, arXiv 2305.11916), classification only. A divergence of tau or more sets the counter back
    to 0; never before exit t + 1. Read as the paper and the README of its code name them, from the true divergences;
    the public code has the entropy of the two exits' mean in the place of the Jensen-Shannon divergence and compares
    exit i with the exit after it.

    Attributes:
        tau: Divergence in nats below which neighbours count as agreeing.
        t: Agreements in a row that are asked for (the paper's patience); a calibration tries every one if not given.
        divergence: ``jsd``, ``kl`` (p_{i-1} against p_i), ``reverse-kl`` or ``symmetric-kl`` (the mean of the two).
    """

    name: ClassVar[str] = "soft-patience"
    source: ClassVar[str] = "F-PABEE, Gao et al. 2023, arXiv 2305.11916"
    several: ClassVar[bool] = True

    tau: float
    t: int | None = None
    divergence: str = "jsd"

    def __post_init__(self) -> None:
        """Check the parameters."""
        require_number(self.name, "tau", self.tau)
        if self.t is not None:
            require_count(self.name, "t", self.t)
        require_one_of(f"exit policy {self.name!r}", "divergence", self.divergence, tuple(DIVERGENCES))

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """No exit seen yet, no agreement yet."""
        require_learned(self.name, "t", self.t)
        return {"log_p": torch.zeros(rows, num_classes), "agreements": torch.zeros(rows, dtype=torch.long)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Count agreements in a row."""
        log_p, agreements = torch.log_softmax(logits, dim=-1), state["agreements"]
        if exit > 1:
            agree = DIVERGENCES[self.divergence](state["log_p"], log_p) < self.tau
            agreements = torch.where(agree, agreements + 1, 0)
        return Update(
            {"log_p": log_p, "agreements": agreements},
            agreements == require_learned(self.name, "t", self.t),
            torch.softmax(logits, dim=-1),
        )

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Every patience with which an input can leave early, each with taus between the divergences observed."""
        log_p = torch.log_softmax(torch.as_tensor(held_out.logits, dtype=torch.float32), dim=-1)
        seen = DIVERGENCES[self.divergence](log_p[:, :-2], log_p[:, 1:-1])
        patiences = range(1, max(held_out.num_exits - 1, 2)) if self.t is None else [self.t]
        taus = between(seen, most) or [self.tau]  # no exit before K that could leave
        return [replace(self, t=t, tau=tau) for t, tau in combinations(most, patiences, taus)]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No divergence is below 0, and with t agreements the earliest exit is t + 1."""
        if self.tau <= 0:
            return f"no divergence lies below tau={self.tau:g}; choose tau above 0"
        earliest = (self.t or 1) + 1
        if earliest < num_exits:
            return None
        most = num_exits - 2
        advice = f"choose t of at most {most}" if most >= 1 else "it needs at least 3 exits"
        return f"soft patience leaves at exit {earliest} at the earliest, of {num_exits}; {advice}"
