"""CALM's probe: balance and geometric likelihood by hand, agreement is learned, labels are not looked at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustexit.errors import ConfigError
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.calm_meta import CalmMeta, CalmMetaSettings, balance
from robustexit.modules.leaving import first_exit_log_probabilities


def data(n: int = 600, seed: int = 0, agree: bool | None = None) -> FitData:
    """The first coordinate of a state says whether the exit agrees with the last one (or all agree, or none do)."""
    rng = np.random.default_rng(seed)
    last = rng.integers(0, 3, n)
    pooled = rng.normal(size=(n, 4, 3)).astype(np.float32)
    agrees = pooled[:, :, 0] > 0 if agree is None else np.full((n, 4), agree)
    answers = np.where(agrees, last[:, None], (last[:, None] + 1) % 3)
    answers[:, -1] = last
    return FitData(pooled, np.eye(3, dtype=np.float32)[answers], rng.integers(0, 3, n), np.arange(1, 5) / 4)


def test_balance_by_hand() -> None:
    agrees = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    # Exit 1: three agree and weigh 1/4 each, one does not and weighs 3/4. Exit 2 has one kind only.
    assert balance(agrees).tolist() == [[0.25, 0], [0.25, 0], [0.25, 0], [0.75, 0]]
    assert balance(torch.ones(3, 2)).tolist() == [[1, 1]] * 3
    assert balance(torch.zeros(2, 1)).tolist() == [[1], [1]]


def test_first_exit_probabilities_by_hand() -> None:
    odds = torch.tensor([[math.log(3), 0.0]])  # leave with 3/4, then with 1/2
    expected = [[3 / 4, 1 / 8, 1 / 8]]
    np.testing.assert_allclose(first_exit_log_probabilities(odds).exp(), expected, rtol=1e-6)
    assert first_exit_log_probabilities(torch.zeros(2, 0)).tolist() == [[0.0], [0.0]]


@pytest.mark.parametrize("objective", ["independent", "geometric"])
@pytest.mark.parametrize("shared", [True, False])
def test_agreement_is_learned(objective, shared) -> None:
    module, _ = CalmMeta.fitted(data(), CalmMetaSettings(batch_size=16, objective=objective, shared=shared))
    new = data(seed=1)
    found = read_stored(module, new.pooled, new.logits).scalars["agreement"]
    agrees = new.logits.argmax(-1) == new.logits.argmax(-1)[:, -1:]
    assert ((found > 0.5) == agrees).mean() > 0.95
    assert (found[:, -1] == 1).all()
    assert sum(p.numel() for p in module.parameters()) == 4 * (1 if shared else 3)


def test_labels_are_not_looked_at() -> None:
    one = data()
    other = FitData(one.pooled, one.logits, (one.labels + 1) % 3, one.costs)
    first, second = (CalmMeta.fitted(found)[0].state_dict() for found in (one, other))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("agree", [True, False])
def test_exits_of_one_mind_are_learned_unweighted(agree) -> None:
    module, _ = CalmMeta.fitted(data(agree=agree), CalmMetaSettings(epochs=60, batch_size=16))
    found = read_stored(module, data(agree=agree).pooled, data(agree=agree).logits).scalars["agreement"][:, :-1]
    assert (found > 0.8).all() if agree else (found < 0.2).all()


def test_unknown_objective_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'geometric'"):
        make_settings("calm-meta", objective="geometrical")


def test_macs_are_one_inner_product_before_exit_k() -> None:
    assert make_module("calm-meta", ModuleShape(3, 2, 8)).macs().tolist() == [8, 8, 0]


@torch.no_grad()
def test_unshared_probes_stand_at_their_exits() -> None:
    torch.manual_seed(0)
    module = make_module("calm-meta", ModuleShape(4, 2, 5), shared=False)
    pooled = torch.randn(3, 4, 5)
    read = read_stored(module, pooled.numpy(), np.zeros((3, 4, 2), dtype=np.float32)).scalars["agreement"]
    for i, probe in enumerate(module.probes):
        expected = torch.sigmoid(pooled[:, i] @ probe.weight[0] + probe.bias)
        torch.testing.assert_close(torch.from_numpy(read[:, i]), expected)
    assert read[:, 3].tolist() == [1, 1, 1]
