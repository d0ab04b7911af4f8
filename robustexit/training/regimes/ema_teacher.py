"""Self-ensembling: exits learn from a moving average of the model's own weights."""

from __future__ import annotations

import math

import torch

from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.losses import exit_divergences, sum_loss
from robustexit.training.objectives import Objective, Setting, Step, frozen_copy
from robustexit.training.regimes.base import Regime, Stage, check_choice, check_number, every_head, regimes

RAMP_SHARPNESS = 5.0
"""Of the ramp exp(-5 (1 - x)^2), as in Laine & Aila (2017) and Tarvainen & Valpola (2017)."""


class EmaTeacher(Objective):
    """sum_i CE_i + w(t) sum_i T^2 KL(teacher, p_i); the teacher is an exponential moving average of the weights.

    After step t (1, 2, ...) the teacher becomes a * teacher + (1 - a) * weights with a = min(1 - 1/(t+1), decay), so
    that it is a plain mean at first.

    Args:
        decay: Largest share of the old average.
        weight: Largest weight of the divergences.
        ramp_up: Share of the steps over which the weight rises.
        temperature: T of the divergences.
        teacher_exit: ``"same"``: exit i learns from the teacher's exit i; ``"last"``: from its exit K.
    """

    teacher: MultiExitForSequenceClassification

    def __init__(self, decay: float, weight: float, ramp_up: float, temperature: float, teacher_exit: str) -> None:
        super().__init__()
        self.decay = decay
        self.weight = weight
        self.ramp_up = ramp_up
        self.temperature = temperature
        self.teacher_exit = teacher_exit

    def start(self, setting: Setting) -> None:
        """Begin the average at the model's weights."""
        self.teacher = frozen_copy(setting.model)

    def rising(self, step: Step) -> float:
        """Return the weight of the divergences in this step."""
        length = self.ramp_up * step.total
        done = 1.0 if length == 0 else min(1.0, step.number / length)
        return self.weight * math.exp(-RAMP_SHARPNESS * (1.0 - done) ** 2)

    def loss(self, step: Step) -> torch.Tensor:
        """Return cross-entropies and weighted divergences."""
        self.teacher.eval()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            taught, _ = step.run(step.batch.inputs, self.teacher)
        if self.teacher_exit == "last":
            taught = taught[:, -1:]
        divergences = exit_divergences(step.logits, taught, self.temperature).sum()
        return sum_loss(step.logits, step.labels) + self.rising(step) * divergences

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Move the average towards the new weights."""
        keep = min(1.0 - 1.0 / (step.number + 2), self.decay)
        weights = dict(step.model.named_parameters())
        for name, average in self.teacher.named_parameters():
            average.mul_(keep).add_(weights[name], alpha=1.0 - keep)
        buffers = dict(step.model.named_buffers())
        for name, kept in self.teacher.named_buffers():
            kept.copy_(buffers[name])


@regimes.register("ema-teacher")
def ema_teacher(
    decay: float = 0.99,
    weight: float = 1.0,
    ramp_up: float = 0.2,
    temperature: float = 1.0,
    teacher_exit: str = "same",
) -> Regime:
    """Train encoder and all heads on labels and on the moving average of the weights.

    Self-ensembling after Mean Teacher (Tarvainen & Valpola 2017, arXiv 1703.01780), carried over to exits: the
    divergence is KL instead of squared error, all texts are labelled, the teacher runs without dropout, and the
    trained weights (not their average) are kept.

    Args:
        decay: Largest share of the old average.
        weight: Largest weight of the divergences.
        ramp_up: Share of the steps over which the weight rises.
        temperature: T of the divergences.
        teacher_exit: ``"same"``: exit i learns from the teacher's exit i; ``"last"``: from its exit K.
    """
    name = "ema-teacher"
    check_number(name, "decay", decay, 0, 1)
    check_number(name, "weight", weight, 0)
    check_number(name, "ramp_up", ramp_up, 0, 1)
    check_number(name, "temperature", temperature, 0, above=True)
    check_choice(name, "teacher_exit", teacher_exit, ("same", "last"))
    objective = EmaTeacher(decay, weight, ramp_up, temperature, teacher_exit)
    return Regime(
        name, "Mean Teacher (Tarvainen & Valpola 2017), at exits", (Stage(name, True, every_head, objective),)
    )
