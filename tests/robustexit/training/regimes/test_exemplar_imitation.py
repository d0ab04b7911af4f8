from __future__ import annotations

import math

import pytest
import torch

from robustexit.training.objectives import Setting
from robustexit.training.regimes import build_regime, sum_loss
from robustexit.training.regimes.exemplar_imitation import imitation_loss


def started(model, **options):
    settings = {"hidden": 8, "output": 4, "bank": 2, **options}
    objective = build_regime("exemplar-imitation", settings).stages[0].loss
    objective.start(Setting(model, None, 0, None))
    return objective


def test_the_contrastive_loss_by_hand():
    similarity = torch.tensor([[2.0, 1.0, 0.5, -1.0], [0.3, 0.2, 0.1, 0.0]])
    positive = torch.tensor([[True, True, False, False], [False, False, False, False]])
    negative = torch.tensor([[False, False, True, False], [False, False, True, True]])
    total = math.log(math.exp(2) + math.exp(1) + math.exp(0.5))
    expected = 0.5 * ((total - 2) + (total - 1)) / 2 / 2  # two positives, two anchors (one of them without any)
    found = imitation_loss(similarity, positive, negative, torch.tensor([0.5, 1.0]))
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_banks_take_confident_states_and_lose_the_oldest(model, bare_step):
    objective = started(model, confident=0.9)
    sure, unsure = [4.0, -4.0], [0.2, 0.0]
    labels = torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([[sure] * 3, [unsure, sure, unsure], [sure] * 3, [sure] * 3])  # row 3 is sure and wrong
    pooled = torch.arange(4.0)[:, None, None].expand(4, 3, 16) + 1
    objective.after_step(bare_step(logits, labels, pooled=pooled))
    assert objective.filled.tolist() == [[2, 0], [3, 0], [2, 0]]
    assert objective.bank[0, 0, :, 0].tolist() == [1.0, 3.0]
    assert sorted(objective.bank[1, 0, :, 0].tolist()) == [2.0, 3.0]
    assert objective.facts() == {"exemplars": [[2, 0], [2, 0], [2, 0]]}


def test_uncertain_states_are_pulled_to_their_classs_exemplars(model, bare_step):
    objective = started(model, temperature=0.5)
    exemplars = 4 * torch.nn.functional.normalize(torch.randn(2, 16), dim=-1)
    with torch.no_grad():
        for class_ in (0, 1):
            objective.bank[0, class_] = exemplars[class_]
        objective.filled[0] = 2
    states = torch.randn(8, 16, requires_grad=True)
    labels = torch.arange(8) % 2
    truth = torch.full((8,), 0.4)

    def lead() -> float:
        """How much nearer a state is to its class's exemplar than to the other's."""
        project = objective.projections[0]
        near, far = project(exemplars[labels]), project(exemplars[1 - labels])
        return (project(states) * (near - far)).sum(-1).mean().item()

    before = lead()
    optimizer = torch.optim.Adam([states], lr=0.1)
    for _ in range(30):
        optimizer.zero_grad()
        objective.imitation(0, states, labels, truth).backward()
        optimizer.step()
    assert lead() > before + 0.05


def test_confident_states_and_empty_banks_add_nothing(model, make_step):
    step = make_step(model)
    empty = started(model)
    assert empty.loss(step).item() == pytest.approx(sum_loss(step.logits, step.labels).item())
    objective = started(model, confident=0.0)
    objective.after_step(step)
    assert objective.filled.sum() == 18
    assert objective.loss(step).item() == pytest.approx(sum_loss(step.logits, step.labels).item())


def test_weights_follow_the_quality(model):
    objective = started(model)
    with torch.no_grad():
        objective.bank.normal_()
        objective.filled.fill_(2)
    states, labels = torch.randn(6, 16), torch.tensor([0, 1, 0, 1, 0, 1])
    low = objective.imitation(0, states, labels, torch.full((6,), 0.1)).item()
    middle = objective.imitation(0, states, labels, torch.full((6,), 0.7)).item()
    assert low == pytest.approx(5 * middle, rel=1e-5)


def test_projections_learn_with_the_heads(spec, train_data, tmp_path, monkeypatch):
    from robustexit.training import train
    from robustexit.training.regimes.exemplar_imitation import ExemplarImitation

    seen = []
    after_step = ExemplarImitation.after_step

    def watch(self, step):
        after_step(self, step)
        seen.append([weight.detach().clone() for weight in self.projections.parameters()])

    monkeypatch.setattr(ExemplarImitation, "after_step", watch)
    options = {"confident": 0.52, "uncertain": 0.5, "hidden": 8, "output": 4}
    one = spec.model_copy(update={"regime": "exemplar-imitation", "regime_options": options})
    train(one, train_data, None, tmp_path / "out", progress=False)
    assert all(not torch.equal(first, last) for first, last in zip(seen[0], seen[-1], strict=True))
