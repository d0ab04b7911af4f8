"""Policies with a memory across texts: a bandit chooses an arm for each text and learns from what the text showed.

An arm is a plain rule (an exit, a threshold, a split point), so a stream policy whose arm is set is an ordinary
stateless fold. *Frozen*: the bandit runs over held-out texts in a seeded order (the burn-in), and the arm with the
highest mean reward is what is deployed. *Live*: the bandit keeps choosing and learning with every text that is asked
of it (`run_stream` over stored outputs, `robustexit.victims.live.LiveVictim` in deployment).

No label is read anywhere. A reward may speak of costs that are none of computing (the price of sending a text to a
server): these stand in the reward alone, and the costs that are reported stay multiply-accumulates.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, State
from robustexit.exits.replay import replay
from robustexit.parameters import require_between, require_one_of

EVALUATIONS: Final = ("frozen", "live")

STEP_PRICES: Final = (0.0, *np.geomspace(1e-3, 1.0, 16).tolist())
"""Prices of one more exit that a sweep tries, in units of probability: from none to more than any exit can add."""

BURN_IN_DIGITS: Final = 12
"""Digits of the burn-in data's hash that stand in the policy."""

Arm: TypeAlias = int | float
"""What an arm stands for: an exit number or a threshold."""


class Lesson(NamedTuple):
    """What one text taught of one arm: the arm's position and its reward."""

    arm: int
    reward: float


class Seen(NamedTuple):
    """What the deployed system computed on one text, up to the exit taken.

    Attributes:
        confidence: Largest class probability of each exit.
        answers: Most probable class of each exit.
        num_exits: K.
    """

    confidence: Sequence[float]
    answers: Sequence[int]
    num_exits: int

    @property
    def exit(self) -> int:
        """The exit taken, 1-based."""
        return len(self.confidence)


@dataclass
class Bandit:
    """Upper confidence bounds: after a first round, the arm with the largest mean + constant * sqrt(ln(s) / pulls).

    Attributes:
        arms: Number of arms.
        constant: Weight of the second term.
        first: Arms of the first round, in order.
        since: s is the number of texts so far less this.
        first_alone: In the first round a text teaches of the arm it was given alone, whatever else it showed.
        rounds: Texts so far.
        counts: Rewards seen of each arm.
        sums: Their sums.
    """

    arms: int
    constant: float
    first: tuple[int, ...]
    since: int
    first_alone: bool
    rounds: int = 0
    counts: list[int] = field(default_factory=list)
    sums: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start without any reward."""
        self.counts = self.counts or [0] * self.arms
        self.sums = self.sums or [0.0] * self.arms

    def choose(self) -> int:
        """Return the position of the arm for the next text, the lowest of equals; changes nothing."""
        if self.rounds < len(self.first):
            return self.first[self.rounds]
        bounds = self.bounds()
        return bounds.index(max(bounds))

    def bounds(self) -> list[float]:
        """Return the upper confidence bound of every arm; defined once the first round is over."""
        log = math.log(self.rounds - self.since)
        return [
            total / count + self.constant * math.sqrt(log / count)
            for total, count in zip(self.sums, self.counts, strict=True)
        ]

    def learn(self, lessons: Sequence[Lesson]) -> None:
        """Take in what one text taught; the chosen arm's lesson stands last."""
        alone = self.first_alone and self.rounds < len(self.first)
        for arm, reward in lessons[-1:] if alone else lessons:
            self.counts[arm] += 1
            self.sums[arm] += reward
        self.rounds += 1

    def best(self) -> int:
        """Return the position of the arm with the highest mean reward, the lowest of equals.

        Raises:
            ConfigError: An arm was never tried.
        """
        if 0 in self.counts:
            raise ConfigError(
                f"a bandit with {self.arms} arms saw {self.rounds} texts, too few to try every arm; give it more texts"
            )
        means = [total / count for total, count in zip(self.sums, self.counts, strict=True)]
        return means.index(max(means))


