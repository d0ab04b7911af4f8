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

from robustexit.errors import ConfigError, did_you_mean
from robustexit.registry import Registry

State: TypeAlias = dict[str, torch.Tensor]
"""A policy's memory: named tensors, each of shape [rows, ...]."""

Scalars: TypeAlias = Mapping[str, torch.Tensor]
"""Named per-exit values beside the logits (gates, distances), each of shape [rows]."""


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

    @abstractmethod
    def settings(self, logits: torch.Tensor) -> Sequence[Self]:
        """Return the settings of this policy worth trying on held-out logits of shape [N, K, C]."""

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """Say why no input can ever leave before exit K with these parameters, or None if one can."""
        return None

    def reads(self, exit: int, num_exits: int) -> bool:
        """Whether the deployed policy needs the head of this exit (heads not read are not charged)."""
        return True

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters by name."""
        return dataclasses.asdict(self)

    def describe(self) -> str:
        """Return the policy as it stands in records and reports, e.g. ``entropy(t=0.31)``."""
        shown = ", ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
            for key, value in self.parameters.items()
            if value is not None
        )
        return f"{self.name}({shown})"


policies: Registry[type[ExitPolicy]] = Registry("exit policy", "robustexit.policies")


def make_policy(name: str, **parameters: Any) -> ExitPolicy:
    """Build an exit policy by name.

    Args:
        name: A registered name, e.g. ``"patience"``.
        **parameters: The policy's hyper-parameters, e.g. ``t=2``.

    Raises:
        ConfigError: Unknown name or parameter, missing parameter, or a value that makes no sense.
    """
    kind = policies.get(name)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for given in parameters:
        if given not in fields:
            expected = ", ".join(fields) or "none"
            raise ConfigError(
                f"exit policy {name!r} has no parameter {given!r}{did_you_mean(given, fields)}; expected: {expected}"
            )
    missing = [
        field.name
        for field in fields.values()
        if field.name not in parameters
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"exit policy {name!r} needs {', '.join(missing)}; give it or ask for a calibration")
    return kind(**parameters)


def require_number(policy: str, parameter: str, value: object) -> None:
    """Refuse a threshold that is not a finite number.

    Raises:
        ConfigError: `value` is no number, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ConfigError(f"exit policy {policy!r}: expected a number for {parameter}, got {value!r}")


def require_count(policy: str, parameter: str, value: object) -> None:
    """Refuse a count that is not a whole number of at least 1.

    Raises:
        ConfigError: `value` is no whole number >= 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"exit policy {policy!r}: expected a whole number of at least 1 for {parameter}, got {value!r}"
        )
