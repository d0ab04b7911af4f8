"""Exits as experts whose weighted confidence adds up while they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies, require_number
from robustexit.exits.threshold import EDGE, between
from robustexit.exits.tuning import require_learned, require_numbers, require_per_exit, thinned
from robustexit.parameters import require_between, require_one_of

WEIGHTS = ("accuracy", "cost")


@policies.register("beem")
@dataclass(frozen=True)
class Beem(ExitPolicy):
    """Leave at the first exit with S_i >= a_i; S_i = w_i max p_i, plus S_{i-1} where exits i and i - 1 agree.

    BEEM (Bajpai & Hanawal 2025, arXiv 2502.00745), read from its abstract, its first figure and its reviews; the
    public code leaves on the counter of PABEE instead and is not followed. Where exits disagree S_i starts again at
    w_i max p_i, and so it does at exit 1. BEEM-A weights exits by their accuracy, BEEM-C by their cost (here c_i, the
    cost up to the exit over the full cost; the paper counts layers, which differs by a factor alike for all exits).
    The thresholds a_i are the lowest at which, on held-out texts, those that leave at exit i are wrong at a rate of at
    most `max_error`, found exit by exit among the texts that are still there.

    Attributes:
        t: One threshold for every exit, in the place of the a_i.
        weights: What the w_i are learned from: ``accuracy`` (BEEM-A) or ``cost`` (BEEM-C).
        w: w_i, one an exit; learned if not given.
        a: a_i, one an exit; learned if neither they nor t are given. An exit that would be wrong too often at every
            threshold gets one that no text reaches.
        max_error: Error rate that the a_i keep to; that of exit K, as in the paper, if not given.
    """

    name: ClassVar[str] = "beem"
    source: ClassVar[str] = "BEEM, Bajpai & Hanawal 2025, arXiv 2502.00745"
    several: ClassVar[bool] = True

    t: float | None = None
    weights: str = "accuracy"
    w: tuple[float, ...] | None = None
    a: tuple[float, ...] | None = None
    max_error: float | None = None

    def __post_init__(self) -> None:
        """Check the parameters."""
        where = f"exit policy {self.name!r}"
        require_one_of(where, "weights", self.weights, WEIGHTS)
        require_numbers(self.name, "w", self.w)
        require_numbers(self.name, "a", self.a)
        if self.max_error is not None:
            require_between(where, "max_error", self.max_error, 0, 1)
        if self.t is None:
            return
        require_number(self.name, "t", self.t)
        if self.a is not None or self.max_error is not None:
            raise ConfigError(f"{where}: expected either t or per-exit thresholds (a, max_error), got both")

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """No answer yet, nothing added up; refuse parameters that are missing or those of a model with other exits."""
        require_per_exit(self.name, "w", self.w, num_exits)
        if self.t is None:
            require_per_exit(self.name, "a", self.a, num_exits)
        return {"answer": torch.full((rows,), -1), "score": torch.zeros(rows)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Add this exit's weighted confidence."""
        state, p = self._add(state, exit, logits)
        threshold = require_learned(self.name, "a", self.a)[exit - 1] if self.t is None else self.t
        return Update(state, state["score"] >= threshold, p)

    def _add(self, state: State, exit: int, logits: torch.Tensor) -> tuple[State, torch.Tensor]:
        answer, p = logits.argmax(dim=-1), torch.softmax(logits, dim=-1)
        carried = torch.where(answer == state["answer"], state["score"], 0)
        weighted = require_learned(self.name, "w", self.w)[exit - 1] * p.amax(dim=-1)
        return {"answer": answer, "score": weighted + carried}, p

    def scores(self, held_out: HeldOut) -> NDArray[np.float32]:
        """Return S_i of every held-out text at every exit, shape [N, K]."""
        logits = torch.as_tensor(held_out.logits, dtype=torch.float32)
        state: State = {"answer": torch.full((len(logits),), -1), "score": torch.zeros(len(logits))}
        found = []
        for index in range(held_out.num_exits):
            state, _ = self._add(state, index + 1, logits[:, index])
            found.append(state["score"].numpy())
        return np.stack(found, axis=1)

    def fitted(self, held_out: HeldOut) -> Self:
        """Learn the weights, and the per-exit thresholds where no t is given."""
        policy = self
        if policy.w is None:
            means = (held_out.costs if self.weights == "cost" else held_out.correct).mean(axis=0)
            policy = replace(policy, w=tuple(float(value) for value in means))
        if policy.t is not None or policy.a is not None:
            return policy
        if policy.max_error is None:
            policy = replace(policy, max_error=float((~held_out.correct[:, -1]).mean()))
        return policy._at_error(held_out, policy.scores(held_out))

    def _at_error(self, held_out: HeldOut, scores: NDArray[np.float32]) -> Self:
        """Set the a_i to keep to `max_error`."""
        most, reach = require_learned(self.name, "max_error", self.max_error), self._reach()
        still, found = np.ones(len(scores), dtype=bool), []
        for index in range(held_out.num_exits - 1):
            here, wrong = scores[still, index], ~held_out.correct[still, index]
            found.append(lowest_threshold(here, wrong, most, never=float(reach[index]) + EDGE))
            still &= scores[:, index] < np.float32(found[-1])
        return replace(self, a=(*found, 0.0))  # whatever reaches exit K leaves there

    def _reach(self) -> NDArray[np.float64]:
        """Return the largest S_i that any text can have at every exit, shape [K]."""
        return np.cumsum(require_learned(self.name, "w", self.w))

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """A quarter of them per-exit thresholds at error rates up to the worst exit's, the rest one t for all exits.

        The policy itself comes first; it stands alone if its t or a were given.
        """
        if self.max_error is None or self.a is None:
            return [self]
        scores = self.scores(held_out)
        rates = np.linspace(0, (~held_out.correct).mean(axis=0).max(), max(most // 4, 1))
        strict = [replace(self, max_error=float(rate), a=None)._at_error(held_out, scores) for rate in rates]
        cuts = thinned(between(scores[:, :-1], most), max(most - len(strict) - 1, 1))
        return [self, *strict, *(replace(self, t=t, a=None, max_error=None) for t in cuts)][:most]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No score before exit K exceeds the sum of the weights so far."""
        if self.w is None or len(self.w) != num_exits:
            return None
        reach = self._reach()[:-1]
        if self.t is not None and (not len(reach) or self.t > reach[-1]):
            return f"before exit {num_exits} the weighted confidence reaches {sum(self.w[:-1]):.4g}, not t={self.t:g}"
        if self.a is not None and (np.asarray(self.a[:-1]) > reach).all():
            return "at every exit before the last the threshold a lies above what the weighted confidence can reach"
        return None


def lowest_threshold(scores: NDArray[np.float32], wrong: NDArray[np.bool_], max_error: float, *, never: float) -> float:
    """Return the lowest threshold at which those that pass it (score >= threshold) are wrong rarely enough.

    Args:
        scores: Shape [M].
        wrong: Shape [M].
        max_error: Largest share of wrong ones among those that pass.
        never: What to return if no threshold will do.

    Returns:
        A value halfway between two scores, or 0 if all may pass.
    """
    order = np.argsort(-scores, kind="stable")
    falling, errors = scores[order].astype(np.float64), np.cumsum(wrong[order])
    rate = errors / np.arange(1, len(order) + 1)
    last_of_ties = np.append(falling[1:] < falling[:-1], True)[: len(order)]
    allowed = np.flatnonzero((rate <= max_error) & last_of_ties)
    if not len(allowed):
        return never
    if allowed[-1] == len(order) - 1:
        return 0.0
    return float((falling[allowed[-1]] + falling[allowed[-1] + 1]) / 2)
