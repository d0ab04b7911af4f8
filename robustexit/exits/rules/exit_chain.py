"""A chain of labels over the exits, decoded as far as the text has come."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import Scalars, State, policies, require_number
from robustexit.exits.threshold import Observation, Threshold
from robustexit.exits.tuning import require_learned
from robustexit.parameters import require_one_of

INFERENCE = ("max-product", "sum-product")

HIGHEST_COST = 50.0
"""Nats; e^-50 is beyond what float32 probabilities can show, so a learned cost need not be higher."""


def forward(message: torch.Tensor, log_p: torch.Tensor, switch_cost: float, inference: str) -> torch.Tensor:
    """Pass the beliefs of exit i - 1 on to exit i, in O(C) a text.

    Args:
        message: Log-beliefs of the exit before, shape [rows, classes].
        log_p: Log-probabilities of this exit, shape [rows, classes].
        switch_cost: Cost in nats of a label that changes from one exit to the next.
        inference: ``max-product`` or ``sum-product``.

    Returns:
        Log-beliefs of this exit, normalised, shape [rows, classes].
    """
    if inference == "max-product":
        arriving = torch.maximum(message, message.amax(dim=-1, keepdim=True) - switch_cost)
    else:
        # stay + e^-s (everything - stay): what stays is written so that s = 0 gives the sum exactly.
        stay = -math.expm1(-switch_cost)
        kept = message + (math.log(stay) if stay > 0 else -math.inf)
        arriving = torch.logaddexp(kept, message.logsumexp(dim=-1, keepdim=True) - switch_cost)
    return torch.log_softmax(arriving + log_p, dim=-1)


@policies.register("exit-chain")
@dataclass(frozen=True)
class ExitChain(Threshold):
    """Leave at the first exit with max b_i >= t, b_i the belief about the label there given exits 1 to i.

    The label may change from exit to exit at a cost s: a chain with unary terms log p_i and pairwise terms 0 where
    neighbours agree and -s where they do not, on which belief propagation runs forward. The idea, with a loss on the
    (max-)marginals, is that of BP-Layers (Knöbelreiter et al. 2020, arXiv 2003.06258), carried over from images to
    exits; no published early-exit method. Without a cost b_i is p_i (max probability); with a very large one it is the
    product of experts; in between, agreement makes sure and a late, confident change of mind is heard.

    Attributes:
        switch_cost: s in nats, at least 0; learned on held-out texts by the mean negative log-likelihood of b_1 to b_K
            if not given.
        inference: ``max-product`` (b_i are normalised max-marginals) or ``sum-product`` (marginals).
    """

    name: ClassVar[str] = "exit-chain"
    source: ClassVar[str] = "idea from BP-Layers, Knöbelreiter et al. 2020, arXiv 2003.06258"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">="

    switch_cost: float | None = None
    inference: str = "max-product"

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        require_one_of(f"exit policy {self.name!r}", "inference", self.inference, INFERENCE)
        if self.switch_cost is not None:
            require_number(self.name, "switch_cost", self.switch_cost)
            if self.switch_cost < 0:
                raise ConfigError(
                    f"exit policy {self.name!r}: expected switch_cost of at least 0, got {self.switch_cost}"
                )

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Nothing is known: every label alike."""
        require_learned(self.name, "switch_cost", self.switch_cost)
        return {"belief": torch.zeros(rows, num_classes)}

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Pass the belief on to this exit."""
        cost = require_learned(self.name, "switch_cost", self.switch_cost)
        belief = forward(state["belief"], torch.log_softmax(logits, dim=-1), cost, self.inference)
        b = belief.exp()
        return Observation({"belief": belief}, b.amax(dim=-1), b)

    def fitted(self, held_out: HeldOut) -> Self:
        """Learn the switch cost if it was not given."""
        if self.switch_cost is not None:
            return self
        return replace(self, switch_cost=fit_switch_cost(held_out, self.inference))

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No belief exceeds 1."""
        return f"no belief reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None


def chain_loss(held_out: HeldOut, switch_cost: float, inference: str) -> float:
    """Return the mean negative log-likelihood of the labels over b_1 to b_K, in nats."""
    log_p = torch.log_softmax(torch.as_tensor(held_out.logits, dtype=torch.float64), dim=-1)
    labels = torch.as_tensor(held_out.labels)[:, None]
    belief, total = torch.zeros_like(log_p[:, 0]), 0.0
    for index in range(held_out.num_exits):
        belief = forward(belief, log_p[:, index], switch_cost, inference)
        total -= float(belief.gather(1, labels).mean())
    return total / held_out.num_exits


def fit_switch_cost(held_out: HeldOut, inference: str) -> float:
    """Return the switch cost, from 0 to `HIGHEST_COST`, with the smallest `chain_loss`.

    The loss need not have one minimum only: the best of a coarse grid is refined between its neighbours.
    """
    grid = np.concatenate([[0.0], np.geomspace(0.01, HIGHEST_COST, 24)])
    losses = [chain_loss(held_out, float(cost), inference) for cost in grid]
    best = int(np.argmin(losses))
    low, high = grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)]
    refined = minimize_scalar(
        lambda cost: chain_loss(held_out, float(cost), inference), bounds=(low, high), method="bounded"
    )
    return float(refined.x) if refined.fun < losses[best] else float(grid[best])
