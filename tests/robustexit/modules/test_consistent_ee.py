"""ConsistentEE: memorised layer and reward by hand, the policy learns what the reward asks for."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustexit.errors import ConfigError, ModelError
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.consistent_ee import (
    ConsistentEE,
    ConsistentEESettings,
    drawn_exits,
    memorised_layers,
    rewards,
)


def logits_of(right: list[list[int]], label: int = 1, strength: float = 2.0) -> torch.Tensor:
    """Two-class logits that are right (1) or wrong (0) at each exit for one label."""
    sign = (torch.tensor(right, dtype=torch.float32) * 2 - 1) * (2 * label - 1) * strength / 2
    return torch.stack([-sign, sign], dim=-1)


def test_exits_are_drawn_by_their_probabilities() -> None:
    p = torch.tensor([[0.1, 0.4, 0.2, 0.3], [0.0, 0.0, 1.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
    ends = drawn_exits(p.log(), 20_000, torch.Generator().manual_seed(0))
    shares = torch.stack([(ends == exit).float().mean(dim=1) for exit in range(4)], dim=1)
    torch.testing.assert_close(shares, p, atol=0.015, rtol=0)


def test_memorised_layers_by_hand() -> None:
    right = [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 0, 0]]
    found = memorised_layers(logits_of(right), torch.ones(5, dtype=torch.long))
    assert found.tolist() == [1, 3, 4, 4, 4]


def test_rewards_by_hand() -> None:
    found = rewards(logits_of([[1, 0, 1, 1]]), torch.ones(1, dtype=torch.long), alpha=0.1)
    right, wrong = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    # m = 3 of 4 exits: depth L costs 0.1 * L / 4.
    np.testing.assert_allclose(found, [[-right - 0.025, -wrong - 0.05, -right - 0.075, -right - 0.1]], rtol=1e-5)


def data(n: int = 500, seed: int = 0) -> FitData:
    """Texts whose first coordinate is positive are right everywhere, the others only at exit 3 of 3."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    pooled = rng.normal(size=(n, 3, 4)).astype(np.float32)
    pooled[:, 1:, 0] = pooled[:, :1, 0]
    easy = pooled[:, 0, 0] > 0
    right = np.stack([easy, easy, np.ones(n, dtype=bool)], axis=1)
    signs = np.where(right, 1, -1) * np.where(labels, 1, -1)[:, None]
    return FitData(pooled, np.stack([-signs, signs], axis=-1).astype(np.float32), labels, np.arange(1, 4) / 3)


def leaves(module: ConsistentEE, found: FitData) -> np.ndarray:
    return read_stored(module, found.pooled, found.logits).scalars["leave"]


def test_easy_texts_leave_at_exit_1_and_hard_ones_stay() -> None:
    module, report = ConsistentEE.fitted(data(), ConsistentEESettings(epochs=40, batch_size=32, alpha=0.1))
    new = data(seed=1)
    easy = new.pooled[:, 0, 0] > 0
    at_1 = leaves(module, new)[:, 0] > 0.5
    assert at_1[easy].mean() > 0.9
    assert at_1[~easy].mean() < 0.1
    reward = rewards(torch.from_numpy(data().logits), torch.from_numpy(data().labels), 0.1)
    assert report["reward"] > float(reward.mean(dim=0).max())  # better than any one exit
    assert report["memorised_layer"] == pytest.approx(1 + 2 * (data().pooled[:, 0, 0] <= 0).mean())


def test_a_dear_depth_makes_memorised_texts_leave() -> None:
    cheap, dear = (
        leaves(ConsistentEE.fitted(data(), ConsistentEESettings(alpha=alpha))[0], data())[:, 0] for alpha in (0, 2)
    )
    assert dear.mean() > cheap.mean() + 0.1


def test_the_gradient_is_that_of_the_expected_reward() -> None:
    """REINFORCE with a mean baseline over k ways: (k - 1) / k of the exact gradient, on average."""
    torch.manual_seed(0)
    score = torch.zeros(1, 2, requires_grad=True)
    from robustexit.modules.leaving import first_exit_log_probabilities

    reward = torch.tensor([[-1.0, 0.5, 2.0]])
    (first_exit_log_probabilities(score).exp() * reward).sum().backward()
    exact = score.grad.clone()
    draws, k = 40_000, 4
    log_p = first_exit_log_probabilities(score)
    ends = torch.multinomial(log_p.detach().exp().expand(draws, 3), k, replacement=True)
    got = reward.expand(draws, 3).gather(1, ends)
    score.grad = None
    ((got - got.mean(1, keepdim=True)) * log_p.expand(draws, 3).gather(1, ends)).mean().backward()
    torch.testing.assert_close(score.grad, exact * (k - 1) / k, atol=0.01, rtol=0.05)


def test_states_that_are_not_numbers_are_refused() -> None:
    bad = data(40)
    bad.pooled[3, 0, 0] = np.nan
    with pytest.raises(ModelError, match="finite"):
        ConsistentEE.fitted(bad)


@pytest.mark.parametrize("wrong", [{"sample_k": 1}, {"alpha": -0.1}, {"hidden": 0}, {"epochs": 0}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_settings("consistent-ee", **wrong)


def test_macs_by_hand() -> None:
    assert make_module("consistent-ee", ModuleShape(3, 2, 8), hidden=4).macs().tolist() == [36, 36, 0]