@dataclass(frozen=True)
class StreamPolicy(ExitPolicy):
    """Base of the bandit policies.

    Attributes:
        seed: Seed of the order of texts: of the burn-in and, live, of a campaign's examples.
        evaluation: ``frozen`` or ``live``.
        arm: The arm under which this is a plain fold; None before the burn-in, and of a live policy.
        burn_in: First digits of the burn-in data's hash; None where the arm was given.
    """

    price: ClassVar[str]
    """The parameter that sets what one more exit costs; sweeps vary it."""

    seed: int = 0
    evaluation: str = "frozen"
    arm: Arm | None = None
    burn_in: str | None = None

    def __post_init__(self) -> None:
        """Check the parameters."""
        where = f"exit policy {self.name!r}"
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"{where}: expected a whole number of at least 0 for seed, got {self.seed!r}")
        require_one_of(where, "evaluation", self.evaluation, EVALUATIONS)
        require_between(where, self.price, getattr(self, self.price), 0, math.inf)

    @abstractmethod
    def arms(self, num_exits: int) -> tuple[Arm, ...]:
        """Return the arms on a model of K exits, those that leave early first."""

    @abstractmethod
    def bandit(self, num_exits: int) -> Bandit:
        """Return a bandit that has seen nothing."""

    @abstractmethod
    def lessons(self, arm: int, seen: Seen) -> list[Lesson]:
        """Return what a text taught that was answered under an arm (its position), that arm's own lesson last."""

    @abstractmethod
    def priced(self, step: float, num_exits: int) -> Self:
        """Return the policy with one more exit costing `step`, in units of probability."""

    @property
    def learns(self) -> bool:
        """Whether the deployed system goes on learning (and computes what it learns from)."""
        return self.evaluation == "live"

    def under(self, arm: Arm) -> Self:
        """Return the fold of one arm."""
        return replace(self, arm=arm)

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Return an empty state; refuse a policy without an arm, or one whose arm the model does not have."""
        if self.arm is None and self.learns:
            raise ConfigError(
                f"{self.describe()} chooses an arm for every text, so it is no fold over exits: deploy it in a "
                "campaign (or as robustexit.victims.live.LiveVictim), evaluate it with "
                "robustexit.exits.stream.run_stream, or use evaluation: frozen"
            )
        if self.arm is None:
            raise ConfigError(
                f"{self.describe()} has not been burnt in: give the dataset a calibration share "
                "(calibration: {fraction: 0.5}) to find its arm on, or give the arm"
            )
        self._require_arm(self.arm, num_exits)
        return {}

    def _require_arm(self, arm: Arm, num_exits: int) -> None:
        known = self.arms(num_exits)
        if arm not in known:
            listed = ", ".join(f"{one:g}" for one in known)
            raise ConfigError(f"exit policy {self.name!r}: expected arm to be one of {listed}, got {arm!r}")

    def burnt_in(self, held_out: HeldOut) -> Bandit:
        """Return a bandit that has run over held-out texts in the seeded order."""
        return self._learn(Stored.of(self, held_out.logits))

    def _learn(self, stored: Stored) -> Bandit:
        bandit = self.bandit(stored.num_exits)
        for text in order_of(self.seed, len(stored)).tolist():
            arm = bandit.choose()
            bandit.learn(self.lessons(arm, stored.seen(text, arm)))
        return bandit

    def _settled(self, stored: Stored, held_out: HeldOut) -> Self:
        arm = self.arms(stored.num_exits)[self._learn(stored).best()]
        return replace(self, arm=arm, burn_in=held_out.data_hash[:BURN_IN_DIGITS])

    def fitted(self, held_out: HeldOut) -> Self:
        """Return the policy with the arm of the highest mean reward after the burn-in; a live one stays as it is.

        Raises:
            ConfigError: Fewer texts than arms.
        """
        if self.arm is not None or self.learns:
            return self
        return self._settled(Stored.of(self, held_out.logits), held_out)

    def variants(self, num_exits: int) -> list[Self]:
        """Return the hyper-parameters that a sweep tries; the burn-in finds the arm for each."""
        return [self.priced(step, num_exits) for step in STEP_PRICES]

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Return the different folds that burn-ins choose over all `variants`, those that leave early first.

        Raises:
            ConfigError: The policy is live: how much it saves is up to its bandit.
        """
        if self.learns:
            raise ConfigError(
                f"{self.name}: a live policy has no setting to calibrate, its bandit decides as it goes; calibrate the "
                f"frozen one and give its {self.price} to the live one"
            )
        if self.arm is not None and self.burn_in is None:
            return [self]
        stored: dict[Self, Stored] = {}  # by fold: variants that differ in prices alone share their outcomes
        found: dict[Self, tuple[float, Self]] = {}
        for one in replace(self, arm=None, burn_in=None).variants(held_out.num_exits):
            rule = one.priced(0, held_out.num_exits)
            if rule not in stored:
                stored[rule] = Stored.of(one, held_out.logits)
            settled = one._settled(stored[rule], held_out)
            depth = stored[rule].depth(settled)
            found.setdefault(settled.priced(0, held_out.num_exits), (depth, settled))
        ordered = [one for _, one in sorted(found.values(), key=lambda pair: pair[0])]
        kept = np.unique(np.linspace(0, len(ordered) - 1, min(most, len(ordered))).round().astype(int))
        return [ordered[index] for index in kept]


