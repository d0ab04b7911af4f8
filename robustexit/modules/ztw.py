"""Zero Time Waste: heads that read the exit before them, and a learned ensemble of all exits so far."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import RowLinear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings, require_positive
from robustexit.modules.fitting import as_tensors, minimise
from robustexit.parameters import require_between, require_one_of


@dataclass(frozen=True)
class ZeroTimeWasteSettings(FitSettings):
    """What stands at the exits and how it is fitted (defaults: the authors' for BERT).

    Attributes:
        cascade: New heads that also read the head before them; False keeps the model's own heads and only ensembles
            them (the paper's ablation).
        last: Exit K: ``own`` leaves it the model's logits (the authors' released code: no ensemble on the backbone's
            own classifier), ``ensemble`` treats it like the others (their first BERT code).
        epochs: Passes over the data, for the heads and again for the ensembles.
        batch_size: Texts a step.
        learning_rate: Peak rate of the heads.
        weight_decay: Of the heads (decoupled; the authors' is an L2 term of Adam).
        ensemble_learning_rate: Peak rate of the ensembles' weights and biases, which do not decay.
    """

    where: ClassVar[str] = "post-hoc module 'ztw'"

    cascade: bool = True
    last: str = "own"
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 0.01
    weight_decay: float = 1e-4
    ensemble_learning_rate: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        require_one_of(self.where, "last", self.last, ("own", "ensemble"))
        require_between(self.where, "weight_decay", self.weight_decay, 0, math.inf)
        require_positive(self.where, "ensemble_learning_rate", self.ensemble_learning_rate)


class CascadeHead(nn.Module):
    """A linear head on [h_i ; LayerNorm(log p_{i-1})], whose gradient stops at the head before.

    The authors normalise the logits of the head before; LayerNorm does not see that log p is those logits shifted.

    Args:
        width: D.
        classes: C.
        first: The head of exit 1, which has none before it.
    """

    def __init__(self, width: int, classes: int, first: bool) -> None:
        super().__init__()
        self.norm = None if first else nn.LayerNorm(classes)
        self.linear = RowLinear(width if first else width + classes, classes)

    def forward(self, pooled: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        """Return logits [rows, C] from pooled states [rows, D] and the log probabilities [rows, C] before."""
        if self.norm is None or before is None:
            return self.linear(pooled)  # type: ignore[no-any-return]
        return self.linear(torch.cat([pooled, self.norm(before)], dim=-1))  # type: ignore[no-any-return]


@modules.register("ztw")
class ZeroTimeWaste(ExitModule):
    """q_i proportional to exp(mean_{m<=i} e^{w_im} log p_m + b_i), p_m from cascade heads.

    Zero Time Waste (Wolczyk et al. 2021, NeurIPS, arXiv 2106.05409; formula and training as in their code). First the
    cascade heads learn by cross-entropy on the frozen states, then every exit's w_i and b_i by the negative
    log-likelihood of q_i on the frozen heads. The returned logits are log q_i.
    """

    name: ClassVar[str] = "ztw"
    source: ClassVar[str] = "Zero Time Waste, Wolczyk et al. 2021, NeurIPS, arXiv 2106.05409"
    Settings = ZeroTimeWasteSettings

    def __init__(self, shape: ModuleShape, settings: ZeroTimeWasteSettings) -> None:
        super().__init__(shape, settings)
        self.exits = shape.num_exits - (settings.last == "own")
        classes = shape.num_classes
        heads = [CascadeHead(shape.width, classes, first=index == 0) for index in range(self.exits)]
        self.heads = nn.ModuleList(heads if settings.cascade else [])
        self.weights = nn.ParameterList([0.01 * torch.randn(index + 1) for index in range(self.exits)])
        self.biases = nn.Parameter(torch.zeros(self.exits, classes))

    def start(self, rows: int) -> State:
        """No log probabilities yet."""
        return {"log_p": torch.zeros(rows, 0, self.shape.num_classes)}

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return log q_i; nothing else is told to the policy."""
        if exit > self.exits:
            return Reading(state, logits, {})
        before = state["log_p"]
        log_p = self._log_p(exit - 1, pooled, logits, before[:, -1] if exit > 1 else None)
        so_far = torch.cat([before, log_p[:, None]], dim=1)
        return Reading({"log_p": so_far}, torch.log_softmax(self._ensemble(exit - 1, so_far), dim=-1), {})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit the cascade heads, then the ensembles on the frozen heads."""
        if self.exits == 0:
            return {}
        report = {"cascade_loss": self._fit_heads(data, seed)} if self.settings.cascade else {}
        return {**report, "ensemble_loss": self._fit_ensembles(data, seed)}

    def _log_p(self, index: int, pooled: torch.Tensor, own: torch.Tensor, before: torch.Tensor | None) -> torch.Tensor:
        logits = self.heads[index](pooled, before) if self.settings.cascade else own
        return torch.log_softmax(logits, dim=-1)

    def _ensemble(self, index: int, log_p: torch.Tensor) -> torch.Tensor:
        # Not a matrix product: sums over the exits keep rows apart for any number of rows.
        weighted: torch.Tensor = log_p * self.weights[index].exp()[:, None]
        return weighted.mean(dim=1) + self.biases[index]

    def _heads_log_p(self, pooled: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        found: list[torch.Tensor] = []
        for index in range(self.exits):
            # Each head learns for itself; only here, for an attacker's gradient goes all the way down.
            before = found[-1].detach() if found else None
            found.append(self._log_p(index, pooled[:, index], own[:, index], before))
        return torch.stack(found, dim=1)

    def _fit_heads(self, data: FitData, seed: int) -> float:
        pooled, own, labels = as_tensors(data)
        settings: ZeroTimeWasteSettings = self.settings

        def loss(rows: torch.Tensor) -> torch.Tensor:
            log_p = self._heads_log_p(pooled[rows], own[rows])
            return functional.nll_loss(log_p.flatten(0, 1), labels[rows].repeat_interleave(self.exits))

        return minimise(
            self.heads.parameters(), loss, settings, rows=len(labels), seed=seed, weight_decay=settings.weight_decay
        )

    def _fit_ensembles(self, data: FitData, seed: int) -> float:
        pooled, own, labels = as_tensors(data)
        settings: ZeroTimeWasteSettings = self.settings
        with torch.no_grad():
            log_p = self._heads_log_p(pooled, own)

        def loss(rows: torch.Tensor) -> torch.Tensor:
            scores = [self._ensemble(index, log_p[rows, : index + 1]) for index in range(self.exits)]
            return torch.stack([functional.cross_entropy(score, labels[rows]) for score in scores]).mean()

        return minimise(
            [*self.weights, self.biases],
            loss,
            settings,
            rows=len(labels),
            learning_rate=settings.ensemble_learning_rate,
            seed=seed,
        )
