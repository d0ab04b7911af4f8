"""DAdEE: adversarial adaptation of every exit to another domain."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.losses import by_depth, depth_weighted_loss, exit_divergences
from robustexit.training.objectives import Objective, SecondStream, Setting, Step, frozen_copy
from robustexit.training.regimes.base import Regime, Stage, check_number, every_head, no_head, regimes

SOURCE, TARGET = 1.0, 0.0
"""What a discriminator shall say."""


def discriminator(width: int) -> nn.Sequential:
    """Return a network from a pooled state to the log-odds that it comes from the source domain."""
    inner = 4 * width
    return nn.Sequential(
        nn.Linear(width, inner), nn.LeakyReLU(), nn.Linear(inner, inner), nn.LeakyReLU(), nn.Linear(inner, 1)
    )


class DomainAdaptation(Objective):
    """alpha * adversarial loss on target texts + beta * distillation on source texts, each weighted by depth.

    First one discriminator an exit learns to tell source states (1) from target states (0). Then the encoder
    learns to make target states pass for source ones, and to answer source texts as the model did before.

    Args:
        alpha: Weight of the adversarial loss.
        beta: Weight of the distillation.
        temperature: T of the distillation.
        clip_value: Largest size of a discriminator's weight.
        discriminator_learning_rate: Adam's rate for the discriminators.
    """

    second = SecondStream.TARGET

    def __init__(
        self, alpha: float, beta: float, temperature: float, clip_value: float, discriminator_learning_rate: float
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.clip_value = clip_value
        self.discriminator_learning_rate = discriminator_learning_rate

    def start(self, setting: Setting) -> None:
        """Keep the source model; make the discriminators."""
        # In a tuple: it is the stage's first model again after a resume, so no checkpoint has to carry it.
        self.before = (frozen_copy(setting.model),)
        config = setting.model.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            made = nn.ModuleList(discriminator(config.hidden_size) for _ in range(setting.model.num_exits))
        self.discriminators = made.to(setting.model.device)
        rate = self.discriminator_learning_rate
        self.optimizers = {"discriminators": torch.optim.Adam(self.discriminators.parameters(), lr=rate)}

    def set_modes(self, model: MultiExitForSequenceClassification) -> None:
        """Keep dropout out of the heads, which stay as they are."""
        model.train()
        model.heads.eval()

    def judged(self, pooled: torch.Tensor, truth: float) -> torch.Tensor:
        """Return each exit's cross-entropy of the discriminator's answers, shape [K] (pooled [B, K, D])."""
        odds = torch.cat([judge(pooled[:, exit_]) for exit_, judge in enumerate(self.discriminators)], dim=1)
        losses = functional.binary_cross_entropy_with_logits(odds, torch.full_like(odds, truth), reduction="none")
        return losses.mean(0)

    def train_discriminators(self, source: torch.Tensor, target: torch.Tensor) -> None:
        """Take one step of the discriminators on states without gradients (both [B, K, D])."""
        rows = len(source) + len(target)
        losses = (len(source) * self.judged(source, SOURCE) + len(target) * self.judged(target, TARGET)) / rows
        optimizer = self.optimizers["discriminators"]
        optimizer.zero_grad()
        by_depth(losses).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            for weight in self.discriminators.parameters():
                weight.clamp_(-self.clip_value, self.clip_value)

    def loss(self, step: Step) -> torch.Tensor:
        """Train the discriminators; return the encoder's loss."""
        assert step.second is not None
        _, target = step.run(step.second.inputs)
        self.train_discriminators(step.pooled.detach(), target.detach())
        with torch.no_grad():
            taught, _ = step.run(step.batch.inputs, self.before[0])
        adversarial = by_depth(self.judged(target, SOURCE))
        distillation = by_depth(exit_divergences(step.logits, taught, self.temperature))
        return self.alpha * adversarial + self.beta * distillation


@regimes.register("domain-adapted")
def domain_adapted(
    alpha: float = 1.0,
    beta: float = 1.0,
    temperature: float = 20.0,
    clip_value: float = 0.01,
    discriminator_learning_rate: float = 1e-5,
    adaptation_learning_rate: float = 1e-5,
) -> Regime:
    """Train all exits on the source domain, then fit the encoder to unlabelled texts of a target domain.

    DAdEE (Bajpai & Hanawal 2024, "DAdEE: Unsupervised Domain Adaptation in Early Exit PLMs", EMNLP Findings; public
    code read). Stage 1: sum_i i CE_i / sum_i i. Stage 2: heads frozen; the depth weights are normalised to one in
    both losses (the code's running sum gives them another constant); one pass over the source texts is an epoch, with
    the target texts repeated or cut to match. The encoder adapts at a rate of its own, below that of stage 1, as in the
    code that DAdEE's builds on (bert-AAD of Ryu & Lee 2020, arXiv 2010.11478).

    Args:
        alpha: Weight of the adversarial loss.
        beta: Weight of the distillation from the source model.
        temperature: T of the distillation.
        clip_value: Largest size of a discriminator's weight.
        discriminator_learning_rate: Adam's rate for the discriminators.
        adaptation_learning_rate: Peak rate of the encoder in stage 2.
    """
    name = "domain-adapted"
    check_number(name, "alpha", alpha, 0)
    check_number(name, "beta", beta, 0)
    check_number(name, "temperature", temperature, 0, above=True)
    check_number(name, "clip_value", clip_value, 0, above=True)
    check_number(name, "discriminator_learning_rate", discriminator_learning_rate, 0, above=True)
    check_number(name, "adaptation_learning_rate", adaptation_learning_rate, 0, above=True)
    objective = DomainAdaptation(alpha, beta, temperature, clip_value, discriminator_learning_rate)
    stages = (
        Stage("source", True, every_head, depth_weighted_loss),
        Stage("adaptation", True, no_head, objective, adaptation_learning_rate),
    )
    return Regime(name, "DAdEE (Bajpai & Hanawal 2024)", stages)
