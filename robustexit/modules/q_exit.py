"""PALBERT's lambda layer: the probability of stopping at an exit, given that none before it was taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import RowLinear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings
from robustexit.modules.fitting import as_tensors, minimise
from robustexit.modules.leaving import cross_entropies, first_exit_log_probabilities
from robustexit.parameters import require_between, require_count


@dataclass(frozen=True)
class QExitSettings(FitSettings):
    """How the lambda layer is built and fitted.

    Attributes:
        num_lambda_layers: Layers with tanh before the last one, each as wide as the input.
        beta: Weight of the divergence from the prior.
        lambda_p: Parameter of the geometric prior over exits.
    """

    where: ClassVar[str] = "post-hoc module 'q-exit'"

    epochs: int = 5
    learning_rate: float = 1e-3
    num_lambda_layers: int = 3
    beta: float = 0.5
    lambda_p: float = 0.1

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        require_count(self.where, "num_lambda_layers", self.num_lambda_layers)
        require_between(self.where, "beta", self.beta, 0, float("inf"))
        require_between(self.where, "lambda_p", self.lambda_p, 0, 1)


@modules.register("q-exit")
class QExit(ExitModule):
    """lam_i = sigmoid(MLP([h_i; h_{i-1}])), one MLP for all exits, h_0 = 0; the scalar ``lambda`` is lam_i.

    PALBERT (Balagansky and Gavrilov 2022, arXiv 2204.03276; code: tinkoff-ai/palbert). Fitted by
    sum_i P_i CE_i + beta KL(Geom(lambda_p) || P) with P_i = lam_i prod_{j<i} (1 - lam_j), the divergence in the
    direction of the authors' code. There heads and encoder learn too; here the exits are frozen and the CE_i are
    theirs. Exit K takes the probability that is left (lam_K = 1), which is what a model that must stop does; the
    authors' code lets lam_K be learned and masks P by an epsilon once the sum nears 1.
    """

    name: ClassVar[str] = "q-exit"
    source: ClassVar[str] = "PALBERT, Balagansky and Gavrilov 2022, arXiv 2204.03276"
    Settings = QExitSettings

    def __init__(self, shape: ModuleShape, settings: QExitSettings) -> None:
        super().__init__(shape, settings)
        self.exit_head: nn.Module | None = None
        if shape.num_exits > 1:
            width = 2 * shape.width
            hidden = [
                layer for _ in range(settings.num_lambda_layers) for layer in (RowLinear(width, width), nn.Tanh())
            ]
            self.exit_head = nn.Sequential(*hidden, RowLinear(width, 1))

    def start(self, rows: int) -> State:
        """The state before exit 1 is zero."""
        return {"previous": torch.zeros(rows, self.shape.width)}

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the head's own logits and lam_i."""
        if exit == self.shape.num_exits or self.exit_head is None:
            lam = torch.ones(len(pooled))
        else:
            lam = torch.sigmoid(self.exit_head(torch.cat([pooled, state["previous"]], dim=-1))).squeeze(-1)
        return Reading({"previous": pooled}, logits, {"lambda": lam})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit to the frozen heads' cross-entropies under the geometric prior."""
        if self.exit_head is None:
            return {}
        head = self.exit_head
        pooled, logits, labels = as_tensors(data)
        settings: QExitSettings = self.settings
        losses = cross_entropies(logits, labels)
        prior = geometric_prior(settings.lambda_p, self.shape.num_exits)

        def log_probabilities(rows: torch.Tensor) -> torch.Tensor:
            states = pooled[rows]
            early, before = states[:, :-1], torch.cat([torch.zeros_like(states[:, :1]), states[:, :-2]], dim=1)
            return first_exit_log_probabilities(head(torch.cat([early, before], dim=-1)).squeeze(-1))

        def loss(rows: torch.Tensor) -> torch.Tensor:
            log_p = log_probabilities(rows)
            task = (log_p.exp() * losses[rows]).sum(dim=1).mean()
            return task + settings.beta * functional.kl_div(log_p, prior.expand_as(log_p), reduction="batchmean")

        value = minimise(head.parameters(), loss, settings, rows=len(labels), seed=seed)
        return {"loss": value}


def geometric_prior(lambda_p: float, num_exits: int) -> torch.Tensor:
    """Return Geom(lambda_p) over exits 1 to K, the last of which takes the rest; shape [K]."""
    stay = (1 - lambda_p) ** torch.arange(num_exits, dtype=torch.float64)
    prior = lambda_p * stay
    prior[-1] = stay[-1]
    return prior.float()
