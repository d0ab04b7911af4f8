"""Bandits over exits, thresholds and split points that learn from the stream of texts, without labels."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import torch
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.policy import Scalars, State, Update, policies
from robustexit.exits.stream import Arm, Bandit, Lesson, Seen, StreamPolicy
from robustexit.parameters import require_between, show

ACTIONS: Final = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""The thresholds .5, .55 ... .95 of CeeBERT's experiments; sweeps of SplitEE try them as alpha."""


@dataclass(frozen=True)
class ExitArms(StreamPolicy):
    """A bandit whose arms are the exits 1 to K."""

    def arms(self, num_exits: int) -> tuple[Arm, ...]:
        """The exits."""
        return tuple(range(1, num_exits + 1))

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """The arm of exit K runs every text to the end."""
        if self.arm != num_exits:
            return None
        return f"its arm is the last exit; a higher {self.price} makes earlier ones pay"


@policies.register("uee-ucb")
@dataclass(frozen=True)
class UEE(ExitArms):
    """Take the exit j that maximises P(answer of exit j differs from exit 1's) - (c_j - c_1), c_j = lambda_ j / K.

    Under strong dominance (an exit that is right is followed by exits that are right) that disagreement is the
    difference of the error rates, so the rule minimises error plus cost without labels. Unsupervised Early Exit in
    DNNs with Multiple Exits (Hari Narayan, Hanawal & Bhardwaj 2022, arXiv 2209.09480), rule as in the authors' public
    notebook: the first text runs to exit K, a text under arm j teaches of every exit up to j, and the bound is the
    mean plus sqrt(alpha ln(t) / observations). The cost of an exit is its share of the exits, which is the authors'
    first cost structure (share of the layers) where every layer has an exit; their notebook has no weight on it
    (lambda_ = 1).

    Attributes:
        lambda_: What full depth costs, in units of error rate.
        alpha: Exploration parameter.
    """

    name: ClassVar[str] = "uee-ucb"
    source: ClassVar[str] = "UEE-UCB, Hari Narayan, Hanawal & Bhardwaj 2022, arXiv 2209.09480"
    price: ClassVar[str] = "lambda_"

    lambda_: float = 1.0
    alpha: float = 1.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        require_between(f"exit policy {self.name!r}", "alpha", self.alpha, 0, math.inf)

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Stop every row at the arm's exit."""
        return Update(state, torch.full((len(logits),), exit == self.arm), torch.softmax(logits, dim=-1))

    def bandit(self, num_exits: int) -> Bandit:
        """One text to exit K shows every arm once."""
        return Bandit(num_exits, math.sqrt(self.alpha), (num_exits - 1,), since=-1, first_alone=False)

    def lessons(self, arm: int, seen: Seen) -> list[Lesson]:
        """Every exit on the way shows whether it differs from exit 1."""
        cost = self.lambda_ / seen.num_exits
        return [Lesson(j, float(seen.answers[j] != seen.answers[0]) - cost * j) for j in range(arm + 1)]

    def priced(self, step: float, num_exits: int) -> Self:
        """One exit costs lambda_ / K."""
        return replace(self, lambda_=step * num_exits)

    @property
    def constant(self) -> bool:
        """Once frozen, the arm is one exit."""
        return not self.learns

    def reads(self, exit: int, num_exits: int) -> bool:
        """Only the arm's exit answers; a live one compares every exit before it with exit 1."""
        return self.arm is None or exit == self.arm or (self.learns and exit < self.arm)


@policies.register("ceebert")
@dataclass(frozen=True)
class CeeBERT(StreamPolicy):
    """Leave at the first exit with max p_i >= arm, the threshold that earns most confidence for its overhead.

    CeeBERT (Bajpai & Hanawal 2024, Findings of ACL, arXiv 2405.15039). A text that leaves at exit j pays
    C_j - C_1 - overhead (j - 1) / (K - 1), C_i = max p_i; each threshold is tried once, then the largest mean plus
    c_tilde sqrt(ln(t) / pulls) is played; only the threshold played learns. Reward, index and constants are those of
    the authors' public notebook with one exit before the last. Their notebook with two exits before it has an
    overhead for each step (ours are equal parts of one), a threshold for each exit, and side observations between
    those pairs; here one threshold serves all exits, as in the paper.

    Attributes:
        overhead: What going from exit 1 to exit K costs, in units of confidence.
        c_tilde: Exploration constant.
        actions: The thresholds.
    """

    name: ClassVar[str] = "ceebert"
    source: ClassVar[str] = "CeeBERT, Bajpai & Hanawal 2024, Findings of ACL, arXiv 2405.15039"
    price: ClassVar[str] = "overhead"

    overhead: float = 0.1
    c_tilde: float = 2.0
    actions: tuple[float, ...] = ACTIONS

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        where = f"exit policy {self.name!r}"
        require_between(where, "c_tilde", self.c_tilde, 0, math.inf)
        if not isinstance(self.actions, tuple) or not self.actions:
            raise ConfigError(f"{where}: expected a list of thresholds for actions, got {self.actions!r}")
        for threshold in self.actions:
            require_between(where, "actions", threshold, 0, 1)
        if list(self.actions) != sorted(set(self.actions)):
            raise ConfigError(f"{where}: expected rising thresholds for actions, got {list(self.actions)}")

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Leave where the largest probability reaches the arm."""
        assert self.arm is not None  # `start` saw to it
        p = torch.softmax(logits, dim=-1)
        return Update(state, p.amax(dim=-1) >= self.arm, p)

    def arms(self, num_exits: int) -> tuple[Arm, ...]:
        """The thresholds."""
        return self.actions

    def bandit(self, num_exits: int) -> Bandit:
        """Every threshold once, in order."""
        count = len(self.actions)
        return Bandit(count, self.c_tilde, tuple(range(count)), since=0, first_alone=True)

    def lessons(self, arm: int, seen: Seen) -> list[Lesson]:
        """The confidence gained since exit 1, less the overhead of the way."""
        way = (seen.exit - 1) / max(seen.num_exits - 1, 1)
        return [Lesson(arm, seen.confidence[-1] - seen.confidence[0] - self.overhead * way)]

    def describe(self) -> str:
        """Return the policy as it stands in records; the authors' thresholds are not spelt out."""
        shown = {name: value for name, value in self.parameters.items() if name != "actions" or value != ACTIONS}
        return f"{self.name}({show(shown)})"

    def priced(self, step: float, num_exits: int) -> Self:
        """One exit costs overhead / (K - 1)."""
        return replace(self, overhead=step * max(num_exits - 1, 1))


