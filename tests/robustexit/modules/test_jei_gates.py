"""JEI-DNN: what gates read, the exit distribution and the rule by hand, what gates and heads learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy
from robustexit.exits.replay import replay_held_out
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.jei_gates import (
    JEIGates,
    JEIGatesSettings,
    exit_probabilities,
    features,
    positive_weights,
)
from robustexit.modules.leaving import cross_entropies


def test_features_by_hand() -> None:
    p = np.array([0.5, 0.25, 0.25])
    squared = p**2 / (p**2).sum()
    expected = [0.5, -(p * np.log(p)).sum(), 0.25, -(squared * np.log(squared)).sum()]
    np.testing.assert_allclose(features(torch.tensor(np.log(p)[None], dtype=torch.float32))[0], expected, rtol=1e-6)
    assert features(torch.tensor([[1e4, -1e4]])).tolist() == [[1, 0, 1, 0]]


def test_exit_probabilities_by_hand() -> None:
    gates = torch.tensor([[0.2, 0.5, 0.6], [0.7, 0.7, 0.1], [0.0, 0.1, 0.0]])
    expected = [[0.2, 0.5, 0.3, 0], [0.7, 0.3, 0, 0], [0, 0.1, 0, 0.9]]
    np.testing.assert_allclose(exit_probabilities(gates), expected, atol=1e-6)


def test_weights_by_hand() -> None:
    # Of 8 texts 2 are best at exit 1, 1 at exit 2, none at exit 3, 5 at exit K.
    best = torch.tensor([0, 0, 1, 4, 4, 4, 4, 4])
    assert positive_weights(best, 4, most=5).tolist() == [3, 5, 5, 5]
    assert positive_weights(best, 4, most=100).tolist() == [3, 7, 100, 100]
    assert positive_weights(torch.zeros(4, dtype=torch.long), 2, most=5).tolist() == [1, 5]


@torch.no_grad()
def test_every_exit_has_its_own_head_and_gate() -> None:
    torch.manual_seed(0)
    module = make_module("jei-gates", ModuleShape(4, 3, 5))
    for parameter in module.parameters():
        parameter.normal_()
    pooled, logits = torch.randn(2, 4, 5), torch.randn(2, 4, 3)
    read = read_stored(module, pooled.numpy(), logits.numpy())
    for i, (head, gate) in enumerate(zip(module.heads, module.gates, strict=True)):
        better = logits[:, i] + pooled[:, i] @ head.weight.T + head.bias
        torch.testing.assert_close(torch.from_numpy(read.logits[:, i]), better)
        expected = torch.sigmoid(features(better) @ gate.weight.T + gate.bias)[:, 0]
        torch.testing.assert_close(torch.from_numpy(read.scalars["gate"][:, i]), expected)
    np.testing.assert_array_equal(read.logits[:, 3], logits[:, 3])
    assert read.scalars["gate"][:, 3].tolist() == [1, 1]


def stored(gates: np.ndarray) -> HeldOut:
    rows, exits = gates.shape
    return HeldOut(
        np.zeros((rows, exits, 2), dtype=np.float32),
        np.zeros(rows, dtype=np.int64),
        np.ones((rows, exits)),
        "h",
        {"gate": gates.astype(np.float32)},
    )


@pytest.mark.parametrize(
    ("t", "exits"), [(0.5, [2, 1, 4]), (0.65, [3, 1, 4]), (0.75, [3, 2, 4]), (0.05, [1, 1, 2]), (1.5, [4, 4, 4])]
)
def test_rule_by_hand(t, exits) -> None:
    # Conditional probabilities: .2, .5/.8, .6/.3 -> 1; .7, .7/.3 -> 1; 0, .1, 0.
    gates = np.array([[0.2, 0.5, 0.6, 1], [0.7, 0.7, 0.1, 1], [0.0, 0.1, 0.0, 1]])
    assert replay_held_out(make_policy("jei-gates", t=t), stored(gates)).exit.tolist() == exits


def test_half_is_enough() -> None:
    gates = np.array([[0.5, 0, 0, 1], [0.25, 0.375, 0, 1]])  # conditional probabilities: .5; .25, .375/.75
    assert replay_held_out(make_policy("jei-gates"), stored(gates)).exit.tolist() == [1, 2]


@given(arrays(np.float32, (5, 4), elements=st.floats(0, 1, width=32)))
def test_rule_is_the_conditional_of_the_distribution(early) -> None:
    p = exit_probabilities(torch.from_numpy(early)).double().numpy()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    assert (p >= 0).all()
    left = 1 - np.concatenate([np.zeros((5, 1)), p.cumsum(axis=1)[:, :-1]], axis=1)
    safe = left > 1e-3
    policy = make_policy("jei-gates")
    found = policy.statistics(stored(np.concatenate([early, np.ones((5, 1), dtype=np.float32)], axis=1))).numpy()
    np.testing.assert_allclose(found[safe], (p / np.where(safe, left, 1))[safe], atol=1e-3)


def data(n: int = 600, seed: int = 0, exits: int = 3) -> FitData:
    """States tell the label with a bias that the heads get wrong; texts near the boundary are uncertain."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    signal = np.where(labels, 1.0, -1.0)[:, None] * np.linspace(0.6, 2, exits) + rng.normal(size=(n, exits))
    pooled = np.stack([signal, rng.normal(size=(n, exits))], axis=-1).astype(np.float32)
    wrong_bias = signal + 0.8
    logits = np.stack([-wrong_bias, wrong_bias], axis=-1).astype(np.float32)
    return FitData(pooled, logits, labels, np.arange(1, exits + 1) / exits)


