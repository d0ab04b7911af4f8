"""LeeBERT's mutual distillation with learned weights of the loss terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from robustexit.training.losses import exit_cross_entropies
from robustexit.training.objectives import Objective, SecondStream, Setting, Step
from robustexit.training.regimes.base import Regime, Stage, check_number, every_head, regimes

DIFFERENCE = 0.01
"""Length of the two probing steps, in weight space (Liu et al. 2019, DARTS)."""


def mutual_terms(
    logits: torch.Tensor, labels: torch.Tensor, temperature: float, teacher: torch.Tensor | None = None
) -> torch.Tensor:
    """Return CE_1..CE_K, then T^2 KL(p_n, p_m) of every ordered pair of exits m != n (student m, then teacher n).

    Args:
        logits: Shape [B, K, C].
        labels: Shape [B].
        temperature: T of the divergences.
        teacher: Logits of the exits as teachers, same shape, without gradient; None for `logits`.

    Returns:
        Shape [K * K], in nats.
    """
    num_exits = logits.shape[1]
    log_p = functional.log_softmax(logits / temperature, dim=-1)
    log_q = functional.log_softmax((logits if teacher is None else teacher).detach() / temperature, dim=-1)
    negative_entropy = (log_q.exp() * log_q).sum(-1).mean(0)
    cross = torch.einsum("bnc,bmc->mn", log_q.exp(), log_p) / len(logits)
    pairs = temperature**2 * (negative_entropy.unsqueeze(0) - cross)
    others = ~torch.eye(num_exits, dtype=torch.bool, device=logits.device)
    return torch.cat([exit_cross_entropies(logits, labels), pairs[others]])


def term_names(num_exits: int) -> list[str]:
    """Return the names of `mutual_terms`, e.g. ``CE_1`` and ``KL_2_to_1`` (exit 1 learns from exit 2)."""
    exits = range(1, num_exits + 1)
    return [f"CE_{m}" for m in exits] + [f"KL_{n}_to_{m}" for m in exits for n in exits if n != m]


class _InFullPrecision(nn.Module):
    """A model's logits without autocast, in which the probing steps would be lost to rounding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        # The class's own forward: Accelerate wraps the instance's in autocast.
        logits: torch.Tensor = type(self.model).forward(self.model, **inputs).logits
        return logits


class MutualDistillation(Objective):
    """sum_t w_t L_t over the terms of `mutual_terms`; w = number of terms * softmax(a), a learned on a second split.

    a follows the gradient of the second split's sum_i CE_i after one gradient step on the training batch. By the
    chain rule that is -rate * <its gradient, the gradient of L_t>; the products of all terms together come from two
    forward passes, a small step along and against the second split's gradient (as in DARTS).

    Args:
        share: Share of the training texts in the second split.
        temperature: T of the divergences.
        weight_learning_rate: Adam's rate for a.
        every: Steps between two updates of a.
    """

    second = SecondStream.SHARE

    def __init__(self, share: float, temperature: float, weight_learning_rate: float, every: int) -> None:
        super().__init__()
        self.share = share
        self.temperature = temperature
        self.weight_learning_rate = weight_learning_rate
        self.every = every

    def start(self, setting: Setting) -> None:
        """Begin with equal weights."""
        self.scores = nn.Parameter(torch.zeros(setting.model.num_exits**2, device=setting.model.device))
        self.optimizers = {"scores": torch.optim.Adam([self.scores], lr=self.weight_learning_rate)}

    def weights(self) -> torch.Tensor:
        """Return w; its mean is 1."""
        return len(self.scores) * functional.softmax(self.scores, dim=0)

    def loss(self, step: Step) -> torch.Tensor:
        """Return the weighted sum of the terms."""
        return (self.weights().detach() * mutual_terms(step.logits, step.labels, self.temperature)).sum()

    def gradients(self, step: Step) -> torch.Tensor:
        """Update the weights of the terms, then compute the model's gradients."""
        if step.number % self.every == 0:
            self._learn_weights(step)
        return super().gradients(step)

    def _learn_weights(self, step: Step) -> None:
        # Without dropout: the two probing passes must differ in the weights alone.
        modes = {module: module.training for module in step.model.modules()}
        step.model.eval()  # type: ignore[no-untyped-call]
        helps = self._alignment(step)
        for module, mode in modes.items():
            module.training = mode
        self.optimizers["scores"].zero_grad()
        (-(self.weights() * helps).sum()).backward()  # type: ignore[no-untyped-call]
        self.optimizers["scores"].step()

    def _alignment(self, step: Step) -> torch.Tensor:
        """Return <gradient of the second split's sum_i CE_i, gradient of L_t> of every term t, up to a factor > 0."""
        assert step.second is not None
        named = {name: weight for name, weight in step.model.named_parameters() if weight.requires_grad}
        logits, _ = step.run(step.second.inputs)
        outer = exit_cross_entropies(logits, step.second.labels).sum()
        found = torch.autograd.grad(outer, list(named.values()), allow_unused=True)
        direction = {name: grad for name, grad in zip(named, found, strict=True) if grad is not None}
        length = torch.stack([grad.norm() for grad in direction.values()]).norm()
        size = DIFFERENCE / length.clamp_min(torch.finfo(length.dtype).tiny)
        with torch.no_grad():
            ahead = self._terms_at(step, {name: named[name] + size * grad for name, grad in direction.items()})
            behind = self._terms_at(step, {name: named[name] - size * grad for name, grad in direction.items()})
        return (ahead - behind) / (2 * DIFFERENCE)

    def _terms_at(self, step: Step, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        inside = {f"model.{name}": weight for name, weight in weights.items()}
        logits = functional_call(_InFullPrecision(step.model), inside, (dict(step.batch.inputs),))
        # Teachers stay where they are, as in the gradient of the terms.
        return mutual_terms(logits, step.labels, self.temperature, step.logits)

    def facts(self) -> dict[str, Any]:
        """Return the weight of every term."""
        num_exits = round(len(self.scores) ** 0.5)
        return {"term_weights": dict(zip(term_names(num_exits), self.weights().tolist(), strict=True))}


@regimes.register("mutual-distillation")
def mutual_distillation(
    share: float = 0.2, temperature: float = 1.0, weight_learning_rate: float = 0.01, every: int = 1
) -> Regime:
    """Train all exits on labels and on each other; the weights of the terms are learned on a second split.

    LeeBERT (Zhu 2021, ACL, "LeeBERT: Learned Early Exit for BERT with cross-level optimization"). No code is
    public: the two-level problem is the paper's, the update of the weights here is a one-step look-ahead (DARTS,
    Liu et al. 2019, arXiv 1806.09055) in place of its cross-level rule.

    Args:
        share: Share of the training texts in the second split, which trains the weights of the terms alone.
        temperature: T of the divergences.
        weight_learning_rate: Adam's rate for the scores behind the weights.
        every: Steps between two updates of the weights.
    """
    name = "mutual-distillation"
    check_number(name, "share", share, 0, 0.9, above=True)
    check_number(name, "temperature", temperature, 0, above=True)
    check_number(name, "weight_learning_rate", weight_learning_rate, 0, above=True)
    check_number(name, "every", every, 1, whole=True)
    objective = MutualDistillation(share, temperature, weight_learning_rate, every)
    return Regime(name, "LeeBERT (Zhu 2021)", (Stage(name, True, every_head, objective),), min_exits=2)
