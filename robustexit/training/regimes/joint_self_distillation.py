"""RomeBERT's self-distillation with gradient regularisation."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.losses import exit_cross_entropies, inner_divergences
from robustexit.training.objectives import Objective, Step
from robustexit.training.regimes.base import Regime, Stage, check_choice, check_number, every_head, regimes

Gradients = list[torch.Tensor | None]


def without_conflict(moved: torch.Tensor, anchor: torch.Tensor) -> torch.Tensor:
    """Return `moved` less its projection on `anchor` where the two point apart, `moved` elsewhere.

    Args:
        moved: A gradient, one vector.
        anchor: Another of the same length.
    """
    overlap = torch.minimum(moved @ anchor, moved.new_zeros(()))
    return moved - overlap / (anchor @ anchor).clamp_min(torch.finfo(anchor.dtype).tiny) * anchor


def regularised(model: MultiExitForSequenceClassification) -> dict[str, nn.Parameter]:
    """Return the weights whose gradients are projected: the encoder's matrices, without embeddings and norms."""
    return {
        name: weight
        for name, weight in model.encoder.named_parameters()
        if weight.requires_grad and weight.ndim > 1 and not name.startswith("embeddings")
    }


class JointSelfDistillation(Objective):
    """CE_K + sum_{i<K} [(1 - gamma) CE_i + gamma T^2 KL(p_K, p_i)], conflicting gradients projected.

    Args:
        gamma: Share of the divergences in the inner exits' loss.
        temperature: T of the divergences.
        anchor: Whose gradient stays as it is: ``"final"`` (CE_K) or ``"inner"`` (the inner exits' loss).
    """

    def __init__(self, gamma: float, temperature: float, anchor: str) -> None:
        super().__init__()
        self.gamma = gamma
        self.temperature = temperature
        self.anchor = anchor

    def parts(self, step: Step) -> tuple[torch.Tensor, torch.Tensor]:
        """Return CE_K and the inner exits' loss."""
        hard = exit_cross_entropies(step.logits, step.labels)
        soft = inner_divergences(step.logits, self.temperature)
        return hard[-1], ((1 - self.gamma) * hard[:-1] + self.gamma * soft).sum()

    def loss(self, step: Step) -> torch.Tensor:
        """Return the sum of both parts."""
        return torch.stack(self.parts(step)).sum()

    def gradients(self, step: Step) -> torch.Tensor:
        """Compute both parts' gradients, project one of them on the shared weights, and add them up."""
        final, inner = self.parts(step)
        named = {name: weight for name, weight in step.model.named_parameters() if weight.requires_grad}
        weights = list(named.values())
        of_final: Gradients = list(torch.autograd.grad(final, weights, retain_graph=True, allow_unused=True))
        of_inner: Gradients = list(torch.autograd.grad(inner, weights, allow_unused=True))
        chosen = {id(weight) for weight in regularised(step.model).values()}
        shared = [
            place
            for place, weight in enumerate(weights)
            if id(weight) in chosen and _reached(of_final[place]) and _reached(of_inner[place])
        ]
        if self.anchor == "final":
            self._project(of_inner, of_final, shared)
        else:
            self._project(of_final, of_inner, shared)
        for weight, first, second in zip(weights, of_final, of_inner, strict=True):
            weight.grad = first if second is None else second if first is None else first + second
        return (final + inner).detach()

    @staticmethod
    def _project(moved: Gradients, anchor: Gradients, shared: Iterable[int]) -> None:
        places = list(shared)
        if not places:
            return
        flat = [torch.cat([_present(side[place]).flatten() for place in places]) for side in (moved, anchor)]
        sizes = [_present(moved[place]).numel() for place in places]
        for place, part in zip(places, torch.split(without_conflict(*flat), sizes), strict=True):
            moved[place] = part.view_as(_present(moved[place]))


def _reached(gradient: torch.Tensor | None) -> bool:
    # The exits' logits are stacked, so that weights above the inner exits get zeros from their loss, not None.
    return gradient is not None and bool(gradient.any())


def _present(gradient: torch.Tensor | None) -> torch.Tensor:
    assert gradient is not None
    return gradient


@regimes.register("joint-self-distillation")
def joint_self_distillation(gamma: float = 0.9, temperature: float = 3.0, anchor: str = "final") -> Regime:
    """Train all exits at once, inner ones from labels and exit K; where the two pull apart, one gradient is projected.

    RomeBERT (Geng et al. 2021, arXiv 2101.09755). As in the authors' code, one angle is taken over all shared
    encoder matrices (no embeddings, biases or norms). Its divergence averages over classes too (a PyTorch default);
    here it is the KL divergence of the paper.

    Args:
        gamma: Share of the divergences in the inner exits' loss.
        temperature: T of the divergences.
        anchor: Whose gradient stays as it is: ``"final"`` (CE_K, the authors' choice for large datasets) or
            ``"inner"`` (theirs for small ones).
    """
    name = "joint-self-distillation"
    check_number(name, "gamma", gamma, 0, 1)
    check_number(name, "temperature", temperature, 0, above=True)
    check_choice(name, "anchor", anchor, ("final", "inner"))
    objective = JointSelfDistillation(gamma, temperature, anchor)
    return Regime(name, "RomeBERT (Geng et al. 2021)", (Stage(name, True, every_head, objective),), min_exits=2)
