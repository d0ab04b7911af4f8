"""Zero Time Waste: the ensemble against numbers by hand, the cascade, the fit, what exits together know."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from robustexit.errors import ConfigError
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.ztw import ZeroTimeWaste, ZeroTimeWasteSettings


def parts(n: int, exits: int = 4, width: int = 8, seed: int = 0) -> FitData:
    """Every exit sees one feature of its own; the label is the sign of all features' sum. Heads know only their own."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, exits))
    labels = (features.sum(axis=1) > 0).astype(np.int64)
    pooled = 0.1 * rng.normal(size=(n, exits, width))
    pooled[:, np.arange(exits), 0] = features
    logits = np.stack([-features, features], axis=-1)
    costs = np.arange(1, exits + 1) / exits
    return FitData(pooled.astype(np.float32), logits.astype(np.float32), labels, costs)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (logits.argmax(-1) == labels[:, None]).mean(axis=0)


def test_the_ensemble_is_the_papers() -> None:
    """q_2 by hand: p_1 = (.8, .2), p_2 = (.5, .5), weights 1 and 3, bias (0, log 2)."""
    module = ZeroTimeWaste(ModuleShape(3, 2, 1), ZeroTimeWasteSettings(cascade=False))
    with torch.no_grad():
        module.weights[1].copy_(torch.tensor([0.0, math.log(3)]))
        module.biases[1].copy_(torch.tensor([0.0, math.log(2)]))
    state, pooled = module.start(1), torch.zeros(1, 1)
    state, _, _ = module.read(state, 1, pooled, torch.tensor([[0.8, 0.2]]).log())
    _, logits, scalars = module.read(state, 2, pooled, torch.tensor([[0.5, 0.5]]).log())
    unnormalised = np.array([0.8**0.5 * 0.5**1.5, 2 * 0.2**0.5 * 0.5**1.5])
    np.testing.assert_allclose(logits.detach().exp()[0], unnormalised / unnormalised.sum(), rtol=1e-6)
    assert not scalars


def test_a_cascade_head_reads_the_normalised_logits_before_it() -> None:
    """The authors feed LayerNorm(z_{i-1}); log p_{i-1} differs from z_{i-1} by a shift that LayerNorm removes."""
    torch.manual_seed(0)
    module = ZeroTimeWaste(ModuleShape(3, 3, 4), ZeroTimeWasteSettings())
    pooled = torch.randn(5, 3, 4)
    z1 = module.heads[0].linear(pooled[:, 0])
    z2 = module.heads[1].linear(torch.cat([pooled[:, 1], functional.layer_norm(z1, (3,))], dim=-1))
    log_p = module._heads_log_p(pooled, torch.zeros(5, 3, 3))
    torch.testing.assert_close(log_p[:, 0], torch.log_softmax(z1, -1))
    torch.testing.assert_close(log_p[:, 1], torch.log_softmax(z2, -1))


def test_the_gradient_stops_at_the_head_before() -> None:
    module = ZeroTimeWaste(ModuleShape(3, 3, 4), ZeroTimeWasteSettings())
    module._heads_log_p(torch.randn(5, 3, 4), torch.zeros(5, 3, 3))[:, 1, 0].sum().backward()
    assert not module.heads[0].linear.weight.grad.any()
    assert module.heads[1].linear.weight.grad.any()


def test_exits_together_beat_every_single_one() -> None:
    train, test = parts(1500), parts(1500, seed=1)
    module, report = ZeroTimeWaste.fitted(train)
    logits = read_stored(module, test.pooled, test.logits).logits
    combined, single = accuracy(logits, test.labels), accuracy(test.logits, test.labels)
    assert combined[2] > single[:3].max() + 0.08
    assert (np.diff(combined[:3]) > 0.02).all()
    assert report["ensemble_loss"] <= report["cascade_loss"]


def test_ensembles_of_the_models_own_heads() -> None:
    test = parts(1500, seed=1)
    module, report = ZeroTimeWaste.fitted(parts(1500), ZeroTimeWasteSettings(cascade=False))
    logits = read_stored(module, test.pooled, test.logits).logits
    assert accuracy(logits, test.labels)[2] > accuracy(test.logits, test.labels)[:3].max() + 0.08
    assert set(report) == {"ensemble_loss"}


def test_the_last_exit_keeps_the_models_logits_unless_it_is_asked_to_join() -> None:
    data = parts(1500)
    own = read_stored(ZeroTimeWaste.fitted(data)[0], data.pooled, data.logits).logits
    np.testing.assert_array_equal(own[:, -1], data.logits[:, -1])
    joined = ZeroTimeWaste.fitted(data, ZeroTimeWasteSettings(last="ensemble"))[0]
    logits = read_stored(joined, data.pooled, data.logits).logits
    assert accuracy(logits, data.labels)[3] > accuracy(data.logits, data.labels)[3] + 0.1
    np.testing.assert_allclose(np.exp(logits).sum(-1), 1, rtol=1e-5)


def test_one_exit_is_the_model_itself() -> None:
    data = parts(40, exits=1)
    module, report = ZeroTimeWaste.fitted(data)
    assert report == {}
    np.testing.assert_array_equal(read_stored(module, data.pooled, data.logits).logits, data.logits)


def test_macs_are_those_of_the_heads() -> None:
    module = make_module("ztw", ModuleShape(3, 4, 12))
    assert module.macs().tolist() == [12 * 4, (12 + 4) * 4, 0]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="own, ensemble"):
        make_settings("ztw", last="all")
    with pytest.raises(ConfigError, match="whole number"):
        make_settings("ztw", epochs=0)
