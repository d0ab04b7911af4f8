"""ConsistentEE's policy network: whether to leave at an exit, learned from the reward of the whole way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import RowLinear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings
from robustexit.modules.fitting import as_tensors, minimise
from robustexit.modules.leaving import cross_entropies, first_exit_log_probabilities
from robustexit.parameters import require_between, require_count


@dataclass(frozen=True)
class ConsistentEESettings(FitSettings):
    """How the policy networks are built and rewarded.

    Attributes:
        hidden: Width of the hidden layer.
        alpha: Price of an exit of depth in the reward (the public code tries 0.01 to 0.1 on 12 layers).
        sample_k: Ways drawn for a text in a step, at least 2; their mean reward is the baseline.
    """

    where: ClassVar[str] = "post-hoc module 'consistent-ee'"

    hidden: int = 32
    alpha: float = 0.05
    sample_k: int = 8

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        require_count(self.where, "hidden", self.hidden)
        require_count(self.where, "sample_k", self.sample_k)
        require_between(self.where, "sample_k", self.sample_k, 2, float("inf"))
        require_between(self.where, "alpha", self.alpha, 0, float("inf"))


@modules.register("consistent-ee")
class ConsistentEE(ExitModule):
    """pi_i = sigmoid(W2 gelu(W1 h_i)), one network an exit before K; the scalar ``leave`` is pi_i, and 1 at exit K.

    ConsistentEE (Zeng et al. 2024, arXiv 2312.11882; code: ZeroNLP/ConsistentEE). REINFORCE with the reward
    -CE_L - alpha L (1 - m/K) for leaving at exit L, where m, the memorised layer, is the first exit from which the
    answer stays right (K where exit K is wrong): the easier a text, the dearer its depth. The paper alternates with
    training the heads, each text at the exit it leaves at; here the exits are frozen and the policy alone learns, the
    second of the authors' three phases. Ways are drawn from pi itself, where their code draws epsilon-greedily around
    pi > .5 and yet weighs them like draws from pi.
    """

    name: ClassVar[str] = "consistent-ee"
    source: ClassVar[str] = "ConsistentEE, Zeng et al. 2024, arXiv 2312.11882"
    Settings = ConsistentEESettings

    def __init__(self, shape: ModuleShape, settings: ConsistentEESettings) -> None:
        super().__init__(shape, settings)
        self.policies = nn.ModuleList(
            nn.Sequential(RowLinear(shape.width, settings.hidden), nn.GELU(), RowLinear(settings.hidden, 1))
            for _ in range(shape.num_exits - 1)
        )

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the head's own logits and the probability of leaving."""
        if exit == self.shape.num_exits:
            leave = torch.ones(len(pooled))
        else:
            leave = torch.sigmoid(self.policies[exit - 1](pooled)).squeeze(-1)
        return Reading(state, logits, {"leave": leave})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit the policy networks by REINFORCE on the frozen exits' cross-entropies."""
        if not len(self.policies):
            return {}
        pooled, logits, labels = as_tensors(data)
        settings: ConsistentEESettings = self.settings
        gained = rewards(logits, labels, settings.alpha)
        generator = torch.Generator().manual_seed(seed)

        def log_probabilities(rows: torch.Tensor) -> torch.Tensor:
            scores = [policy(pooled[rows, i]).squeeze(-1) for i, policy in enumerate(self.policies)]
            return first_exit_log_probabilities(torch.stack(scores, dim=1))

        def loss(rows: torch.Tensor) -> torch.Tensor:
            log_p = log_probabilities(rows)
            # Drawing where a way ends is drawing its decisions one after the other: log P_L sums their logarithms.
            ends = drawn_exits(log_p.detach(), settings.sample_k, generator)
            reward = gained[rows].gather(1, ends)
            return -((reward - reward.mean(dim=1, keepdim=True)) * log_p.gather(1, ends)).mean()

        minimise(self.parameters(), loss, settings, rows=len(labels), seed=seed)
        with torch.no_grad():
            expected = torch.cat(
                [
                    (log_probabilities(rows).exp() * gained[rows]).sum(dim=1)
                    for rows in torch.split(torch.arange(len(labels)), settings.batch_size)
                ]
            )
        return {
            "reward": float(expected.mean()),
            "memorised_layer": float(memorised_layers(logits, labels).double().mean()),
        }


def drawn_exits(log_p: torch.Tensor, sample_k: int, generator: torch.Generator) -> torch.Tensor:
    """Draw exits (0-based) for every text, shape [rows, sample_k], from their log-probabilities [rows, K]."""
    ended = log_p.exp().cumsum(dim=1)[:, None, :-1]
    return (torch.rand(len(log_p), sample_k, 1, generator=generator) >= ended).sum(dim=-1)


def memorised_layers(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return the first exit (1-based) from which all are right, K where exit K is wrong.

    Args:
        logits: Shape [N, K, C].
        labels: Shape [N].
    """
    right = logits.argmax(-1) == labels[:, None]
    stays_right = right.flip(1).long().cumprod(dim=1).sum(dim=1)
    return (logits.shape[1] + 1 - stays_right).clamp(max=logits.shape[1])


def rewards(logits: torch.Tensor, labels: torch.Tensor, alpha: float) -> torch.Tensor:
    """Return -CE_L - alpha L (1 - m/K) for leaving at every exit L, shape [N, K].

    Args:
        logits: Shape [N, K, C].
        labels: Shape [N].
        alpha: Price of an exit of depth.
    """
    num_exits = logits.shape[1]
    easiness = 1 - memorised_layers(logits, labels).to(logits.dtype) / num_exits
    depth = torch.arange(1, num_exits + 1, dtype=logits.dtype)
    return -cross_entropies(logits, labels) - alpha * depth * easiness[:, None]