def order_of(seed: int, texts: int) -> NDArray[np.int64]:
    """Return the seeded order in which a stream policy meets texts: positions, shape [texts]."""
    order: NDArray[np.int64] = np.random.default_rng(seed).permutation(texts)
    return order


def observe(logits: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return confidence and answer of every exit, shape [..., exits] from logits of shape [..., exits, classes]."""
    probabilities = torch.softmax(torch.as_tensor(np.asarray(logits), dtype=torch.float32), dim=-1)
    return probabilities.amax(dim=-1).numpy(), probabilities.argmax(dim=-1).numpy()


@dataclass(frozen=True)
class Stored:
    """Stored outputs as bandits read them.

    Attributes:
        confidence: Largest class probability by text and exit.
        answers: Most probable class by text and exit.
        exits: Exit taken under each arm, shape [N, arms].
        returned: Answer under each arm, shape [N, arms].
        taken: `exits` as plain lists, which the bandit's loop reads faster.
    """

    confidence: list[list[float]]
    answers: list[list[int]]
    exits: NDArray[np.int64]
    returned: NDArray[np.int64]
    taken: list[list[int]]

    @classmethod
    def of(cls, policy: StreamPolicy, logits: ArrayLike) -> Self:
        """Read logits of shape [N, K, C].

        Raises:
            ModelError: Wrong shape, or logits that are not finite.
        """
        values = np.asarray(logits)
        played = [replay(policy.under(arm), values) for arm in policy.arms(values.shape[1])]
        confidence, answers = observe(values)
        exits = np.stack([one.exit for one in played], axis=1)
        returned = np.stack([one.answer for one in played], axis=1)
        return cls(confidence.tolist(), answers.tolist(), exits, returned, exits.tolist())

    def __len__(self) -> int:
        """N."""
        return len(self.confidence)

    @property
    def num_exits(self) -> int:
        """K."""
        return len(self.confidence[0])

    def depth(self, policy: StreamPolicy) -> float:
        """Return the mean exit taken under a policy's arm."""
        arms = policy.arms(self.num_exits)
        return float(self.exits[:, [arm == policy.arm for arm in arms]].mean())

    def seen(self, text: int, arm: int) -> Seen:
        """Return what would have been computed on a text under an arm (its position)."""
        exit = self.taken[text][arm]
        return Seen(self.confidence[text][:exit], self.answers[text][:exit], self.num_exits)


@dataclass(frozen=True)
class StreamResult:
    """A live bandit's way through N stored texts; every array is in the order in which it met them.

    Attributes:
        order: Which text came when, shape [N].
        exit: Exit taken, 1-based, shape [N].
        answer: Answer given, shape [N].
        arms: Arm chosen, shape [N].
        rewards: Reward of the arm chosen, shape [N].
        regret: Cumulative regret, shape [N]: the sum so far of the best arm's mean reward over all N texts less that
            of the arm chosen. It never falls.
        best_arm: The best fixed arm in hindsight: the one with the highest mean reward over all N texts.
        learned_arm: The arm that the bandit's own means are highest for at the end; what freezing would deploy.
        order_seed: Seed of the order.
    """

    order: NDArray[np.int64]
    exit: NDArray[np.int64]
    answer: NDArray[np.int64]
    arms: NDArray[Any]
    rewards: NDArray[np.float64]
    regret: NDArray[np.float64]
    best_arm: Arm
    learned_arm: Arm
    order_seed: int


def run_stream(policy: StreamPolicy, held_out: HeldOut, order_seed: int) -> StreamResult:
    """Run a bandit live over stored outputs, from nothing, one text after another.

    Args:
        policy: A stream policy; whatever arm it has is not used.
        held_out: Stored outputs. Labels are not read.
        order_seed: Seed of the order of the texts.

    Raises:
        ConfigError: Fewer texts than arms.
    """
    stored = Stored.of(policy, held_out.logits)
    values = policy.arms(stored.num_exits)
    bandit = policy.bandit(stored.num_exits)
    order = order_of(order_seed, len(stored))
    chosen = np.empty(len(stored), dtype=np.int64)
    rewards = np.empty(len(stored))
    for step, text in enumerate(order.tolist()):
        arm = bandit.choose()
        lessons = policy.lessons(arm, stored.seen(text, arm))
        bandit.learn(lessons)
        chosen[step], rewards[step] = arm, lessons[-1].reward
    means = _mean_rewards(policy, stored)
    return StreamResult(
        order=order,
        exit=stored.exits[order, chosen],
        answer=stored.returned[order, chosen],
        arms=np.asarray(values)[chosen],
        rewards=rewards,
        regret=np.cumsum(means.max() - means[chosen]),
        best_arm=values[int(means.argmax())],
        learned_arm=values[bandit.best()],
        order_seed=order_seed,
    )


def _mean_rewards(policy: StreamPolicy, stored: Stored) -> NDArray[np.float64]:
    """Return every arm's mean reward over all texts, shape [arms]."""
    arms = range(stored.exits.shape[1])
    rewards = [[policy.lessons(arm, stored.seen(text, arm))[-1].reward for arm in arms] for text in range(len(stored))]
    means: NDArray[np.float64] = np.asarray(rewards).mean(axis=0)
    return means


class Spread(NamedTuple):
    """Mean and standard deviation over several orders (the deviation of a single order is 0)."""

    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Summarise one value an order."""
        return cls(float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else 0.0)


@dataclass(frozen=True)
class StreamSummary:
    """What a live bandit does over several orders of the same texts: mean and spread of each.

    Attributes:
        policy: The policy.
        order_seeds: Seeds of the orders.
        accuracy: Share of right answers.
        speedup: Full-depth cost over mean cost.
        mean_exit: Mean exit taken.
        regret: Cumulative regret at the end.
        learned_arms: What freezing would deploy after each order.
    """

    policy: StreamPolicy
    order_seeds: tuple[int, ...]
    accuracy: Spread
    speedup: Spread
    mean_exit: Spread
    regret: Spread
    learned_arms: tuple[Arm, ...]


def summarise_stream(policy: StreamPolicy, held_out: HeldOut, order_seeds: Sequence[int]) -> StreamSummary:
    """Run a bandit live over several orders of the same texts; see `run_stream`.

    Args:
        policy: A stream policy.
        held_out: Stored outputs; labels and costs are read to judge the answers, never by the bandit.
        order_seeds: At least one seed.

    Raises:
        ConfigError: No seed, or fewer texts than arms.
    """
    if not order_seeds:
        raise ConfigError(f"{policy.name}: expected at least one order to run over, got none")
    results = [run_stream(policy, held_out, seed) for seed in order_seeds]
    return StreamSummary(
        policy=policy,
        order_seeds=tuple(order_seeds),
        accuracy=Spread.of([float((one.answer == held_out.labels[one.order]).mean()) for one in results]),
        speedup=Spread.of([float(1 / held_out.costs[one.order, one.exit - 1].mean()) for one in results]),
        mean_exit=Spread.of([float(one.exit.mean()) for one in results]),
        regret=Spread.of([float(one.regret[-1]) for one in results]),
        learned_arms=tuple(one.learned_arm for one in results),
    )
