"""An exit drawn at random: the control for policies that are robust only because they are hard to foresee."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies, require_number
from robustexit.exits.replay import replay_held_out
from robustexit.exits.tuning import require_numbers, require_per_exit


@policies.register("random")
@dataclass(frozen=True)
class Random(ExitPolicy):
    """Take exit i with probability q_i, whatever the exits say; they answer for themselves.

    The cost-matched control: give it another policy's exit shares (`Random.matching`), or a mean cost, for which the
    flattest distribution (the one of largest entropy) is taken. The draw is a hash of the exit-1 logits' bits and the
    seed: the same text always draws the same exit, online and in a replay, and any change of the text draws anew.

    Attributes:
        distribution: q_1 to q_K, summing to 1.
        mean_cost: Mean cost over the full cost that the distribution is made for where it is not given itself.
        seed: Seeds the draws.
    """

    name: ClassVar[str] = "random"
    source: ClassVar[str] = "control: exits drawn at random, cost matched"

    distribution: tuple[float, ...] | None = None
    mean_cost: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the parameters."""
        where = f"exit policy {self.name!r}"
        require_numbers(self.name, "distribution", self.distribution)
        if self.mean_cost is not None:
            require_number(self.name, "mean_cost", self.mean_cost)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"{where}: expected a whole number of at least 0 for seed, got {self.seed!r}")
        q = self.distribution
        if q is not None and (min(q, default=-1) < 0 or abs(sum(q) - 1) > 1e-6):
            raise ConfigError(f"{where}: expected probabilities that sum to 1 for distribution, got {q}")

    @classmethod
    def matching(cls, policy: ExitPolicy, held_out: HeldOut, seed: int = 0) -> Random:
        """Return the control of another policy: exits drawn in the shares in which it takes them on held-out texts."""
        exits = replay_held_out(policy, held_out).exit
        shares = np.bincount(exits, minlength=held_out.num_exits + 1)[1:] / len(exits)
        return cls(distribution=tuple(float(share) for share in shares), seed=seed)

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Nothing is drawn yet; refuse a missing distribution or that of a model with other exits."""
        require_per_exit(self.name, "distribution", self.distribution, num_exits)
        return {"exit": torch.zeros(rows, dtype=torch.long)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Draw at exit 1; stop at what was drawn."""
        drawn = self._draw(logits) if exit == 1 else state["exit"]
        return Update({"exit": drawn}, drawn == exit, torch.softmax(logits, dim=-1))

    def _draw(self, logits: torch.Tensor) -> torch.Tensor:
        upto = np.cumsum(self.distribution or ())
        drawn = np.searchsorted(upto / upto[-1], uniform(logits, self.seed), side="right")
        return torch.from_numpy(drawn) + 1

    def fitted(self, held_out: HeldOut) -> Self:
        """Make the distribution for a mean cost, if that is what was given."""
        if self.distribution is not None or self.mean_cost is None:
            return self
        return replace(self, distribution=flattest(held_out.costs.mean(axis=0), self.mean_cost))

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """The flattest distribution at every mean cost from exit 1's to exit K's; itself alone if one was given."""
        if self.distribution is not None:
            return [self]
        costs = held_out.costs.mean(axis=0)
        wanted = np.linspace(costs[0], costs[-1], most) if len(costs) > 1 else costs
        return [replace(self, mean_cost=float(cost)).fitted(held_out) for cost in wanted]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """Without any weight before exit K nothing leaves early."""
        if self.distribution is None or sum(self.distribution[: num_exits - 1]) > 0:
            return None
        return "the distribution puts everything on the last exit; give earlier exits a share"


def flattest(costs: NDArray[np.float64], mean_cost: float) -> tuple[float, ...]:
    """Return the distribution of largest entropy over exits that costs `mean_cost` on average.

    It is q_i proportional to exp(-b c_i), with b solved for.

    Args:
        costs: c_i, rising, shape [K].
        mean_cost: From c_1 to c_K.

    Raises:
        ConfigError: No distribution over these exits costs that.
    """
    low, high = float(costs.min()), float(costs.max())
    if not low <= mean_cost <= high:
        raise ConfigError(
            f"exit policy 'random': expected mean_cost from {low:.4g} (always exit 1) to {high:.4g} (full depth) on "
            f"this model, got {mean_cost:g}"
        )

    def weights(b: float) -> NDArray[np.float64]:
        exponent = -b * (costs - low) / max(high - low, 1e-12)
        unnormalised = np.exp(exponent - exponent.max())
        return np.asarray(unnormalised / unnormalised.sum(), dtype=np.float64)

    def surplus(b: float) -> float:
        return float(weights(b) @ costs) - mean_cost

    steepest = 1e3  # exp(-1000 (c_2 - c_1)) is 0 in all but name
    if surplus(steepest) >= 0:
        found = (costs == low) / (costs == low).sum()
    elif surplus(-steepest) <= 0:
        found = (costs == high) / (costs == high).sum()
    else:
        found = weights(float(brentq(surplus, -steepest, steepest)))
    return tuple(float(share) for share in found)


def uniform(logits: torch.Tensor, seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) a row, a hash of the row's bits: shape [rows, classes] float32 -> [rows]."""
    # Adding 0 turns -0 into +0, which compare equal and must draw alike.
    bits = (logits.detach() + 0.0).contiguous().numpy().view(np.uint32).astype(np.uint64)
    mixed = np.full(len(bits), seed % 2**64, dtype=np.uint64)
    for column in bits.T:
        mixed = _mixed(mixed ^ column)
    return (_mixed(mixed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one step of SplitMix64 (Steele et al. 2014), whose output bits all depend on all input bits."""
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
