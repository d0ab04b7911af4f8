"""PALBERT's lambda layer: prior and policy by hand, the loss against a written-out one, what beta does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy
from robustexit.exits.replay import replay_held_out
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.q_exit import QExit, QExitSettings, geometric_prior


def data(n: int = 400, seed: int = 0) -> FitData:
    """Texts whose first coordinate is positive are right at exit 1, the others only at exit 3 of 3."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    pooled = rng.normal(size=(n, 3, 4)).astype(np.float32)
    pooled[:, 1:, 0] = pooled[:, :1, 0]
    right = np.stack([pooled[:, 0, 0] > 0, pooled[:, 0, 0] > 0, np.ones(n, dtype=bool)], axis=1)
    signs = np.where(right, 1, -1) * np.where(labels, 1, -1)[:, None]
    logits = 2 * np.stack([-signs, signs], axis=-1).astype(np.float32)
    return FitData(pooled, logits, labels, np.arange(1, 4) / 3)


def exit_distribution(module: QExit, found: FitData) -> np.ndarray:
    lam = read_stored(module, found.pooled, found.logits).scalars["lambda"].astype(np.float64)
    left = np.cumprod(np.concatenate([np.ones((len(lam), 1)), 1 - lam[:, :-1]], axis=1), axis=1)
    return lam * left


def test_prior_by_hand() -> None:
    np.testing.assert_allclose(geometric_prior(0.1, 3), [0.1, 0.09, 0.81], rtol=1e-6)
    np.testing.assert_allclose(geometric_prior(1.0, 2), [1, 0], atol=1e-7)
    assert geometric_prior(0.3, 1).tolist() == [1.0]


@pytest.mark.parametrize(("q", "exit"), [(0.2, 1), (0.25, 2), (0.5, 2), (0.62, 2), (0.63, 3), (1.0, 3)])
def test_policy_by_hand(q, exit) -> None:
    # P = 1/4, 3/4 * 1/2, rest: sums 0.25, 0.625, 1.
    lam = np.array([[0.25, 0.5, 1.0]], dtype=np.float32)
    stored = HeldOut(
        np.zeros((1, 3, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), np.ones((1, 3)), "h", {"lambda": lam}
    )
    assert replay_held_out(make_policy("q-exit", q=q), stored).exit.tolist() == [exit]


def test_settings_stand_between_the_sums_before_the_last_exit() -> None:
    lam = np.array([[0.5, 0.5, 1], [0.25, 0, 1]], dtype=np.float32)  # sums .5, .75; .25, .25
    held = HeldOut(
        np.zeros((2, 3, 2), dtype=np.float32), np.zeros(2, dtype=np.int64), np.ones((2, 3)), "h", {"lambda": lam}
    )
    found = [policy.q for policy in make_policy("q-exit").settings(held)]
    assert found == pytest.approx([0.249, 0.375, 0.625, 0.751])


def test_distribution_sums_to_1_and_leaves_the_easy_early() -> None:
    module, _ = QExit.fitted(data(), QExitSettings(epochs=30, batch_size=16, beta=0.2, lambda_p=0.6))
    new = data(seed=1)
    p = exit_distribution(module, new)
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    easy = new.pooled[:, 0, 0] > 0
    assert p[easy, 0].mean() > p[~easy, 0].mean() + 0.3
    stored = HeldOut(
        new.logits, new.labels, np.ones((400, 3)), "h", read_stored(module, new.pooled, new.logits).scalars
    )
    chosen = replay_held_out(make_policy("q-exit"), stored)
    assert chosen.exit[easy].mean() < chosen.exit[~easy].mean() - 1


def test_a_large_beta_gives_the_prior() -> None:
    module, _ = QExit.fitted(data(), QExitSettings(epochs=30, batch_size=32, beta=1000))
    np.testing.assert_allclose(exit_distribution(module, data()).mean(axis=0), [0.1, 0.09, 0.81], atol=0.02)


def test_reported_loss_is_the_papers() -> None:
    found = data(64)
    # A rate this small leaves the layer as it was, so that the reported loss is that of the module returned.
    settings = QExitSettings(epochs=1, learning_rate=1e-12, beta=0.5, lambda_p=0.1)
    module, report = QExit.fitted(found, settings)
    p = exit_distribution(module, found)
    shifted = found.logits.astype(np.float64)
    log_softmax = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    ce = -np.take_along_axis(log_softmax, np.repeat(found.labels[:, None, None], 3, axis=1), axis=2)[..., 0]
    prior = np.array([0.1, 0.09, 0.81])
    expected = (p * ce).sum(1).mean() + 0.5 * (prior * (np.log(prior) - np.log(p))).sum(1).mean()
    assert report["loss"] == pytest.approx(expected, rel=1e-5)


def test_exit_1_reads_a_zero_state_before_it() -> None:
    torch.manual_seed(0)
    module = make_module("q-exit", ModuleShape(3, 2, 4))
    h1, h2 = torch.randn(2, 1, 4)
    state, _, first = module.read_exit(module.start(1), 1, h1, torch.zeros(1, 2))
    _, _, second = module.read_exit(state, 2, h2, torch.zeros(1, 2))
    head = module.exit_head
    with torch.no_grad():
        torch.testing.assert_close(first["lambda"], torch.sigmoid(head(torch.cat([h1, torch.zeros(1, 4)], 1)))[:, 0])
        torch.testing.assert_close(second["lambda"], torch.sigmoid(head(torch.cat([h2, h1], 1)))[:, 0])


def test_macs_by_hand() -> None:
    # Input 2 D = 8: two hidden layers of 8 x 8, one output of 8; nothing at exit K.
    module = make_module("q-exit", ModuleShape(3, 2, 4), num_lambda_layers=2)
    assert module.macs().tolist() == [136, 136, 0]


@pytest.mark.parametrize("wrong", [{"beta": -1}, {"lambda_p": 1.5}, {"num_lambda_layers": 0}, {"learning_rate": 0}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_settings("q-exit", **wrong)