@policies.register("splitee")
@dataclass(frozen=True)
class SplitEE(ExitArms):
    """Run to exit a, the arm: answer there if max p_a >= alpha, else send the text on and answer at exit K.

    SplitEE (Bajpai, Trivedi, Yadav & Hanawal 2023, AIMLSystems, arXiv 2309.09195): the layers up to a run on the
    device, the rest on a server. Reward max p_a - lambda_ a where the text stays (and for a = K), max p_K -
    lambda_ a - o where it is sent on; each split is tried once, then the largest mean plus c sqrt(ln(t) / pulls) is
    played, t counted from the end of that first round, as in the authors' public code. The offload price o is that
    of the network: it stands in the reward alone, and the costs we report are the MACs of device and server together.

    Attributes:
        alpha: Confidence at which a text stays; the authors take .7 to .85 by dataset.
        lambda_: What one layer (here: one exit) on the device costs, in units of confidence.
        o: What sending on costs; the authors try .1 to .6.
        c: Exploration constant.
    """

    name: ClassVar[str] = "splitee"
    source: ClassVar[str] = "SplitEE, Bajpai, Trivedi, Yadav & Hanawal 2023, AIMLSystems, arXiv 2309.09195"
    price: ClassVar[str] = "lambda_"
    several: ClassVar[bool] = True

    alpha: float = 0.75
    lambda_: float = 0.1
    o: float = 0.3
    c: float = 1.0

    def __post_init__(self) -> None:
        """Check the parameters."""
        super().__post_init__()
        where = f"exit policy {self.name!r}"
        require_between(where, "alpha", self.alpha, 0, 1)
        require_between(where, "o", self.o, 0, math.inf)
        require_between(where, "c", self.c, 0, math.inf)

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Leave at the split where it is sure."""
        p = torch.softmax(logits, dim=-1)
        if exit != self.arm:
            return Update(state, torch.zeros(len(logits), dtype=torch.bool), p)
        return Update(state, p.amax(dim=-1) >= self.alpha, p)

    def bandit(self, num_exits: int) -> Bandit:
        """Every split once, in order; the clock of the bound starts after that."""
        return Bandit(num_exits, self.c, tuple(range(num_exits)), since=num_exits - 1, first_alone=True)

    def lessons(self, arm: int, seen: Seen) -> list[Lesson]:
        """The confidence of the answer, less the layers on the device and the way to the server."""
        sent = self.o if seen.exit > arm + 1 else 0.0
        return [Lesson(arm, seen.confidence[-1] - self.lambda_ * (arm + 1) - sent)]

    def priced(self, step: float, num_exits: int) -> Self:
        """One exit costs lambda_."""
        return replace(self, lambda_=step)

    def variants(self, num_exits: int) -> list[Self]:
        """Prices at the alpha given, and other alphas at the price given (the authors choose alpha by dataset)."""
        return [*super().variants(num_exits), *(replace(self, alpha=alpha) for alpha in ACTIONS)]

    def reads(self, exit: int, num_exits: int) -> bool:
        """Only the heads of the split and of exit K are asked."""
        return self.arm is None or exit in (self.arm, num_exits)


@policies.register("splitee-s")
@dataclass(frozen=True)
class SplitEES(SplitEE):
    """SplitEE with side observations: a text under split a also teaches of every split before a.

    SplitEE-S of the same paper; the first round teaches of the split played alone, as in the public code. That code
    reads max p_K for an earlier split at which the text would have been sent on, also where the text stayed at a and
    exit K was never computed; here max p_a, the deepest exit computed, stands in for it there.
    """

    name: ClassVar[str] = "splitee-s"
    source: ClassVar[str] = "SplitEE-S, Bajpai, Trivedi, Yadav & Hanawal 2023, AIMLSystems, arXiv 2309.09195"

    def lessons(self, arm: int, seen: Seen) -> list[Lesson]:
        """What each earlier split would have earned, then the split itself."""
        sure = float(np.float32(self.alpha))  # `update` compares in float32
        earlier = []
        for split in range(arm):
            here = seen.confidence[split]
            earned = here if here >= sure else seen.confidence[-1] - self.o
            earlier.append(Lesson(split, earned - self.lambda_ * (split + 1)))
        return earlier + super().lessons(arm, seen)

    def reads(self, exit: int, num_exits: int) -> bool:
        """A live one asks every head up to the split."""
        return super().reads(exit, num_exits) or (self.learns and self.arm is not None and exit < self.arm)
