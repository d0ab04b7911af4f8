"""JEI-DNN: gates that read an exit's uncertainty, learned in turn with the heads they choose between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.exits.rules.confidence import entropy
from robustexit.models.heads.row_linear import RowLinear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings, require_positive
from robustexit.modules.fitting import as_tensors, minimise
from robustexit.modules.leaving import cross_entropies
from robustexit.parameters import require_between, require_count

FEATURES = 4


@dataclass(frozen=True)
class JEIGatesSettings(FitSettings):
    """How gates and heads are fitted in turn.

    Attributes:
        epochs: Passes in each turn of the gates or the heads.
        learning_rate: Peak rate of the gates.
        head_learning_rate: Peak rate of the heads.
        rounds: Turns of the heads, each after one of the gates; the gates have the last turn.
        ce_ic_tradeoff: lambda, the price of full inference in units of cross-entropy.
        max_pos_weight: Largest weight of target 1 at a gate.
        train_heads: Whether the heads before K learn with the gates, as in the paper.
    """

    where: ClassVar[str] = "post-hoc module 'jei-gates'"

    epochs: int = 3
    head_learning_rate: float = 1e-3
    rounds: int = 4
    ce_ic_tradeoff: float = 0.1
    max_pos_weight: float = 5.0
    train_heads: bool = True

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        require_positive(self.where, "head_learning_rate", self.head_learning_rate)
        require_positive(self.where, "max_pos_weight", self.max_pos_weight)
        require_count(self.where, "rounds", self.rounds)
        require_between(self.where, "ce_ic_tradeoff", self.ce_ic_tradeoff, 0, float("inf"))


@modules.register("jei-gates")
class JEIGates(ExitModule):
    """g_i = sigmoid(w_i . [max p, H(p), margin, H(p^2 normalised)] + b_i) before exit K; the scalar ``gate`` is g_i.

    JEI-DNN (Regol, Chataoui and Coates 2024, arXiv 2310.09163; code: networkslab/dynn). Gates and heads learn in turn:
    the gates by cross-entropy to 1[i >= i*], i* = argmin_i CE_i + lambda c_i over all exits, target 1 weighted at each
    gate by how rarely it is the best; the heads before K by sum_i P(leave at i) CE_i, the gates held still. A head
    here is the frozen head plus a linear correction of the pooled state that starts at zero, so that the module's
    logits stand in for the model's at exits before K; with ``train_heads`` off the gates alone learn. What differs:
    AdamW for their SGD; weights are counted on the data of the fit, not a validation set; P is held fixed in the heads'
    turn (in their code a factor that restores the unweighted sum is differentiated too, which cancels the weights).
    """

    name: ClassVar[str] = "jei-gates"
    source: ClassVar[str] = "JEI-DNN, Regol et al. 2024, arXiv 2310.09163"
    Settings = JEIGatesSettings

    def __init__(self, shape: ModuleShape, settings: JEIGatesSettings) -> None:
        super().__init__(shape, settings)
        early = shape.num_exits - 1
        self.gates = nn.ModuleList(RowLinear(FEATURES, 1) for _ in range(early))
        heads = [RowLinear(shape.width, shape.num_classes) for _ in range(early if settings.train_heads else 0)]
        for head in heads:
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.heads = nn.ModuleList(heads)

    def corrected(self, index: int, pooled: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the logits of the early exit `index` (0-based), shape [rows, C]."""
        return logits + self.heads[index](pooled) if len(self.heads) else logits

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the corrected logits and the gate; at exit K the head's own logits and 1."""
        if exit == self.shape.num_exits:
            return Reading(state, logits, {"gate": torch.ones(len(logits))})
        better = self.corrected(exit - 1, pooled, logits)
        return Reading(state, better, {"gate": torch.sigmoid(self.gates[exit - 1](features(better))).squeeze(-1)})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit gates and heads in turn."""
        if not len(self.gates):
            return {}
        settings: JEIGatesSettings = self.settings
        pooled, logits, labels = as_tensors(data)
        costs = torch.as_tensor(data.costs, dtype=torch.float32)
        report: dict[str, float] = {}
        for turn in range(settings.rounds if len(self.heads) else 0):
            self._fit_gates(pooled, logits, labels, costs, seed + 2 * turn)
            report["head_loss"] = self._fit_heads(pooled, logits, labels, seed + 2 * turn + 1)
        report["gate_loss"] = self._fit_gates(pooled, logits, labels, costs, seed + 2 * settings.rounds)
        return report

    def _better(self, pooled: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            early = [self.corrected(i, pooled[:, i], logits[:, i]) for i in range(len(self.gates))]
            return torch.stack([*early, logits[:, -1]], dim=1)

    def _scores(self, seen: torch.Tensor) -> torch.Tensor:
        return torch.stack([gate(seen[:, i]).squeeze(-1) for i, gate in enumerate(self.gates)], dim=1)

    def _fit_gates(
        self, pooled: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, costs: torch.Tensor, seed: int
    ) -> float:
        better = self._better(pooled, logits)
        best = (cross_entropies(better, labels) + self.settings.ce_ic_tradeoff * costs).argmin(dim=1)
        targets = (torch.arange(len(self.gates)) >= best[:, None]).float()
        weights = positive_weights(best, len(self.gates), self.settings.max_pos_weight)
        seen = features(better[:, :-1])

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return functional.binary_cross_entropy_with_logits(
                self._scores(seen[rows]), targets[rows], pos_weight=weights
            )

        return self._minimise(self.gates, loss, len(labels), self.settings.learning_rate, seed)

    def _fit_heads(self, pooled: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor, seed: int) -> float:
        with torch.no_grad():
            gates = torch.sigmoid(self._scores(features(self._better(pooled, logits)[:, :-1])))
            leaving = exit_probabilities(gates)[:, :-1]

        def loss(rows: torch.Tensor) -> torch.Tensor:
            better = [self.corrected(i, pooled[rows, i], logits[rows, i]) for i in range(len(self.heads))]
            losses = cross_entropies(torch.stack(better, dim=1), labels[rows])
            return (leaving[rows] * losses).sum(dim=1).mean()

        return self._minimise(self.heads, loss, len(labels), self.settings.head_learning_rate, seed)

    def _minimise(
        self, part: nn.ModuleList, loss: Callable[[torch.Tensor], torch.Tensor], rows: int, rate: float, seed: int
    ) -> float:
        return minimise(part.parameters(), loss, self.settings, rows=rows, learning_rate=rate, seed=seed)


def features(logits: torch.Tensor) -> torch.Tensor:
    """Return what a gate reads: max p, H(p), margin, H(p^2 normalised), in nats; shape [..., C] -> [..., 4]."""
    first, second = torch.softmax(logits, dim=-1).topk(2, dim=-1).values.unbind(-1)
    # p^2 normalised is the softmax of twice the logits.
    return torch.stack([first, entropy(logits), first - second, entropy(2 * logits)], dim=-1)


def positive_weights(best: torch.Tensor, early: int, most: float) -> torch.Tensor:
    """Return every gate's weight of target 1: texts that are best at another exit over those best at the gate's.

    Args:
        best: i* of every text, 0-based, shape [N].
        early: K - 1.
        most: Largest weight; that of a gate which is nobody's best.

    Returns:
        Shape [K - 1]; 1 for a gate that is everybody's best (which would weigh 0 and learn nothing).
    """
    counts = torch.bincount(best, minlength=early)[:early].float()
    weights = ((len(best) - counts) / counts).clamp(max=most)
    return torch.where(counts == len(best), 1.0, weights)


def exit_probabilities(gates: torch.Tensor) -> torch.Tensor:
    """Return P(leave at i) = max(0, min(g_i, 1 - sum_{j<i} g_j)), exit K taking the rest; [N, K - 1] -> [N, K]."""
    taken = torch.cat([torch.zeros(len(gates), 1), gates.cumsum(dim=1)], dim=1)
    left = (1 - taken).clamp(min=0)
    return torch.cat([torch.minimum(gates, left[:, :-1]), left[:, -1:]], dim=1)
