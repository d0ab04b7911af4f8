"""BERxiT's learning-to-exit: the uncertainty follows the errors, the loss is the mean square, ends are defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy
from robustexit.exits.replay import replay_held_out
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.learning_to_exit import LearningToExit, LearningToExitSettings


def data(n: int = 500, seed: int = 0, right: bool | None = None) -> FitData:
    """An exit is wrong where the first coordinate of its state is negative (or everywhere right, or wrong)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    pooled = rng.normal(size=(n, 3, 4)).astype(np.float32)
    is_right = pooled[..., 0] > 0 if right is None else np.full((n, 3), right)
    answers = np.where(is_right, labels[:, None], (labels[:, None] + 1) % 3)
    return FitData(pooled, np.eye(3, dtype=np.float32)[answers], labels, np.arange(1, 4) / 3)


def uncertainty(module: LearningToExit, found: FitData) -> np.ndarray:
    return read_stored(module, found.pooled, found.logits).scalars["uncertainty"]


def test_uncertainty_follows_the_errors() -> None:
    module, report = LearningToExit.fitted(data(), LearningToExitSettings(batch_size=16))
    new = data(seed=1)
    assert ((uncertainty(module, new) > 0.5) == (new.pooled[..., 0] <= 0)).mean() > 0.95
    assert report["wrong_share"] == pytest.approx((data().pooled[..., 0] <= 0).mean())


def test_reported_loss_is_the_mean_square() -> None:
    found = data(64)
    module, report = LearningToExit.fitted(found, LearningToExitSettings(epochs=1, learning_rate=1e-12))
    wrong = found.pooled[..., 0] <= 0
    assert report["mse"] == pytest.approx(((uncertainty(module, found) - wrong) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_and_all_wrong(right) -> None:
    module, _ = LearningToExit.fitted(data(right=right), LearningToExitSettings(epochs=60, batch_size=16))
    found = uncertainty(module, data(right=right))
    assert found.mean() < 0.2 if right else found.mean() > 0.8


@pytest.mark.parametrize(("t", "exits"), [(0.5, [2, 1]), (0.2, [3, 1]), (0.0, [3, 3]), (0.7, [2, 1]), (1.1, [1, 1])])
def test_policy_leaves_below_t(t, exits) -> None:
    values = np.array([[0.9, 0.3, 0.1], [0.1, 0.9, 0.9]], dtype=np.float32)
    stored = HeldOut(
        np.zeros((2, 3, 2), dtype=np.float32),
        np.zeros(2, dtype=np.int64),
        np.ones((2, 3)),
        "h",
        {"uncertainty": values},
    )
    assert replay_held_out(make_policy("learning-to-exit", t=t), stored).exit.tolist() == exits


def test_one_layer_serves_all_exits() -> None:
    torch.manual_seed(0)
    module = make_module("learning-to-exit", ModuleShape(4, 2, 8))
    assert sum(p.numel() for p in module.parameters()) == 9
    assert module.macs().tolist() == [8, 8, 8, 8]


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"batch_size": 1.5}, {"learning_rate": float("inf")}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_settings("learning-to-exit", **wrong)