def mean_exit(module: JEIGates, found: FitData, t: float = 0.5) -> float:
    scalars = read_stored(module, found.pooled, found.logits).scalars
    held = HeldOut(found.logits, found.labels, np.ones(found.logits.shape[:2]), "h", scalars)
    return float(replay_held_out(make_policy("jei-gates", t=t), held).exit.mean())


def test_dear_inference_leaves_earlier() -> None:
    free, dear = (
        mean_exit(JEIGates.fitted(data(), JEIGatesSettings(ce_ic_tradeoff=price))[0], data(seed=1))
        for price in (0.0, 3.0)
    )
    assert dear < free - 0.2


def test_confident_texts_are_let_go() -> None:
    module, _ = JEIGates.fitted(data(), JEIGatesSettings(train_heads=False, epochs=40))
    with torch.inference_mode():
        sure, unsure = (torch.sigmoid(module.gates[0](features(torch.tensor([x])))) for x in ([6.0, -6.0], [0.1, 0.0]))
    assert float(sure) > float(unsure) + 0.3


def test_heads_mend_the_early_exits_and_leave_exit_k_alone() -> None:
    module, _ = JEIGates.fitted(data(), JEIGatesSettings(epochs=20, head_learning_rate=0.02))
    new = data(seed=1)
    better = read_stored(module, new.pooled, new.logits).logits
    np.testing.assert_array_equal(better[:, -1], new.logits[:, -1])
    labels = torch.from_numpy(new.labels)
    before, after = (cross_entropies(torch.from_numpy(x), labels).mean(dim=0)[:-1] for x in (new.logits, better))
    assert (after < before - 0.02).all()


def test_heads_start_as_the_frozen_ones_and_gates_alone_keep_them() -> None:
    found = data(20)
    torch.manual_seed(0)
    fresh = make_module("jei-gates", ModuleShape(3, 2, 2))
    np.testing.assert_array_equal(read_stored(fresh, found.pooled, found.logits).logits, found.logits)
    gates_only, report = JEIGates.fitted(found, JEIGatesSettings(train_heads=False))
    np.testing.assert_array_equal(read_stored(gates_only, found.pooled, found.logits).logits, found.logits)
    assert set(report) == {"gate_loss"}
    assert sum(p.numel() for p in gates_only.parameters()) == 2 * 5


def test_where_exit_k_is_always_best_the_gates_stay_shut() -> None:
    found = data()
    wrong = found.logits.copy()
    sign = np.where(found.labels, 1, -1)
    wrong[:, :-1] = 3 * np.stack([sign, -sign], axis=-1)[:, None]
    wrong[:, -1] = 3 * np.stack([-sign, sign], axis=-1)
    shut = FitData(found.pooled, wrong, found.labels, found.costs)
    assert mean_exit(JEIGates.fitted(shut, JEIGatesSettings(train_heads=False, epochs=40))[0], shut) == 3


def test_macs_by_hand() -> None:
    # A gate of 4 inputs and a head correction of 8 x 2 before exit K.
    assert make_module("jei-gates", ModuleShape(3, 2, 8)).macs().tolist() == [20, 20, 0]
    assert make_module("jei-gates", ModuleShape(3, 2, 8), train_heads=False).macs().tolist() == [4, 4, 0]


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"ce_ic_tradeoff": -1}, {"head_learning_rate": 0}])
def test_impossible_settings_are_refused(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_settings("jei-gates", **wrong)
