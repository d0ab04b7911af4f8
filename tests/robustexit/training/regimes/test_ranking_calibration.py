from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from robustexit.training import train
from robustexit.training.objectives import Setting
from robustexit.training.regimes import build_regime, sum_loss
from robustexit.training.regimes.ranking_calibration import held_out_answers, measure_difficulty, ranking_loss


def test_the_ranking_loss_by_hand():
    confidence = torch.tensor([0.9, 0.6, 0.55, 0.8])
    one_hard = torch.tensor([False, True, False, False])
    # .5 - (c - .6) where that is above 0: .2, .55, .3
    assert ranking_loss(confidence, one_hard, 0.5).item() == pytest.approx((0.2 + 0.55 + 0.3) / 3)
    assert ranking_loss(confidence, one_hard, 0.0).item() == pytest.approx(0.05 / 3)
    for nothing in (torch.zeros(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)):
        assert ranking_loss(confidence, nothing, 0.5).item() == 0


def test_easy_texts_gain_confidence_and_hard_ones_lose_it():
    confidence = torch.tensor([0.6, 0.7, 0.6, 0.9], requires_grad=True)
    ranking_loss(confidence, torch.tensor([False, True, False, True]), 0.5).backward()
    assert (confidence.grad[[0, 2]] < 0).all() and (confidence.grad[[1, 3]] >= 0).all() and confidence.grad.sum() == 0


def test_every_hard_text_is_drawn():
    torch.manual_seed(0)
    confidence = torch.cat([torch.full((40,), 0.6), torch.tensor([0.6, 0.7, 0.8])]).requires_grad_()
    ranking_loss(confidence, torch.arange(43) >= 40, 0.5).backward()
    assert (confidence.grad[40:] > 0).all()


def blobs(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that exit 1 cannot tell apart and exit 2 can, with six labels turned round."""
    generator = np.random.default_rng(0)
    labels = np.arange(rows) % 2
    states = generator.normal(size=(rows, 2, 4)).astype(np.float32)
    states[:, 1, 0] += 12 * labels
    return states, np.where(np.arange(rows) < 6, 1 - labels, labels)


def test_difficulty_is_what_unseen_probes_get_wrong():
    states, labels = blobs()
    hard = measure_difficulty(states, labels, models=5, folds=5, seed=0)
    assert hard.shape == (60, 2)
    assert hard[:, 1].tolist() == [row < 6 for row in range(60)]
    assert 0.25 < hard[:, 0].mean() < 0.75
    assert (hard == measure_difficulty(states, labels, models=5, folds=5, seed=0)).all()


def test_a_probe_has_not_seen_its_fold():
    """As many dimensions as texts: a probe that had seen a text would give its label back."""
    generator = np.random.default_rng(0)
    states, labels = generator.normal(size=(40, 40)).astype(np.float32), generator.integers(2, size=40)
    answers = held_out_answers(states, labels, 5, np.random.default_rng(1))
    assert (answers == labels).mean() < 0.8


def test_the_whole_loss_weighs_the_inner_exits(bare_step):
    states, labels = blobs()
    objective = build_regime("ranking-calibration", {"weight": 2.0}).stages[0].loss

    class Model:
        num_exits = 2

    objective.start(Setting(Model(), labels, 0, lambda: states))
    logits = torch.randn(60, 2, 2, requires_grad=True)
    step = bare_step(logits, torch.from_numpy(labels))
    torch.manual_seed(3)
    value = objective.loss(step)
    torch.manual_seed(3)
    hard = torch.from_numpy(measure_difficulty(states[:, :1], labels, 5, 5, 0))[:, 0]
    ranked = ranking_loss(logits[:, 0].softmax(-1).amax(-1), hard, 0.5)
    assert value.item() == pytest.approx((sum_loss(logits, step.labels) + 2 * ranked).item(), rel=1e-6)


def test_the_share_of_hard_texts_is_recorded(spec, train_data, tmp_path):
    one = spec.model_copy(update={"regime": "ranking-calibration", "epochs": 1})
    train(one, train_data, None, tmp_path / "out", progress=False)
    learned = json.loads((tmp_path / "out" / "training.json").read_text())["learned"]
    shares = learned["ranking-calibration"]["hard_share"]
    assert len(shares) == 2 and all(0 <= share <= 1 for share in shares)
