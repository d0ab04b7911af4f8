"""Choose a policy's threshold on held-out data toward a stated target, and say what was reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import ExitPolicy, make_policy, policies, require_deployable
from robustexit.exits.replay import replay_held_out
from robustexit.exits.risk import DELTA, Control, Loss, Promise, certify
from robustexit.parameters import required

SLACK = 0.05
"""Share of a wanted speed-up within which settings of several parameters count as equally near."""


class Target(BaseModel):
    """What a calibration aims at: exactly one of `speedup`, `accuracy_drop` and `risk`.

    Attributes:
        speedup: Full-depth cost over mean cost, e.g. 1.5.
        accuracy_drop: Largest loss of accuracy against exit K that is accepted on the held-out texts, e.g. 0.01; the
            fastest setting within it is taken.
        risk: Largest risk that is accepted on texts to come, e.g. 0.05; the fastest setting of which that can be
            promised is taken (`robustexit.exits.risk`).
        delta: With `risk`: probability with which learn-then-test may fail; 0.1 if not given.
        control: With `risk`: how the promise is made, ``learn-then-test`` if not given.
        loss: With `risk`: what is bounded, ``disagreement`` with exit K if not given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speedup: float | None = Field(default=None, gt=1)
    accuracy_drop: float | None = Field(default=None, ge=0, lt=1)
    risk: float | None = Field(default=None, gt=0, lt=1)
    delta: float | None = Field(default=None, gt=0, lt=1)
    control: Control | None = None
    loss: Loss | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.speedup, self.accuracy_drop, self.risk)) != 1:
            raise ValueError("expected exactly one of speedup, accuracy_drop and risk")
        if self.risk is None and not (self.delta is None and self.control is None and self.loss is None):
            raise ValueError("delta, control and loss belong to risk; expected risk, e.g. risk: 0.05")
        if self.control == "conformal" and self.delta is not None:
            raise ValueError("conformal control bounds an expectation and has no delta; leave it out")
        return self

    @property
    def promise(self) -> Promise | None:
        """What is promised of the chosen setting, where the target is a risk."""
        if self.risk is None:
            return None
        control = self.control or "learn-then-test"
        delta = None if control == "conformal" else self.delta or DELTA
        return Promise(self.risk, self.loss or "disagreement", control, delta)

    def describe(self) -> str:
        """Return the target in words."""
        if self.promise is not None:
            return self.promise.describe()
        if self.speedup is not None:
            return f"speed-up {self.speedup:g}x"
        return f"at most {self.accuracy_drop:g} below full depth"


