"""Choose a policy's threshold on held-out data toward a stated target, and say what was reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.policy import ExitPolicy, make_policy, policies
from robustexit.exits.replay import replay


class Target(BaseModel):
    """What a calibration aims at: exactly one of the two.

    Attributes:
        speedup: Full-depth cost over mean cost, e.g. 1.5.
        accuracy_drop: Largest loss of accuracy against exit K that is accepted, e.g. 0.01; the fastest setting
            within it is taken.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    speedup: float | None = Field(default=None, gt=1)
    accuracy_drop: float | None = Field(default=None, ge=0, lt=1)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.speedup is None) == (self.accuracy_drop is None):
            raise ValueError("expected exactly one of speedup and accuracy_drop")
        return self

    def describe(self) -> str:
        """Return the target in words."""
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

    def make(self) -> ExitPolicy:
        """Return the calibrated policy."""
        return make_policy(self.policy, **self.parameters)

    def as_dict(self) -> dict[str, Any]:
        """Return the calibration as plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class HeldOut:
    """Stored outputs of a model on held-out data.

    Attributes:
        logits: Shape [N, K, C].
        labels: Shape [N].
        costs: Cost of leaving at each exit as a share of the full-depth control's, shape [N, K].
        data_hash: Content hash of the examples.
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    costs: NDArray[np.float64]
    data_hash: str


@dataclass(frozen=True)
class _Point:
    policy: ExitPolicy
    speedup: float
    accuracy: float
    early: float


def evaluate(policy: ExitPolicy, held_out: HeldOut) -> _Point:
    """Return speed-up, accuracy and share of early leavers of one setting."""
    result = replay(policy, held_out.logits)
    cost = held_out.costs[np.arange(len(result.exit)), result.exit - 1]
    return _Point(
        policy,
        float(1 / cost.mean()),
        float((result.answer == held_out.labels).mean()),
        float((result.exit < held_out.logits.shape[1]).mean()),
    )


def _choose(points: Sequence[_Point], target: Target, full_accuracy: float) -> _Point:
    if target.speedup is not None:
        wanted = target.speedup
        return min(points, key=lambda point: (abs(point.speedup - wanted), -point.accuracy))
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


def calibrate(name: str, target: Target, held_out: HeldOut, **parameters: Any) -> Calibration:
    """Choose the setting of a policy that comes nearest to a target on held-out data.

    Policies with few settings take the nearest reachable one; the caller shows what was reached.

    Args:
        name: Policy to calibrate.
        target: What to aim at.
        held_out: Stored outputs; never the examples that are attacked afterwards.
        **parameters: Parameters to hold fixed.

    Raises:
        ConfigError: Nothing can leave early at any setting, or no setting meets an accuracy target.
    """
    logits = torch.as_tensor(held_out.logits)
    num_exits = logits.shape[1]
    if num_exits < 2:
        raise ConfigError(f"{name}: the model has one exit, so nothing can leave early; use policy 'fixed'")
    start = make_policy(name, **{**_placeholder(name), **parameters})
    points = [evaluate(policy, held_out) for policy in start.settings(logits)]
    points = [point for point in points if point.early > 0]
    if not points:
        reason = start.inert_reason(num_exits, logits.shape[2])
        raise ConfigError(
            f"{name}: at no setting does any of {len(logits)} held-out texts leave before exit {num_exits}"
            + (f" ({reason})" if reason else "")
        )
    answers = held_out.logits.argmax(axis=-1)
    per_exit = (answers == held_out.labels[:, None]).mean(axis=0)
    chosen = _choose(points, target, float(per_exit[-1]))
    exits = replay(chosen.policy, held_out.logits).exit
    return Calibration(
        policy=name,
        parameters=chosen.policy.parameters,
        target=target.describe(),
        reached_speedup=chosen.speedup,
        clean_accuracy=chosen.accuracy,
        full_depth_accuracy=float(per_exit[-1]),
        per_exit_accuracy=[float(value) for value in per_exit],
        exit_shares=[float((exits == exit).mean()) for exit in range(1, num_exits + 1)],
        n=len(logits),
        data_hash=held_out.data_hash,
    )


def _placeholder(name: str) -> dict[str, Any]:
    """A starting value for the parameter to be calibrated: 1 is valid for thresholds and counts alike."""
    return {field.name: 1 for field in fields(policies.get(name)) if field.default is MISSING}


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
