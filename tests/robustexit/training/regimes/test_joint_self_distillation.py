from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from robustexit.training.regimes import build_regime
from robustexit.training.regimes.joint_self_distillation import regularised, without_conflict

VECTOR = st.lists(st.floats(-5, 5, width=32), min_size=4, max_size=4).map(torch.tensor)


@settings(max_examples=80, deadline=None)
@given(VECTOR, VECTOR)
def test_a_projected_gradient_does_not_conflict(moved, anchor):
    moved, anchor = moved.double(), anchor.double()
    found = without_conflict(moved, anchor)
    assert float(found @ anchor) >= -1e-6 * float(moved.norm() * anchor.norm())
    if float(moved @ anchor) >= 0:
        assert torch.equal(found, moved)
    else:
        assert found.norm() <= moved.norm() + 1e-12


def test_the_loss_is_the_papers(bare_step):
    logits, labels = torch.randn(5, 3, 4), torch.tensor([0, 3, 1, 2, 2])
    final, inner = build_regime("joint-self-distillation").stages[0].loss.parts(bare_step(logits, labels))
    assert final.item() == pytest.approx(functional.cross_entropy(logits[:, 2], labels).item(), rel=1e-6)
    expected = 0.0
    for exit_ in (0, 1):
        hard = functional.cross_entropy(logits[:, exit_], labels)
        soft = functional.kl_div(
            (logits[:, exit_] / 3).log_softmax(-1), (logits[:, 2] / 3).softmax(-1), reduction="batchmean"
        )
        expected += 0.1 * hard.item() + 0.9 * 9 * soft.item()
    assert inner.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("anchor", ["final", "inner"])
def test_gradients_are_projected_on_the_shared_matrices_alone(anchor, model, make_step, make_batch):
    objective = build_regime("joint-self-distillation", {"anchor": anchor}).stages[0].loss
    weights = dict(model.named_parameters())
    chosen = [name for name in weights if name.removeprefix("encoder.") in regularised(model)]
    conflicts = 0
    for seed in range(6):
        # The last exit turned round: what served the inner exits now harms it.
        model.heads[2].head[1].weight.data.neg_()
        step = make_step(model, make_batch(seed=seed))
        parts = [
            dict(
                zip(
                    weights,
                    torch.autograd.grad(part, list(weights.values()), retain_graph=True, allow_unused=True),
                    strict=True,
                )
            )
            for part in objective.parts(step)
        ]
        shared = [name for name in chosen if all(part[name] is not None and part[name].any() for part in parts)]
        # The last layer belongs to exit K alone.
        assert shared and not any("layer.2." in name or "embeddings" in name for name in shared)
        moved, fixed = (parts[1], parts[0]) if anchor == "final" else (parts[0], parts[1])
        flat = [torch.cat([side[name].flatten() for name in shared]) for side in (moved, fixed)]
        conflicts += float(flat[0] @ flat[1]) < 0
        expected = (without_conflict(*flat) + flat[1]).split([weights[name].numel() for name in shared])
        model.zero_grad()
        value = objective.gradients(step)
        assert value.item() == pytest.approx(sum(part.item() for part in objective.parts(make_step(model, step.batch))))
        for name, part in zip(shared, expected, strict=True):
            assert torch.allclose(weights[name].grad.flatten(), part, atol=1e-6), name
        for name in set(weights) - set(shared):
            plain = sum(part[name] for part in parts if part[name] is not None)
            assert torch.allclose(weights[name].grad, plain, atol=1e-6), name
    assert conflicts > 0
