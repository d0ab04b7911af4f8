from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from robustexit.errors import ConfigError
from robustexit.training import folder, train
from robustexit.training.regimes import build_regime

LOGITS = torch.tensor([[[2.0, 0.0, -1.0], [0.5, 0.1, 0.2]], [[0.0, 1.0, 3.0], [1.0, -1.0, 0.3]]])
LABELS = torch.tensor([0, 2])


def softmax(z: list[float]) -> list[float]:
    return [torch.exp(torch.tensor(a)).item() / sum(torch.exp(torch.tensor(b)).item() for b in z) for a in z]


def by_hand() -> tuple[float, float]:
    """CE_1 and KL(p_2, p_1), written out."""
    entropies, divergences = [], []
    for row, label in zip(LOGITS.tolist(), LABELS.tolist(), strict=True):
        student, teacher = softmax(row[0]), softmax(row[1])
        entropies.append(-torch.log(torch.tensor(student[label])).item())
        divergences.append(
            sum(t * torch.log(torch.tensor(t / s)).item() for t, s in zip(teacher, student, strict=True))
        )
    return sum(entropies) / 2, sum(divergences) / 2


def test_losses_of_the_second_stages():
    entropy, divergence = by_hand()
    fastbert = build_regime("frozen-self-distillation").stages[1].loss
    assert fastbert(LOGITS, LABELS).item() == pytest.approx(divergence, rel=1e-5)
    assert torch.equal(fastbert(LOGITS, LABELS), fastbert(LOGITS, 1 - LABELS.clamp(max=1)))
    capeen = build_regime("capeen-mix").stages[1].loss
    assert capeen(LOGITS, LABELS).item() == pytest.approx(0.5 * entropy + 0.5 * divergence, rel=1e-5)
    tilted = build_regime("capeen-mix", {"alpha": 0.2}).stages[1].loss
    assert tilted(LOGITS, LABELS).item() == pytest.approx(0.8 * entropy + 0.2 * divergence, rel=1e-5)


def test_the_teacher_gets_no_gradient():
    for name in ("frozen-self-distillation", "capeen-mix"):
        logits = LOGITS.clone().requires_grad_()
        build_regime(name).stages[1].loss(logits, LABELS).backward()
        assert not logits.grad[:, 1].any() and logits.grad[:, 0].any()


@pytest.mark.parametrize("name", ["frozen-self-distillation", "capeen-mix"])
def test_encoder_and_teacher_stay_bit_for_bit(name, spec, train_data, tmp_path, monkeypatch):
    kept = {}
    finish_stage = folder.RunFolder.finish_stage

    def keep(self, number, model, history, learned):
        finish_stage(self, number, model, history, learned)
        kept.update(load_file(self.stage(number) / "weights.safetensors"))

    monkeypatch.setattr(folder.RunFolder, "finish_stage", keep)
    result = train(spec.model_copy(update={"regime": name}), train_data, None, tmp_path / "out", progress=False)
    after = load_file(tmp_path / "out" / "model.safetensors")
    changed = {part for part in after if not torch.equal(after[part], kept[part])}
    assert changed == {part for part in after if part.startswith(("heads.0.", "heads.1."))}
    losses = [epoch.loss for epoch in result.history if epoch.stage == "inner-heads"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("head", ["shared", "scalar-mix"])
def test_heads_that_cannot_learn_apart_are_refused_where_they_must(head, spec, train_data, eval_data, tmp_path):
    apart = spec.model_copy(update={"head": head, "regime": "two-stage"})
    with pytest.raises(ConfigError, match=f"learn apart.*exits \\[3\\] alone.*'{head}'"):
        train(apart, train_data, None, tmp_path / "out", progress=False)
    for regime in ("joint", "frozen-heads"):
        together = apart.model_copy(update={"regime": regime})
        result = train(together, train_data, eval_data, tmp_path / regime, progress=False)
        assert result.history[-1].loss < result.history[0].loss


def test_heads_that_read_tokens_are_fitted_by_running_the_frozen_encoder(spec, train_data, eval_data, tmp_path):
    attention = spec.model_copy(update={"head": "attention", "regime": "frozen-heads", "epochs": 3})
    result = train(attention, train_data, eval_data, tmp_path / "out", progress=False)
    start = train(
        attention.model_copy(update={"epochs": 1, "head_learning_rate": 1e-12}),
        train_data,
        None,
        tmp_path / "start",
        progress=False,
    )
    after, before = (load_file(run.output / "model.safetensors") for run in (result, start))
    assert len(result.history) == 3 and result.history[-1].loss < result.history[0].loss
    assert all(torch.equal(before[part], after[part]) for part in after if part.startswith("encoder."))
    assert not (tmp_path / "out" / "checkpoints").exists()
