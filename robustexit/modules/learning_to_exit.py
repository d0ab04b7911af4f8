"""Learning-to-exit: one linear layer, shared by all exits, that says how uncertain each exit is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings
from robustexit.modules.fitting import as_tensors, minimise


@modules.register("learning-to-exit")
class LearningToExit(ExitModule):
    """u_i = sigmoid(w . h_i + b) with one (w, b) for all exits, fitted by mean squared error to 1[y_i wrong].

    BERxiT (Xin et al. 2021, aclanthology 2021.eacl-main.8). There it learns along with the heads; here on the frozen
    exits, from the same target. The scalar ``uncertainty`` is u_i.
    """

    name: ClassVar[str] = "learning-to-exit"
    source: ClassVar[str] = "BERxiT, Xin et al. 2021, EACL"
    Settings = FitSettings

    def __init__(self, shape: ModuleShape, settings: FitSettings) -> None:
        super().__init__(shape, settings)
        self.gate = nn.Linear(shape.width, 1)

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the head's own logits and the uncertainty."""
        return Reading(state, logits, {"uncertainty": torch.sigmoid(self.gate(pooled)).squeeze(-1)})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit to 1[y_i wrong] over all exits of all texts."""
        pooled, logits, labels = as_tensors(data)
        wrong = (logits.argmax(-1) != labels[:, None]).float()

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return functional.mse_loss(torch.sigmoid(self.gate(pooled[rows])).squeeze(-1), wrong[rows])

        settings: FitSettings = self.settings
        mse = minimise(
            self.parameters(),
            loss,
            rows=len(labels),
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
            seed=seed,
        )
        return {"mse": mse, "wrong_share": float(wrong.mean())}
