"""A user's own model as a victim: wrap a function, or return any object that follows the protocol."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from robustexit.data.types import Fields
from robustexit.errors import ConfigError, ModelError
from robustexit.exits import ExitPolicy, make_policy, replay
from robustexit.exits.policy import require_deployable
from robustexit.victims.base import Trace, Victim


class FunctionVictim:
    """Deploy a function that returns every exit's logits.

    The function computes all exits; costs are what the policy would spend where leaving truly stops the model.

    Args:
        logits: Maps a list of texts (field -> text) to logits of shape [N, K, C], or [N, C] for one exit. A
            row must not depend on its neighbours.
        num_classes: C.
        num_exits: K.
        policy: Exit policy; full depth if None.
        layer_macs: MACs up to and including each exit, length K; equal steps if None.
        name: Stands in the fingerprint; change it when the weights change.
        count_tokens: Tokens of a text; words if None.
    """

    def __init__(
        self,
        logits: Callable[[list[dict[str, str]]], ArrayLike],
        *,
        num_classes: int,
        num_exits: int = 1,
        policy: ExitPolicy | None = None,
        layer_macs: Sequence[int] | None = None,
        name: str = "custom",
        count_tokens: Callable[[Fields], int] | None = None,
    ) -> None:
        self._logits = logits
        self.policy = policy or make_policy("fixed")
        require_deployable(self.policy)
        if self.policy.module is not None:
            raise ConfigError(
                f"exit policy {self.policy.name!r} needs a post-hoc module fitted on a multi-exit model's states, "
                "which a function of texts does not show; choose a policy that reads logits alone"
            )
        self.policy.start(1, num_exits, num_classes)
        self.num_exits = num_exits
        self.num_classes = num_classes
        self.exit_layers = tuple(range(1, num_exits + 1))
        self.full_depth = self.policy.constant or num_exits == 1
        self._macs = list(layer_macs or range(1, num_exits + 1))
        if len(self._macs) != num_exits:
            raise ConfigError(f"layer_macs: expected {num_exits} values, one for each exit, got {len(self._macs)}")
        self._count = count_tokens or (lambda fields: sum(len(text.split()) for text in fields.values()))
        self.fingerprint = hashlib.sha256(f"{name}|{self.policy.describe()}".encode()).hexdigest()

    def trace(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        """Run the function and fold the policy over its logits; see `Victim.trace`.

        Raises:
            ModelError: The function returned another shape than announced, or logits that are not finite.
        """
        if not texts:
            return []
        values = np.asarray(self._logits([dict(text) for text in texts]), dtype=np.float32)
        if values.ndim == 2:
            values = values[:, None, :]
        expected = (len(texts), self.num_exits, self.num_classes)
        if values.shape != expected:
            raise ModelError(f"custom victim: expected logits of shape {list(expected)}, got {list(values.shape)}")
        result = replay(self.policy, values)
        return [
            Trace(
                logits=values[i, : max(min_depth, int(exit))],
                exit=int(exit),
                probabilities=result.probabilities[i],
                tokens=self._count(text),
                macs=self._macs[int(exit) - 1],
                full_macs=self._macs[-1],
                layers=max(min_depth, int(exit)),
            )
            for i, (text, exit) in enumerate(zip(texts, result.exit, strict=True))
        ]


def load_factory(spec: str, arguments: dict[str, Any], folder: Path) -> Victim:
    """Import ``module:factory`` (looked up beside the campaign file first) and call it.

    The caller has made sure that the user allowed code to run.

    Raises:
        ConfigError: No such module or function, or what it returned is no victim.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        raise ConfigError(f"factory: expected 'module:function', got {spec!r}")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"factory {spec!r}: {error}; looked in {folder} and the Python path") from error
    finally:
        sys.path.remove(str(folder))
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise ConfigError(f"factory {spec!r}: module {module_name} has no function {attribute!r}")
    victim = factory(**arguments)
    if not isinstance(victim, Victim):
        raise ConfigError(
            f"factory {spec!r} returned {type(victim).__name__}; expected an object with trace(), num_exits, "
            "num_classes, exit_layers, full_depth and fingerprint (robustexit.victims.FunctionVictim makes one)"
        )
    return victim
