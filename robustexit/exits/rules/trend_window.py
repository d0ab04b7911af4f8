"""Confidence now, or a steady lead over a window of exits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, Scalars, State, Update, policies, require_number
from robustexit.exits.rules.confidence import NormalisedEntropy
from robustexit.exits.threshold import between
from robustexit.exits.tuning import combinations, require_learned
from robustexit.parameters import require_between, require_count, require_one_of

MODES = ("one-side", "monotone", "range")


@policies.register("trend-window")
@dataclass(frozen=True)
class TrendWindow(ExitPolicy):
    """Leave where H(p_i) / log C < d, else where one class has led steadily over the last n exits.

    ELBERT (Xie et al. 2021, arXiv 2107.00175), with the three windows of its public code. That code is for two classes
    and follows the probability of the first; here the probability of the class that leads at the current exit is
    followed, which is the same for two classes and also defined for more. Over the window it must

    * ``one-side``: lie above .5 + m at every exit (bias_1),
    * ``monotone``: lie above .5 + m at the window's first exit and never fall after it (bias_2),
    * ``range``: lie above .5 + m at every exit and vary by at most r (bias_3).

    Attributes:
        d: Normalised entropy below which an exit suffices (the code's exit_thres).
        n: Exits in the window (cnt_thres); a calibration tries every one from 2 on if not given.
        mode: Which of the three windows.
        m: Margin around .5 (margin).
        r: Largest difference within the window; for ``range`` alone (range_tmp).
    """

    name: ClassVar[str] = "trend-window"
    source: ClassVar[str] = "ELBERT, Xie et al. 2021, arXiv 2107.00175"
    several: ClassVar[bool] = True

    d: float
    n: int | None = None
    mode: str = "one-side"
    m: float = 0.0
    r: float = 0.1

    def __post_init__(self) -> None:
        """Check the parameters."""
        where = f"exit policy {self.name!r}"
        require_number(self.name, "d", self.d)
        if self.n is not None:
            require_count(where, "n", self.n)
        require_one_of(where, "mode", self.mode, MODES)
        require_between(where, "m", self.m, 0, 0.5)
        require_between(where, "r", self.r, 0, 1)
        if self.mode == "monotone" and self.n == 1:
            raise ConfigError(f"{where}: a trend needs a window of at least 2 exits, got n=1")

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Nothing in the window yet."""
        require_learned(self.name, "n", self.n)
        return {"window": torch.zeros(rows, (self.n or 1) - 1, num_classes)}

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Look at this exit, then at the window that ends here."""
        rule, p = NormalisedEntropy(self.d), torch.softmax(logits, dim=-1)
        window = torch.cat([state["window"], p[:, None]], dim=1)
        stop = rule.passes(rule.statistic(logits))
        if exit >= window.shape[1]:
            leader = logits.argmax(dim=-1)[:, None, None].expand(-1, window.shape[1], 1)
            stop = stop | self._steady(window.gather(2, leader)[..., 0])
        return Update({"window": window[:, 1:]}, stop, p)

    def _steady(self, led: torch.Tensor) -> torch.Tensor:
        """Judge the leading class's probabilities over a full window: shape [rows, n] -> bool [rows]."""
        if self.mode == "monotone":
            return (led[:, 0] > 0.5 + self.m) & (led.diff(dim=1) >= 0).all(dim=1)
        lowest = led.amin(dim=1)
        if self.mode == "range":
            return (lowest > 0.5 + self.m) & (led.amax(dim=1) - lowest <= self.r)
        return lowest > 0.5 + self.m

    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Every window from 2 exits on, each with values of d between the entropies observed."""
        seen = NormalisedEntropy(self.d).statistics(held_out)[:, :-1]
        windows = range(2, max(held_out.num_exits, 3)) if self.n is None else [self.n]
        cuts = between(seen, most) or [self.d]  # no exit before K that could leave
        return [replace(self, n=n, d=d) for n, d in combinations(most, windows, cuts)]

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """Entropy is never below 0, no probability exceeds 1 and a window of n ends at exit n."""
        if self.d > 0:
            return None
        if self.m >= 0.5:
            return (
                f"no entropy lies below d={self.d:g} and no probability above .5 + m; choose d above 0 or a smaller m"
            )
        earliest = self.n or 2
        if earliest < num_exits:
            return None
        return (
            f"no entropy lies below d={self.d:g} and a window of {earliest} exits ends at exit {earliest} at the "
            f"earliest, of {num_exits}; choose d above 0 or a smaller n"
        )
