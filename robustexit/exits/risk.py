"""Thresholds that come with a promise: what leaving early costs in answers, bounded from held-out data.

Any policy can be given one. Half of the held-out texts (a seeded choice that looks at nothing but their number)
proposes: the policy learns on it whatever it learns, lists its settings, and puts them in a row from slow to fast. The
other half tests them in that row. Since the row owes nothing to the texts it is tested on, the promise is exact for
finite samples, whatever the policy learns and however many parameters it has (Pareto testing, Laufer-Goldshtein et al.
2023, arXiv 2210.07913); on one set of texts the thresholds tried would be drawn from the statistics that are tested.

*Learn-then-test* (Angelopoulos et al. 2021, arXiv 2110.01052; CALM, Schuster et al. 2022, arXiv 2207.07061): with
probability 1 - delta over the held-out texts the chosen setting's risk is at most epsilon. Fixed-sequence testing: each
setting's hypothesis "the risk exceeds epsilon" is rejected at level delta or ends the row. Losses are 0 or 1, so the
p-value is the exact binomial one.

*Conformal* (conformal risk control, Angelopoulos et al. 2022, arXiv 2208.02814; for early exits Fast yet Safe, Jazbec
et al. 2024, arXiv 2405.20915): the risk is at most epsilon in expectation, the held-out texts being drawn too. It needs
losses that never fall along the row. Those of an early exit may (a text lost at exit 2 is won back at exit 1), so
each text's loss is replaced by its largest so far, which bounds it; Jazbec et al. assume a monotone mean instead.

The promise is for texts like the held-out ones and independent of them. It is void for attacked texts: that is what an
attack is there to show. Where no setting passes, the calibration is refused; exit K, which is left then, loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import CANDIDATES, ExitPolicy, require_deployable
from robustexit.exits.replay import replay_held_out
from robustexit.exits.stream import StreamPolicy

Control: TypeAlias = Literal["learn-then-test", "conformal"]
Loss: TypeAlias = Literal["disagreement", "error-gap"]

DELTA: Final = 0.1
"""Probability with which learn-then-test may fail, unless another is asked for."""

PROPOSING: Final = 0.5
"""Share of the held-out texts that proposes settings; the rest tests them."""

SEED: Final = 20_220_714
"""Seed of that split."""


@dataclass(frozen=True)
class Promise:
    """What is promised of a setting.

    Attributes:
        risk: epsilon, the largest mean loss.
        loss: ``disagreement``: the answer is not exit K's. ``error-gap``: the answer is wrong where exit K's is right;
            it bounds the loss of accuracy, which may also win texts back. Exit K's answer is the argmax of its own
            logits, whatever a voting policy makes of it.
        control: ``learn-then-test`` or ``conformal``.
        delta: Probability with which learn-then-test may fail; None for conformal.
    """

    risk: float
    loss: Loss = "disagreement"
    control: Control = "learn-then-test"
    delta: float | None = DELTA

    def describe(self) -> str:
        """Return the promise in words."""
        what = "disagreement with" if self.loss == "disagreement" else "error gap to"
        if self.delta is None:
            return f"expected {what} full depth at most {self.risk:g} (conformal)"
        return f"{what} full depth at most {self.risk:g} with probability {1 - self.delta:g} (learn-then-test)"

    @property
    def least(self) -> int:
        """Fewest tested texts with which anything could be promised: those that suffice where no text is lost."""
        if self.delta is None:
            return math.ceil(round(1 / self.risk, 9)) - 1
        return math.ceil(round(math.log(self.delta) / math.log1p(-self.risk), 9))

    def smallest_risk(self, lost: int, n: int) -> float:
        """Return the smallest risk that could be promised with `lost` of `n` tested texts lost."""
        if self.delta is None:
            return (lost + 1) / (n + 1)
        return 1.0 if lost >= n else float(stats.beta.ppf(1 - self.delta, lost + 1, n - lost))


@dataclass(frozen=True)
class Certified:
    """A setting for which a promise holds.

    Attributes:
        policy: The setting.
        promise: What is promised.
        proposing: Texts that proposed the settings.
        testing: Texts that tested them.
        lost: Tested texts that are lost at this setting (conformal: or at a slower one).
        smallest_risk: The smallest risk that the tested texts would have allowed for this setting alone.
        passed: Settings that passed, this one the last.
        tried: Settings in the row.
    """

    policy: ExitPolicy
    promise: Promise
    proposing: int
    testing: int
    lost: int
    smallest_risk: float
    passed: int
    tried: int

    def as_dict(self) -> dict[str, Any]:
        """Return all but the policy as plain values, for JSON."""
        found = {name: value for name, value in vars(self).items() if name not in ("policy", "promise")}
        return {**asdict(self.promise), **found}


@dataclass(frozen=True)
class _Proposed:
    """A setting with its mean cost and risk on the proposing texts."""

    policy: ExitPolicy
    cost: float
    risk: float


def losses(policy: ExitPolicy, held_out: HeldOut, loss: Loss) -> NDArray[np.bool_]:
    """Return whether each held-out text is lost at a setting, shape [N]; see `Promise.loss`."""
    return _lost(replay_held_out(policy, held_out).answer, held_out, loss)


def _lost(answer: NDArray[np.int64], held_out: HeldOut, loss: Loss) -> NDArray[np.bool_]:
    full = held_out.logits[:, -1].argmax(axis=-1)
    found: NDArray[np.bool_] = answer != full
    if loss == "error-gap":
        found = found & (full == held_out.labels)
    return found


def certify(start: ExitPolicy, held_out: HeldOut, promise: Promise, most: int = CANDIDATES) -> Certified:
    """Choose the fastest setting of a policy for which a promise holds.

    Args:
        start: The policy at any setting, not fitted yet.
        held_out: Stored outputs; never the examples that are attacked afterwards.
        promise: What to promise.
        most: Settings to propose.

    Raises:
        ConfigError: Nothing leaves early at any setting, the texts are too few for any promise, no setting earns it
            (the message says what could be promised), or the policy reads the label or keeps learning once deployed.
    """
    require_deployable(start)
    if isinstance(start, StreamPolicy) and start.learns:
        raise ConfigError(
            f"{start.describe()} keeps learning from the texts it is asked, so that nothing can be promised of it; "
            "calibrate it for a speedup, or freeze it (evaluation: frozen)"
        )
    _require_enough(start, len(held_out.labels), promise)
    order = np.random.default_rng(SEED).permutation(len(held_out.labels))
    cut = _proposing(len(order))
    proposing, testing = held_out.take(np.sort(order[:cut])), held_out.take(np.sort(order[cut:]))
    start = start.fitted(proposing)
    row = _row(start.settings(proposing, most), proposing, promise.loss)
    if not row:
        reason = start.inert_reason(held_out.num_exits, held_out.num_classes)
        raise ConfigError(
            f"{start.name}: at no setting does any of {len(proposing.labels)} held-out texts leave before exit "
            f"{held_out.num_exits}" + (f" ({reason})" if reason else "")
        )
    test = _conformal if promise.delta is None else _learn_then_test
    lost = test(promise, lambda policy: losses(policy, testing, promise.loss), row)
    n = len(testing.labels)
    if not lost:
        _refuse(row[0], int(losses(row[0].policy, testing, promise.loss).sum()), n, promise)
    return Certified(
        policy=row[len(lost) - 1].policy,
        promise=promise,
        proposing=cut,
        testing=n,
        lost=lost[-1],
        smallest_risk=promise.smallest_risk(lost[-1], n),
        passed=len(lost),
        tried=len(row),
    )


def _proposing(n: int) -> int:
    return int(n * PROPOSING)


def _require_enough(policy: ExitPolicy, n: int, promise: Promise) -> None:
    testing = n - _proposing(n)
    if _proposing(n) < 1 or testing < promise.least:
        needed = max(
            2, next(total for total in range(n, 4 * promise.least + 4) if total - _proposing(total) >= promise.least)
        )
        raise ConfigError(
            f"{policy.name}: {promise.describe()} cannot be promised from {n} held-out texts, of which {testing} test "
            f"it, even if none of them is lost; hold out at least {needed}, or ask for a larger risk"
        )


def _row(settings: Sequence[ExitPolicy], proposing: HeldOut, loss: Loss) -> list[_Proposed]:
    """Return the settings that let a text leave early, from slow to fast, less those a faster one beats in risk."""
    found = []
    for policy in settings:
        result = replay_held_out(policy, proposing)
        if (result.exit < proposing.num_exits).any():
            cost = proposing.costs[np.arange(len(result.exit)), result.exit - 1].mean()
            found.append(_Proposed(policy, float(cost), float(_lost(result.answer, proposing, loss).mean())))
    front: list[_Proposed] = []
    for one in sorted(found, key=lambda proposed: (proposed.cost, proposed.risk)):
        if not front or one.risk <= front[-1].risk:
            front.append(one)
    return front[::-1]


_Lost: TypeAlias = Callable[[ExitPolicy], NDArray[np.bool_]]


def _learn_then_test(promise: Promise, lost: _Lost, row: Sequence[_Proposed]) -> list[int]:
    """Return the number of lost texts of every setting in the row up to the last that passes."""
    passed: list[int] = []
    for one in row:
        found = lost(one.policy)
        if stats.binom.cdf(found.sum(), len(found), promise.risk) > (promise.delta or 0.0):
            break
        passed.append(int(found.sum()))
    return passed


def _conformal(promise: Promise, lost: _Lost, row: Sequence[_Proposed]) -> list[int]:
    """Return, for every setting in the row up to the last that passes, the texts lost there or at a slower one."""
    passed: list[int] = []
    so_far: NDArray[np.bool_] | None = None
    for one in row:
        here = lost(one.policy)
        so_far = here if so_far is None else so_far | here
        if (so_far.sum() + 1) / (len(so_far) + 1) > promise.risk:
            break
        passed.append(int(so_far.sum()))
    return passed


def _refuse(slowest: _Proposed, lost: int, n: int, promise: Promise) -> None:
    reachable = math.ceil(promise.smallest_risk(lost, n) * 1000) / 1000
    raise ConfigError(
        f"{slowest.policy.name}: {promise.describe()} holds at no setting that leaves early: at the slowest, "
        f"{slowest.policy.describe()} ({1 / slowest.cost:.2f}x), {lost} of {n} tested texts are lost, which allows a "
        f"risk of {reachable:g}; ask for that much, hold out more texts, or run to full depth (policy 'fixed')"
    )