@dataclass(frozen=True)
class Calibration:
    """A chosen setting and what it does on the held-out data.

    Attributes:
        policy: Name of the policy.
        parameters: Its parameters, the calibrated threshold among them.
        target: The target in words.
        reached_speedup: Full-depth cost over mean cost there.
        clean_accuracy: Accuracy of the deployed answers there.
        full_depth_accuracy: Accuracy of exit K there.
        per_exit_accuracy: Accuracy of every exit, length K.
        exit_shares: Share of inputs that leave at each exit, length K.
        n: Held-out examples.
        data_hash: Content hash of the held-out examples.
        promise: Where the target is a risk, what was promised and on how many texts it was tested
            (`robustexit.exits.risk.Certified`); None otherwise.
    """

    policy: str
    parameters: dict[str, Any]
    target: str
    reached_speedup: float
    clean_accuracy: float
    full_depth_accuracy: float
    per_exit_accuracy: list[float]
    exit_shares: list[float]
    n: int
    data_hash: str
    promise: dict[str, Any] | None = None

    def make(self) -> ExitPolicy:
        """Return the calibrated policy."""
        return make_policy(self.policy, **self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """Return the calibration as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Point:
    """What one setting of a policy does on held-out data.

    Attributes:
        policy: The setting.
        speedup: Full-depth cost over mean cost.
        accuracy: Share of right answers.
        early: Share that leaves before exit K.
        mean_exit: Mean of the exits taken, 1-based.
    """

    policy: ExitPolicy
    speedup: float
    accuracy: float
    early: float
    mean_exit: float


def evaluate(policy: ExitPolicy, held_out: HeldOut) -> Point:
    """Return speed-up, accuracy and share of early leavers of one setting."""
    result = replay_held_out(policy, held_out)
    cost = held_out.costs[np.arange(len(result.exit)), result.exit - 1]
    return Point(
        policy,
        float(1 / cost.mean()),
        float((result.answer == held_out.labels).mean()),
        float((result.exit < held_out.num_exits).mean()),
        float(result.exit.mean()),
    )


def _choose(points: Sequence[Point], target: Target, full_accuracy: float) -> Point:
    if target.speedup is not None:
        return nearest(points, target.speedup)
    floor = full_accuracy - (target.accuracy_drop or 0.0)
    good = [point for point in points if point.accuracy >= floor - 1e-12]
    if not good:
        best = max(points, key=lambda point: point.accuracy)
        raise ConfigError(
            f"{best.policy.name}: no setting that leaves early stays within {target.describe()} "
            f"({full_accuracy:.3f}); the best reaches {best.accuracy:.3f} at {best.speedup:.2f}x. "
            "Accept a larger accuracy_drop or train the heads longer"
        )
    return max(good, key=lambda point: (point.speedup, point.accuracy))


def nearest(points: Sequence[Point], speedup: float) -> Point:
    """Return the setting that comes nearest to a speed-up; ties go to the more accurate one.

    Where several parameters vary, many settings reach about the same speed-up, some of them badly: those within
    `SLACK` of the nearest count as equally near.

    Args:
        points: Settings of one policy on held-out data.
        speedup: What is wanted.
    """
    slack = SLACK * speedup if points[0].policy.several else 0.0
    least = min(abs(point.speedup - speedup) for point in points)
    near = [point for point in points if abs(point.speedup - speedup) <= least + slack]
    return max(near, key=lambda point: (point.accuracy, -abs(point.speedup - speedup)))


def calibrate(name: str, target: Target, held_out: HeldOut, **parameters: Any) -> Calibration:
    """Choose the setting of a policy that comes nearest to a target on held-out data.

    Policies with few settings take the nearest reachable one; the caller shows what was reached.

    Args:
        name: Policy to calibrate.
        target: What to aim at.
        held_out: Stored outputs; never the examples that are attacked afterwards.
        **parameters: Parameters to hold fixed.

    Raises:
        ConfigError: Nothing can leave early at any setting, no setting meets an accuracy target, or a risk can be
            promised of none.
    """
    num_exits = held_out.num_exits
    if num_exits < 2:
        raise ConfigError(f"{name}: the model has one exit, so nothing can leave early; use policy 'fixed'")
    start = prototype(name, **parameters)
    promise = target.promise
    certified = None if promise is None else certify(start, held_out, promise)
    chosen = _nearest(start, target, held_out) if certified is None else evaluate(certified.policy, held_out)
    per_exit = held_out.correct.mean(axis=0)
    exits = replay_held_out(chosen.policy, held_out).exit
    return Calibration(
        policy=name,
        parameters=chosen.policy.parameters,
        target=target.describe(),
        reached_speedup=chosen.speedup,
        clean_accuracy=chosen.accuracy,
        full_depth_accuracy=float(per_exit[-1]),
        per_exit_accuracy=[float(value) for value in per_exit],
        exit_shares=[float((exits == exit).mean()) for exit in range(1, num_exits + 1)],
        n=len(held_out.labels),
        data_hash=held_out.data_hash,
        promise=None if certified is None else certified.as_dict(),
    )


def _nearest(start: ExitPolicy, target: Target, held_out: HeldOut) -> Point:
    """Return the setting nearest to a speed-up or accuracy target."""
    start = start.fitted(held_out)
    require_deployable(start)
    points = [evaluate(policy, held_out) for policy in start.settings(held_out)]
    points = [point for point in points if point.early > 0]
    if not points:
        reason = start.inert_reason(held_out.num_exits, held_out.num_classes)
        raise ConfigError(
            f"{start.name}: at no setting does any of {len(held_out.labels)} held-out texts leave before exit "
            f"{held_out.num_exits}" + (f" ({reason})" if reason else "")
        )
    return _choose(points, target, float(held_out.correct[:, -1].mean()))


def prototype(name: str, **parameters: Any) -> ExitPolicy:
    """Return a policy whose parameters to be calibrated hold a starting value, valid for thresholds and counts alike.

    Args:
        name: A registered name.
        **parameters: Parameters to hold fixed.

    Raises:
        ConfigError: Unknown name or parameter.
    """
    starting = {field.name: 1 for field in fields(policies.get(name)) if required(field)}
    return make_policy(name, **{**starting, **parameters})


def refuse_inert(policy: ExitPolicy, num_exits: int, num_classes: int, held_out: HeldOut | None = None) -> None:
    """Refuse an early-exit policy under which nothing leaves early.

    Args:
        policy: The policy about to be deployed; a fixed one is never refused.
        num_exits: K.
        num_classes: C.
        held_out: Held-out outputs to try it on, where there are any.

    Raises:
        ConfigError: With the reason.
    """
    if policy.name == "fixed":
        policy.start(1, num_exits, num_classes)
        return
    reason = "the model has one exit" if num_exits < 2 else policy.inert_reason(num_exits, num_classes)
    if reason is None and held_out is not None and evaluate(policy, held_out).early == 0:
        reason = (
            f"none of {len(held_out.labels)} held-out texts leaves before exit {num_exits}; "
            "calibrate it (calibrate: {speedup: 1.5}) or choose a looser threshold"
        )
    if reason is not None:
        raise ConfigError(f"{policy.describe()} cannot leave early: {reason}")
