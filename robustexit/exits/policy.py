"""The exit policy: a fold over exits, written once for the layer-skipping forward and the replay.

A policy is a frozen dataclass whose fields are its hyper-parameters under their authors' names. `start`
makes a state whose tensors have the batch's rows first, so that the driver can drop the rows that left;
`update` folds one exit in. The driver, not the policy, stops every row at exit K.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, TypeAlias

import torch
from typing_extensions import Self

from robustexit import parameters as _parameters
from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.registry import Registry

State: TypeAlias = dict[str, torch.Tensor]
"""A policy's memory: named tensors, each of shape [rows, ...]."""

Scalars: TypeAlias = Mapping[str, torch.Tensor]
"""Named per-exit values beside the logits (gates, distances), each of shape [rows]."""

CANDIDATES = 512
"""Settings tried in a calibration: enough for steps of 0.2 % of the held-out decisions."""


class Update(NamedTuple):
    """What a policy says after one exit.

    Attributes:
        state: The state to hand to the next exit.
        stop: Rows that leave here, bool, shape [rows].
        probabilities: What the policy would return here, shape [rows, classes]; the answer is its argmax.
    """

    state: State
    stop: torch.Tensor
    probabilities: torch.Tensor


@dataclass(frozen=True)
class ExitPolicy(ABC):
    """Base of every exit policy. Subclasses register with `policies.register(name)`."""

    name: ClassVar[str]
    source: ClassVar[str]
    """Citation of the method, shown by ``robustexit list`` and in reports."""

    module: ClassVar[str | None] = None
    """Post-hoc module (`robustexit.modules`) whose scalars or logits the policy reads; None for none."""

    several: ClassVar[bool] = False
    """Settings vary in several parameters, so that many reach about the same speed-up, some of them badly."""

    needs_labels: ClassVar[bool] = False
    """The policy reads the true label (scalar ``label``): a bound for sweeps that can never be deployed."""

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Return the state before exit 1.

        Args:
            rows: Rows in the batch.
            num_exits: K.
            num_classes: C.

        Raises:
            ConfigError: The policy cannot work on a model of this shape.
        """
        return {}

    @abstractmethod
    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        """Fold one exit in.

        Args:
            state: What `start` or the previous `update` returned, for the same rows.
            exit: 1-based exit number.
            logits: Shape [rows, classes], float32, on the CPU.
            scalars: Named values of this exit, each of shape [rows].
        """

    def fitted(self, held_out: HeldOut) -> Self:
        """Return the policy with what it learns from held-out data (temperatures, weights) filled in.

        Such fields are None until then, and `start` refuses a policy that lacks them; a value that the user gave stays.
        Called before `settings` in every calibration and sweep; most policies learn nothing.

        Raises:
            ConfigError: The data cannot teach it.
        """
        return self

    @abstractmethod
    def settings(self, held_out: HeldOut, most: int = CANDIDATES) -> Sequence[Self]:
        """Return at most `most` settings of this policy worth trying on held-out outputs."""

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """Say why no input can ever leave before exit K with these parameters, or None if one can."""
        return None

    def reads(self, exit: int, num_exits: int) -> bool:
        """Whether the deployed policy needs the head of this exit (heads not read are not charged)."""
        return True

    @property
    def constant(self) -> bool:
        """Whether every input leaves at the same exit, so that an attacker has no savings to take."""
        return False

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters by name."""
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """Return the policy as it stands in records and reports, e.g. ``entropy(t=0.31)``."""
        return f"{self.name}({_parameters.show(self.parameters)})"


policies: Registry[type[ExitPolicy]] = Registry("exit policy", "robustexit.policies")


def make_policy(name: str, **parameters: Any) -> ExitPolicy:
    """Build an exit policy by name.

    Args:
        name: A registered name, e.g. ``"patience"``.
        **parameters: The policy's hyper-parameters, e.g. ``t=2``.

    Raises:
        ConfigError: Unknown name or parameter, missing parameter, or a value that makes no sense.
    """
    return _parameters.build(policies.get(name), f"exit policy {name!r}", parameters)


def require_deployable(policy: ExitPolicy) -> None:
    """Refuse to deploy a policy that reads the true label.

    Raises:
        ConfigError: It does.
    """
    if policy.needs_labels:
        raise ConfigError(
            f"exit policy {policy.name!r} reads the true label: it is a bound for `robustexit sweep` and "
            "cannot be deployed"
        )


def require_number(policy: str, parameter: str, value: object) -> None:
    """Refuse a threshold that is not a number; see `robustexit.parameters.require_number`."""
    _parameters.require_number(f"exit policy {policy!r}", parameter, value)


def require_count(policy: str, parameter: str, value: object) -> None:
    """Refuse a count that is not a whole number of at least 1; see `robustexit.parameters.require_count`."""
    _parameters.require_count(f"exit policy {policy!r}", parameter, value)
