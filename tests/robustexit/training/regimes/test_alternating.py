from __future__ import annotations

import torch

from robustexit.training.regimes import build_regime, final_loss, sum_loss


def test_even_steps_train_the_last_exit_and_odd_ones_all(bare_step):
    objective = build_regime("alternating").stages[0].loss
    logits, labels = torch.randn(4, 3, 2), torch.tensor([0, 1, 1, 0])
    for number in range(4):
        expected = (final_loss, sum_loss)[number % 2](logits, labels)
        assert torch.equal(objective.loss(bare_step(logits, labels, number)), expected)


def test_inner_heads_get_gradients_in_odd_steps_alone(model, make_step):
    objective = build_regime("alternating").stages[0].loss
    for number, learns in ((0, False), (1, True), (2, False)):
        model.zero_grad()
        objective.gradients(make_step(model, number=number))
        gradient = model.heads[0].head[1].weight.grad
        assert bool(gradient is not None and gradient.any()) is learns
        assert model.heads[2].head[1].weight.grad.any()
