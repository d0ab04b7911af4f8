"""Leave once the accumulated probability of having stopped exceeds a quantile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from typing_extensions import Self

from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies, require_number
from robustexit.exits.threshold import between


@policies.register("q-exit")
@dataclass(frozen=True)
class QExit(ExitPolicy):
    """Leave at the first exit with sum_{j<=i} P_j > q, P_i = lam_i prod_{j<i} (1 - lam_j).

    PALBERT's Q-exit (Balagansky and Gavrilov 2022, arXiv 2204.03276). Needs the post-hoc module of the same name.

    Attributes:
        q: Quantile of the exit distribution at which to stop; the authors' value is .5.
    """

    name: ClassVar[str] = "q-exit"
    source: ClassVar[str] = "PALBERT, Balagansky and Gavrilov 2022, arXiv 2204.03276"
    module: ClassVar[str | None] = "q-exit"

    q: float = 0.5

    def __post_init__(self) -> None:
        """Check q."""
        require_number(self.name, "q", self.q)

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Nobody has stopped yet."""
        return {"not_stopped": torch.ones(rows)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Multiply the probability of not having stopped; its complement is the sum of the P_j."""
        not_stopped = state["not_stopped"] * (1 - scalars["lambda"])
        return Update({"not_stopped": not_stopped}, 1 - not_stopped > self.q, torch.softmax(logits, dim=-1))

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Return quantiles halfway between the sums observed before exit K, and one outside at each end."""
        not_stopped = (1 - torch.as_tensor(held_out.scalars["lambda"])[:, :-1]).cumprod(dim=1)
        return [replace(self, q=q) for q in between(1 - not_stopped, most)]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability exceeds q={self.q:g}; choose q below 1" if self.q >= 1 else None
