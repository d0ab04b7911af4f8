from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from robustexit.training import train
from robustexit.training.objectives import Setting
from robustexit.training.regimes import build_regime, exit_cross_entropies
from robustexit.training.regimes.mutual_distillation import mutual_terms, term_names


def started(model, **options):
    objective = build_regime("mutual-distillation", options).stages[0].loss
    objective.start(Setting(model, None, 0, None))
    return objective


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_terms_are_every_exit_from_every_other(temperature):
    logits, labels = torch.randn(5, 3, 4), torch.tensor([0, 3, 1, 2, 2])
    found = dict(zip(term_names(3), mutual_terms(logits, labels, temperature).tolist(), strict=True))
    assert len(found) == 9
    for m in range(3):
        hard = functional.cross_entropy(logits[:, m], labels).item()
        assert found[f"CE_{m + 1}"] == pytest.approx(hard, rel=1e-5)
        for n in set(range(3)) - {m}:
            student, teacher = (logits[:, m] / temperature).log_softmax(-1), (logits[:, n] / temperature).softmax(-1)
            soft = temperature**2 * functional.kl_div(student, teacher, reduction="batchmean").item()
            assert found[f"KL_{n + 1}_to_{m + 1}"] == pytest.approx(soft, rel=1e-4, abs=1e-6)


def test_teachers_get_no_gradient():
    logits = torch.randn(5, 2, 3, requires_grad=True)
    mutual_terms(logits, torch.zeros(5, dtype=torch.long), 1.0)[2].backward()  # KL_2_to_1
    assert logits.grad[:, 0].any() and not logits.grad[:, 1].any()


def test_the_probing_steps_give_the_inner_products(model, make_step, make_batch):
    objective = started(model)
    step = make_step(model, second=make_batch(seed=5))
    weights = list(model.parameters())

    def gradient(value):
        found = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
        return torch.cat(
            [(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, found, strict=True)]
        )

    outer = gradient(exit_cross_entropies(step.run(step.second.inputs)[0], step.second.labels).sum())
    terms = mutual_terms(step.logits, step.labels, 1.0)
    expected = torch.stack([gradient(term) @ outer / outer.norm() for term in terms])
    before = [weight.detach().clone() for weight in weights]
    # The rest is curvature over a step of length 0.01.
    assert torch.allclose(objective._alignment(step), expected, atol=0.02 * float(expected.abs().max()))
    assert all(torch.equal(old, new) for old, new in zip(before, weights, strict=True))


def test_terms_that_harm_the_second_split_lose_weight(model, make_step, make_batch):
    """Training labels opposite to the second split's: at p = 1/2 every cross-entropy points the wrong way."""
    for weight in model.heads.parameters():
        weight.data.mul_(0.01)
    second = make_batch(rows=8)
    wrong = replace(second, labels=1 - second.labels)
    harmful, helpful = started(model, weight_learning_rate=0.1), started(model, weight_learning_rate=0.1)
    for number in range(5):
        harmful.gradients(make_step(model, wrong, number=number, second=second))
        helpful.gradients(make_step(model, second, number=number, second=second))
    assert harmful.weights().mean().item() == pytest.approx(1.0, rel=1e-5)
    assert harmful.weights()[:3].max() < 1 < harmful.weights()[3:].mean()
    assert (helpful.weights()[:3] > harmful.weights()[:3]).all()
    assert helpful.weights()[:3].max() > 1


def test_weights_are_learned_every_so_many_steps_and_weigh_the_loss(model, make_step, make_batch):
    objective = started(model, every=3)
    seen = []
    for number in range(5):
        step = make_step(model, number=number, second=make_batch(seed=3))
        value = objective.gradients(step)
        weighed = (objective.weights() * mutual_terms(step.logits, step.labels, 1.0)).sum()
        assert value.item() == pytest.approx(weighed.item(), rel=1e-5)
        seen.append(objective.weights().detach().clone())
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[2], seen[3]) and torch.equal(seen[3], seen[4])


def test_the_second_split_is_kept_out_of_the_batches_and_is_the_seeds(spec, train_data, tmp_path, monkeypatch):
    from robustexit.training.regimes.mutual_distillation import MutualDistillation

    splits = []
    gradients = MutualDistillation.gradients

    def watch(self, step):
        splits[-1][0].update(step.batch.rows.tolist())
        splits[-1][1].update(step.second.rows.tolist())
        return gradients(self, step)

    monkeypatch.setattr(MutualDistillation, "gradients", watch)
    for seed in (0, 0, 1):
        splits.append((set(), set()))
        mine = spec.model_copy(update={"regime": "mutual-distillation", "seed": seed, "batch_size": 5})
        result = train(mine, train_data, None, tmp_path / str(len(splits)), progress=False)
    assert all(first.isdisjoint(second) and len(first) == 38 and len(second) == 10 for first, second in splits)
    assert splits[0] == splits[1] != splits[2]
    learned = json.loads((result.output / "training.json").read_text())["learned"]["mutual-distillation"]
    assert set(learned["term_weights"]) == set(term_names(3))
    assert sum(learned["term_weights"].values()) == pytest.approx(9, rel=1e-5)
    assert max(learned["term_weights"].values()) > 1


def test_bf16_probes_in_full_precision(spec, train_data, tmp_path):
    changed = spec.model_copy(update={"regime": "mutual-distillation", "precision": "bf16", "epochs": 1})
    result = train(changed, train_data, None, tmp_path / "out", progress=False)
    learned = json.loads((result.output / "training.json").read_text())["learned"]["mutual-distillation"]
    assert len({round(weight, 6) for weight in learned["term_weights"].values()}) > 3
