"""Learning-to-exit: one linear layer, shared by all exits, that says how uncertain each exit is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import Self

from robustexit.errors import ConfigError, ModelError
from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import RowLinear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings
from robustexit.modules.fitting import as_tensors, minimise


@dataclass(frozen=True)
class LearningToExitSettings(FitSettings):
    """How the layer is fitted.

    Attributes:
        pooler: The layer reads each exit's pooler; only for modules that were imported with their poolers.
    """

    where: ClassVar[str] = "post-hoc module 'learning-to-exit'"

    pooler: bool = False


def _our_name(original: str, num_exits: int) -> str:
    """Return our name of a tensor of BERxiT's checkpoints."""
    part = original.rpartition(".")[2]
    if "lte_classifier" in original:
        return f"gate.{part}"
    inner = re.search(r"highway\.(\d+)\.", original)
    return f"poolers.{inner[1] if inner else num_exits - 1}.{part}"


@modules.register("learning-to-exit")
class LearningToExit(ExitModule):
    """u_i = sigmoid(w . h_i + b) with one (w, b) for all exits, fitted by mean squared error to 1[y_i wrong].

    BERxiT (Xin et al. 2021, aclanthology 2021.eacl-main.8). There it learns along with the heads; here on the frozen
    exits, from the same target. In the authors' code the layer reads what each off-ramp's pooler returns,
    tanh(P_i h_i + b_i); the setting `pooler` puts such poolers before it, which only an imported checkpoint has. The
    scalar ``uncertainty`` is u_i.
    """

    name: ClassVar[str] = "learning-to-exit"
    source: ClassVar[str] = "BERxiT, Xin et al. 2021, EACL"
    Settings = LearningToExitSettings

    def __init__(self, shape: ModuleShape, settings: LearningToExitSettings) -> None:
        super().__init__(shape, settings)
        width = shape.width
        self.poolers = nn.ModuleList(RowLinear(width, width) for _ in range(shape.num_exits if settings.pooler else 0))
        self.gate = RowLinear(width, 1)

    @classmethod
    def from_original(cls, tensors: Mapping[str, torch.Tensor], shape: ModuleShape) -> Self:
        """Build the module from tensors of the authors' checkpoints.

        Args:
            tensors: ``...lte_classifier.*``, ``...highway.{i}.pooler.dense.*`` of the inner exits and
                ``...pooler.dense.*`` of the last, by their original names.
            shape: The model's shape.

        Raises:
            ModelError: A tensor is missing, or of another shape.
        """
        found = {_our_name(name, shape.num_exits): value.detach().float() for name, value in tensors.items()}
        module = cls(shape, LearningToExitSettings(pooler=True))
        try:
            module.load_state_dict(found)
        except RuntimeError as error:
            raise ModelError(f"learning-to-exit: the checkpoint does not fit {shape} ({error})") from error
        module.requires_grad_(False)
        module.train(False)
        return module

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the head's own logits and the uncertainty."""
        seen = torch.tanh(self.poolers[exit - 1](pooled)) if len(self.poolers) else pooled
        return Reading(state, logits, {"uncertainty": torch.sigmoid(self.gate(seen)).squeeze(-1)})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit to 1[y_i wrong] over all exits of all texts.

        Raises:
            ConfigError: The setting `pooler`, which only imported modules have.
        """
        if self.settings.pooler:
            raise ConfigError("learning-to-exit: pooler belongs to imported checkpoints; leave it out to fit the layer")
        pooled, logits, labels = as_tensors(data)
        wrong = (logits.argmax(-1) != labels[:, None]).float()

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return functional.mse_loss(torch.sigmoid(self.gate(pooled[rows])).squeeze(-1), wrong[rows])

        settings: LearningToExitSettings = self.settings
        mse = minimise(self.parameters(), loss, settings, rows=len(labels), seed=seed)
        return {"mse": mse, "wrong_share": float(wrong.mean())}
