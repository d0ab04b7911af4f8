"""The exit chain against enumeration of every path, at its two limits, and its learned cost."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy, replay
from robustexit.exits.rules.exit_chain import HIGHEST_COST, INFERENCE, chain_loss, fit_switch_cost, forward

NEVER = 1.1


def test_by_hand() -> None:
    # A switch halves: from (.8, .2) arrive (.8 + .1, .2 + .4) summed, (.8, .4) at best; exit 2 says (.4, .6).
    logits, cost = np.log([[[0.8, 0.2], [0.4, 0.6]]]), math.log(2)
    summed = replay(make_policy("exit-chain", t=NEVER, switch_cost=cost, inference="sum-product"), logits)
    np.testing.assert_allclose(summed.probabilities, [[0.5, 0.5]], atol=1e-6)
    best = replay(make_policy("exit-chain", t=NEVER, switch_cost=cost), logits)
    np.testing.assert_allclose(best.probabilities, [[4 / 7, 3 / 7]], atol=1e-6)
    assert best.answer.tolist() == [0]
    assert replay(make_policy("exit-chain", t=0.79, switch_cost=cost), logits).exit.tolist() == [1]


@settings(max_examples=30, deadline=None)
@given(logits=arrays(np.float64, (4, 3), elements=st.floats(-4, 4)), cost=st.floats(0, 6))
def test_beliefs_are_the_marginals_over_every_path(logits, cost) -> None:
    log_p = log_softmax(logits, axis=-1)
    total, best = np.zeros(3), np.zeros(3)
    for path in itertools.product(range(3), repeat=4):
        switches = sum(a != b for a, b in itertools.pairwise(path))
        weight = math.exp(sum(log_p[i, c] for i, c in enumerate(path)) - cost * switches)
        total[path[-1]] += weight
        best[path[-1]] = max(best[path[-1]], weight)
    for inference, expected in (("sum-product", total), ("max-product", best)):
        policy = make_policy("exit-chain", t=NEVER, switch_cost=cost, inference=inference)
        found = replay(policy, logits[None]).probabilities[0]
        np.testing.assert_allclose(found, expected / expected.sum(), atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(
    logits=arrays(np.float32, (8, 5, 3), elements=st.floats(-6, 6, width=32)),
    t=st.floats(0.35, 0.999),
    inference=st.sampled_from(INFERENCE),
    very_large=st.sampled_from([1e3, math.inf]),
)
def test_two_limits(logits, t, inference, very_large) -> None:
    """Without a cost the exits are independent, with a very large one they are a product of experts."""
    for cost, limit in ((0.0, "max-probability"), (very_large, "product-of-experts")):
        expected = [replay(make_policy(limit, t=NEVER), logits[:, :k]).probabilities for k in range(1, 6)]
        kept = ~(np.abs(np.max(expected, axis=-1) - t) < 1e-6).any(axis=0)
        chain = replay(make_policy("exit-chain", t=t, switch_cost=cost, inference=inference), logits[kept])
        other = replay(make_policy(limit, t=t), logits[kept])
        np.testing.assert_array_equal(chain.exit, other.exit)
        np.testing.assert_allclose(chain.probabilities, other.probabilities, atol=3e-6)


def data_of(log_p: np.ndarray, labels: np.ndarray) -> HeldOut:
    return HeldOut(log_p.astype(np.float32), labels, np.ones(log_p.shape[:2]), "h")


@pytest.mark.parametrize("inference", INFERENCE)
def test_the_cost_is_learned(inference) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=1500)
    # Experts that err independently: multiply. Each is right with .6 and says so.
    said = np.where(rng.random((1500, 5)) < 0.6, labels[:, None], (labels[:, None] + rng.integers(1, 3, (1500, 5))) % 3)
    experts = np.log(np.full((1500, 5, 3), 0.2) + 0.4 * np.eye(3)[said])
    # One expert, too sure of itself, asked five times: nothing to add up.
    copies = np.repeat(np.log(0.15 + 0.55 * np.eye(3)[said[:, :1]]), 5, axis=1)
    independent = fit_switch_cost(data_of(experts, labels), inference)
    assert independent > 3
    assert fit_switch_cost(data_of(copies, labels), inference) == 0
    for cost in (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, HIGHEST_COST):
        assert (
            chain_loss(data_of(experts, labels), independent, inference)
            <= chain_loss(data_of(experts, labels), cost, inference) + 1e-6
        )
    policy = make_policy("exit-chain", t=0.9, inference=inference).fitted(data_of(experts, labels))
    assert policy.switch_cost == independent
    given_cost = make_policy("exit-chain", t=0.9, switch_cost=2)
    assert given_cost.fitted(data_of(experts, labels)) == given_cost


def test_a_late_and_confident_change_of_mind_is_heard() -> None:
    logits = np.log([[[0.7, 0.3]] * 4 + [[0.02, 0.98]]])
    assert replay(make_policy("product-of-experts", t=NEVER), logits).answer.tolist() == [1]
    logits = np.log([[[0.8, 0.2]] * 4 + [[0.02, 0.98]]])
    assert replay(make_policy("product-of-experts", t=NEVER), logits).answer.tolist() == [0]
    for inference in INFERENCE:
        policy = make_policy("exit-chain", t=NEVER, switch_cost=2, inference=inference)
        assert replay(policy, logits).answer.tolist() == [1]


def test_forward_is_normalised_and_finite_at_the_ends() -> None:
    log_p = torch.log_softmax(torch.tensor([[1e4, -1e4, 0.0], [0.0, 0.0, 0.0]]), dim=-1)
    for inference in INFERENCE:
        for cost in (0.0, 1e-6, 1.0, 1e5, math.inf):
            belief = forward(forward(torch.zeros(2, 3), log_p, cost, inference), log_p, cost, inference)
            np.testing.assert_allclose(belief.exp().sum(-1), 1, rtol=1e-5)
            np.testing.assert_allclose(belief.exp()[1], softmax(np.zeros(3)), rtol=1e-5)


def test_parameters_are_checked() -> None:
    with pytest.raises(ConfigError, match="inference to be one of max-product, sum-product"):
        make_policy("exit-chain", t=0.5, inference="viterbi")
    with pytest.raises(ConfigError, match="at least 0"):
        make_policy("exit-chain", t=0.5, switch_cost=-1)
    with pytest.raises(ConfigError, match="needs switch_cost: give it, or calibrate"):
        replay(make_policy("exit-chain", t=0.5), np.zeros((1, 3, 2)))
    assert make_policy("exit-chain", t=1.01).inert_reason(6, 2)
