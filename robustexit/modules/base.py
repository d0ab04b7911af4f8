"""The post-hoc module: what it reads of a frozen multi-exit model, what it tells an exit policy, how it is fitted.

A module stands between the model's exits and the policy. At every exit it reads the pooled state and the head's
logits, and returns logits (the head's own or better ones) and named scalars (gates, distances). Like a policy it
is a fold over exits, so that one definition serves the layer-skipping forward and the replay over stored
outputs. It runs on the CPU in float32, and its rows do not depend on each other.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from typing_extensions import Self

from robustexit.errors import ModelError
from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.parameters import build
from robustexit.registry import Registry
from robustexit.tensors import own_copy

READ_ROWS = 32
"""Rows a module always reads at once: thin matrix products change kernels with their number (docs/decisions.md,
"Numerics")."""


@dataclass(frozen=True)
class ModuleShape:
    """The model that a module belongs to.

    Attributes:
        num_exits: K.
        num_classes: C.
        width: D, width of a pooled state.
    """

    num_exits: int
    num_classes: int
    width: int


@dataclass(frozen=True)
class FitData:
    """Stored outputs of a frozen model that a module is fitted on.

    Attributes:
        pooled: What the heads read, shape [N, K, D], float32 (may be memory-mapped).
        logits: The heads' logits, shape [N, K, C].
        labels: Shape [N].
        costs: Mean cost of leaving at each exit as a share of the full model's, shape [K].
    """

    pooled: NDArray[np.float32]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    costs: NDArray[np.float64]

    @property
    def shape(self) -> ModuleShape:
        """The model's shape."""
        return ModuleShape(self.logits.shape[1], self.logits.shape[2], self.pooled.shape[2])


class ExitModule(nn.Module, ABC):
    """Base of every post-hoc module. Subclasses register with `modules.register(name)`.

    Subclasses build their networks in ``__init__`` from `shape` and `settings` (after calling this one) with
    the global random state that the caller has seeded.

    Args:
        shape: The model.
        settings: Hyper-parameters under their authors' names: an instance of the class's `Settings`.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    """Citation of the method."""

    Settings: ClassVar[type[Any]]
    """Frozen dataclass of the hyper-parameters, all with defaults."""

    def __init__(self, shape: ModuleShape, settings: Any) -> None:
        super().__init__()
        self.shape = shape
        self.settings = settings
        self._macs: NDArray[np.int64] | None = None

    @abstractmethod
    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit the module on stored outputs of the frozen model.

        Args:
            data: The outputs.
            seed: Seeds order and anything random; the same seed and data give the same module.

        Returns:
            What is worth reporting of the fit (losses, sizes), by name.

        Raises:
            ModelError: The fit diverged.
            ConfigError: The data cannot teach it (too few examples, one class).
        """

    def start(self, rows: int) -> State:
        """Return the memory before exit 1: named tensors, rows first."""
        return {}

    @abstractmethod
    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Read one exit.

        Args:
            state: What `start` or the previous `read` returned, for the same rows.
            exit: 1-based exit number.
            pooled: Shape [rows, D], float32.
            logits: The head's logits, shape [rows, C], float32.
        """

    def read_exit(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """The same without gradients, and with rows that depend neither on their place nor on how many there are.

        Rows are read in lots of `READ_ROWS`, the last one filled up with zeros. A module keeps its part by products
        whose rows do not depend on their place (`robustexit.models.heads.row_linear`).
        """
        rows = len(logits)
        lots = [slice(at, at + READ_ROWS) for at in range(0, max(rows, 1), READ_ROWS)]
        with torch.inference_mode():
            read = [
                self.read(
                    {name: _lot(value, at) for name, value in state.items()}, exit, _lot(pooled, at), _lot(logits, at)
                )
                for at in lots
            ]
        return Reading(
            {name: _joined([lot.state[name] for lot in read], rows) for name in read[0].state},
            _joined([lot.logits for lot in read], rows).float(),
            {name: _joined([lot.scalars[name] for lot in read], rows).float() for name in read[0].scalars},
        )

    def macs(self) -> NDArray[np.int64]:
        """Return the multiply-accumulates of reading each exit of one text, shape [K]."""
        if self._macs is None:
            state = self.start(1)
            found = []
            for exit in range(1, self.shape.num_exits + 1):
                with torch.no_grad(), FlopCounterMode(display=False) as counter:
                    pooled, logits = torch.zeros(1, self.shape.width), torch.zeros(1, self.shape.num_classes)
                    state, _, _ = self.read(state, exit, pooled, logits)
                found.append(int(counter.get_total_flops()) // 2)
            self._macs = np.asarray(found, dtype=np.int64)
        return self._macs

    @classmethod
    def fitted(cls, data: FitData, settings: Any = None, seed: int = 0) -> tuple[Self, dict[str, float]]:
        """Build and fit a module; the global random state is left as it was.

        Args:
            data: Stored outputs of the frozen model.
            settings: An instance of `Settings`; the defaults if None.
            seed: Seed of the initialisation and the fit.

        Returns:
            The module in evaluation mode, and what its fit reports.

        Raises:
            ModelError: The fit diverged.
            ConfigError: The data cannot teach it.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = cls(data.shape, cls.Settings() if settings is None else settings)
            report = module.fit(data, seed)
        for name, value in module.state_dict().items():
            if not bool(torch.isfinite(value.double()).all()):
                raise ModelError(f"module {cls.name!r}: {name} is not finite after the fit; lower its learning rate")
        module.requires_grad_(False)
        module.train(False)
        return module, report

    @property
    def parameters_by_name(self) -> dict[str, Any]:
        """The hyper-parameters by name."""
        return dataclasses.asdict(self.settings)


