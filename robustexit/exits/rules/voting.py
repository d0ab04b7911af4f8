"""Exits vote; leave once a label has enough votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import one_hot

from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies, require_count
from robustexit.exits.tuning import thinned

TIE_BREAK = 2**-10
"""Weight of the current exit's distribution beside one vote: small enough never to outweigh a vote."""


@policies.register("voting")
@dataclass(frozen=True)
class Voting(ExitPolicy):
    """Leave once the leading label has t votes among exits 1 to i; the answer is the winner of the vote.

    Sun et al. 2021 (arXiv 2105.13792), read from the abstract. What is returned are the vote shares, with the current
    exit's distribution added at 1/1024 of a vote: so a tie goes to the label that the current exit finds likelier
    (then to the lowest index). A tie can only be answered at exit K, where nobody reached t votes.

    Attributes:
        t: Votes that are asked for.
    """

    name: ClassVar[str] = "voting"
    source: ClassVar[str] = "Early Exiting with Ensemble Internal Classifiers, Sun et al. 2021, arXiv 2105.13792"

    t: int

    def __post_init__(self) -> None:
        """Check t."""
        require_count(self.name, "t", self.t)

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """No votes yet."""
        return {"votes": torch.zeros(rows, num_classes)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Count this exit's vote."""
        votes = state["votes"] + one_hot(logits.argmax(dim=-1), logits.shape[-1])
        shares = (votes + TIE_BREAK * torch.softmax(logits, dim=-1)) / (exit + TIE_BREAK)
        return Update({"votes": votes}, votes.amax(dim=-1) >= self.t, shares)

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Voting]:
        """Every number of votes with which an input can leave early."""
        return thinned([Voting(t) for t in range(1, held_out.num_exits)], most)

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """The t-th vote is cast at exit t at the earliest."""
        if self.t < num_exits:
            return None
        most = num_exits - 1
        advice = f"choose t of at most {most}" if most >= 1 else "voting needs at least 2 exits"
        return f"t={self.t} votes are cast at exit {self.t} at the earliest, of {num_exits}; {advice}"
