from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from robustexit.training.objectives import Setting
from robustexit.training.regimes import build_regime, sum_loss


def started(model, **options):
    objective = build_regime("ema-teacher", options).stages[0].loss
    objective.start(Setting(model, None, 0, None))
    return objective


@pytest.mark.parametrize("decay", [0.99, 0.6, 0.0])
def test_the_teacher_is_the_closed_form(decay, model, make_step):
    objective = started(model, decay=decay)
    weight = model.heads[0].head[1].weight
    average, history = weight.detach().clone(), []
    for number in range(4):
        with torch.no_grad():
            weight.add_(number + 1.0)
        objective.after_step(make_step(model, number=number))
        keep = min(1 - 1 / (number + 2), decay)
        average = keep * average + (1 - keep) * weight.detach()
        history.append(weight.detach().clone())
    assert torch.allclose(dict(objective.teacher.named_parameters())["heads.0.head.1.weight"], average, atol=1e-5)
    if decay == 0.0:
        assert torch.equal(objective.teacher.heads[0].head[1].weight, history[-1])
    assert not any(value.requires_grad for value in objective.teacher.parameters())


def test_the_loss_adds_divergences_from_the_teacher(model, make_step):
    same, last = started(model, ramp_up=0.0), started(model, ramp_up=0.0, teacher_exit="last", temperature=2.0)
    step = make_step(model)
    # Teacher and model are equal in the first step.
    assert same.loss(step).item() == pytest.approx(sum_loss(step.logits, step.labels).item(), rel=1e-5)
    expected = sum_loss(step.logits, step.labels).item()
    for exit_ in range(3):
        expected += (
            4
            * functional.kl_div(
                (step.logits[:, exit_] / 2).log_softmax(-1), (step.logits[:, 2] / 2).softmax(-1), reduction="batchmean"
            ).item()
        )
    assert last.loss(step).item() == pytest.approx(expected, rel=1e-5)


def test_the_weight_rises_along_the_ramp(model, make_step):
    objective = started(model, ramp_up=0.5, weight=3.0)
    rising = [objective.rising(make_step(model, number=number, total=8)) for number in (0, 2, 4, 7)]
    assert rising == pytest.approx([3 * math.exp(-5), 3 * math.exp(-1.25), 3.0, 3.0])