modules: Registry[type[ExitModule]] = Registry("post-hoc module", "robustexit.modules")


def make_settings(name: str, **settings: Any) -> Any:
    """Return the checked hyper-parameters of a module.

    Raises:
        ConfigError: Unknown module or hyper-parameter.
    """
    return build(modules.get(name).Settings, f"post-hoc module {name!r}", settings)


def make_module(name: str, shape: ModuleShape, **settings: Any) -> ExitModule:
    """Build a module that is not fitted yet.

    Args:
        name: A registered name.
        shape: The model's shape.
        **settings: Hyper-parameters.

    Raises:
        ConfigError: Unknown module or hyper-parameter.
    """
    return modules.get(name)(shape, make_settings(name, **settings))


def _lot(values: torch.Tensor, at: slice) -> torch.Tensor:
    """Return the rows of a lot, filled up with zeros; always a copy, so that every lot lies alike in memory."""
    part = values[at]
    lot = values.new_empty(READ_ROWS, *values.shape[1:])
    lot[: len(part)] = part
    lot[len(part) :] = 0
    return lot


def _joined(lots: list[torch.Tensor], rows: int) -> torch.Tensor:
    return (lots[0] if len(lots) == 1 else torch.cat(lots))[:rows]


@dataclass(frozen=True)
class StoredReading:
    """A module's reading of stored outputs.

    Attributes:
        logits: What stands in for the heads' logits, shape [N, K, C].
        scalars: Named per-exit values, each of shape [N, K].
    """

    logits: NDArray[np.float32]
    scalars: Mapping[str, NDArray[np.float32]]


def read_stored(module: ExitModule, pooled: NDArray[np.float32], logits: NDArray[np.float32]) -> StoredReading:
    """Read stored outputs of a model, with the very numbers that a forward would give.

    Args:
        module: A fitted module.
        pooled: Shape [N, K, D].
        logits: Shape [N, K, C].

    Raises:
        ModelError: Shapes that are not the module's.
    """
    given = ModuleShape(logits.shape[1], logits.shape[2], pooled.shape[2])
    if given != module.shape:
        raise ModelError(f"module {module.name!r} was fitted for {module.shape}, got {given}")
    out = np.empty_like(logits)
    scalars: dict[str, NDArray[np.float32]] = {}
    for start in range(0, len(logits), READ_ROWS):
        rows = slice(start, min(start + READ_ROWS, len(logits)))
        states, values = own_copy(pooled[rows]), own_copy(logits[rows])
        memory = module.start(len(values))
        for index in range(module.shape.num_exits):
            memory, better, named = module.read_exit(memory, index + 1, states[:, index], values[:, index])
            out[rows, index] = better.numpy()
            for name, value in named.items():
                scalars.setdefault(name, np.empty(logits.shape[:2], dtype=np.float32))[rows, index] = value.numpy()
    return StoredReading(out, scalars)
