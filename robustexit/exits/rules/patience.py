"""Policies that wait until neighbouring exits agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies, require_count


@policies.register("patience")
@dataclass(frozen=True)
class Patience(ExitPolicy):
    """Leave once t consecutive exits repeat the answer of the exit before them; never before exit t + 1.

    PABEE (Zhou et al. 2020, arXiv 2006.04152). Ties within an exit go to the lowest class index.

    Attributes:
        t: Agreements in a row that are asked for.
    """

    name: ClassVar[str] = "patience"
    source: ClassVar[str] = "PABEE, Zhou et al. 2020, arXiv 2006.04152"

    t: int

    def __post_init__(self) -> None:
        """Check t."""
        require_count(self.name, "t", self.t)

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """No answer yet, no agreement yet."""
        return {"answer": torch.full((rows,), -1), "agreements": torch.zeros(rows, dtype=torch.long)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Count agreements in a row."""
        answer = logits.argmax(dim=-1)
        agreements = torch.where(answer == state["answer"], state["agreements"] + 1, 0)
        return Update({"answer": answer, "agreements": agreements}, agreements == self.t, torch.softmax(logits, dim=-1))

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Patience]:
        """Every patience with which an input can leave early."""
        return [Patience(t) for t in range(1, held_out.num_exits - 1)]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """With t agreements the earliest exit is t + 1."""
        if self.t + 1 < num_exits:
            return None
        most = num_exits - 2
        advice = f"choose t of at most {most}" if most >= 1 else "patience needs at least 3 exits"
        return f"patience t={self.t} leaves at exit {self.t + 1} at the earliest, of {num_exits}; {advice}"
