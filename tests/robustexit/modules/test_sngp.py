"""SNGP heads: kernel, posterior and mean field against direct computation; far from the data confidence falls."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from robustexit.errors import ConfigError
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.sngp import SNGP, SNGPSettings

WIDTH = 6


def plain_head(pooled: np.ndarray, classes: int = 3) -> np.ndarray:
    """The best linear head there is for `blobs`."""
    depth = np.linspace(0.8, 1.2, pooled.shape[1])[None, :, None]
    logits: np.ndarray = (4 * depth * pooled[:, :, :classes]).astype(np.float32)
    return logits


def blobs(n: int, seed: int, classes: int = 3, exits: int = 2) -> FitData:
    """Classes around corners of a cube, better apart at the deeper exit."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    centres = np.eye(classes, WIDTH) * 4
    depth = np.linspace(0.8, 1.2, exits)[None, :, None]
    pooled = depth * centres[labels][:, None] + rng.normal(size=(n, exits, WIDTH))
    logits = plain_head(pooled, classes)
    return FitData(
        pooled.astype(np.float32), logits.astype(np.float32), labels.astype(np.int64), np.arange(1, exits + 1) / exits
    )


@pytest.fixture(scope="module")
def fitted() -> SNGP:
    return SNGP.fitted(blobs(800, 0), SNGPSettings(gp_hidden_dim=256))[0]


def confidence(logits: np.ndarray) -> np.ndarray:
    mean: np.ndarray = torch.softmax(torch.from_numpy(logits), dim=-1).amax(dim=-1).mean(dim=0).numpy()
    return mean


def away(data: FitData, factor: float) -> np.ndarray:
    """The same texts, `factor` times as far from the middle of all."""
    middle = blobs(800, 0).pooled.mean(axis=0)
    return (middle + factor * (data.pooled - middle)).astype(np.float32)


def test_confidence_falls_far_from_the_data_where_a_plain_heads_rises(fitted) -> None:
    test = blobs(800, 1)
    near, far = (read_stored(fitted, away(test, factor), test.logits) for factor in (1, 6))
    assert (confidence(far.logits) < confidence(near.logits) - 0.2).all()
    assert (far.scalars["variance"].mean(axis=0) > 3 * near.scalars["variance"].mean(axis=0)).all()
    assert (confidence(plain_head(away(test, 6))) > confidence(test.logits)).all()


def test_at_the_data_it_is_close_to_the_plain_head(fitted) -> None:
    test = blobs(800, 1)
    logits = read_stored(fitted, test.pooled, test.logits).logits
    right, plain = ((z.argmax(-1) == test.labels[:, None]).mean(axis=0) for z in (logits, test.logits))
    assert (right >= plain - 0.02).all()
    np.testing.assert_allclose(confidence(logits), confidence(test.logits), atol=0.06)


def test_confidence_falls_in_directions_the_data_never_took(fitted) -> None:
    test = blobs(800, 1)
    aside = test.pooled.copy()
    aside[:, :, WIDTH - 1] += 40
    near, far = read_stored(fitted, test.pooled, test.logits), read_stored(fitted, aside, test.logits)
    assert (confidence(far.logits) < confidence(near.logits) - 0.2).all()
    assert (far.scalars["variance"].min(axis=0) > near.scalars["variance"].mean(axis=0)).all()


def test_features_approximate_the_kernel() -> None:
    torch.manual_seed(0)
    module = SNGP(ModuleShape(1, 2, 4), SNGPSettings(gp_hidden_dim=2000, gp_kernel_scale=1.5))
    points = torch.randn(6, 4)
    phi = module._phi(points[None])[0]
    expected = torch.exp(-torch.cdist(points, points).square() / (2 * 1.5**2))
    torch.testing.assert_close(phi @ phi.T, expected, atol=0.1, rtol=0)


@pytest.mark.parametrize("likelihood", ["binary_logistic", "gaussian"])
def test_variance_and_mean_field_are_the_papers(likelihood) -> None:
    data = blobs(120, 0)
    chosen = SNGPSettings(gp_hidden_dim=32, gp_cov_likelihood=likelihood, gp_mean_field_factor=0.7)
    module, _ = SNGP.fitted(data, chosen)
    for exit in (1, 2):
        at = slice(exit - 1, exit)
        states = torch.from_numpy(data.pooled[:, exit - 1])
        phi = module._phi(module._projected(states[None], module.projection[at], at))[0].double()
        mode = phi @ module.beta[exit - 1].double()
        p = torch.softmax(mode, dim=-1).amax(dim=-1)
        weights = p * (1 - p) if likelihood == "binary_logistic" else torch.ones(120, dtype=torch.float64)
        precision = 0.1 * torch.eye(32, dtype=torch.float64)
        for n in range(120):
            precision += weights[n] * torch.outer(phi[n], phi[n])
        covariance = torch.linalg.inv(precision)
        variance = torch.stack([row @ covariance @ row for row in phi])
        _, logits, scalars = module.read({}, exit, states, torch.zeros(120, 3))
        torch.testing.assert_close(scalars["variance"].double(), variance, rtol=1e-3, atol=1e-5)
        shrunk = mode / torch.sqrt(1 + 0.7 * variance)[:, None]
        torch.testing.assert_close(logits.double(), shrunk, rtol=1e-3, atol=1e-4)


def test_output_weights_are_the_maximum_a_posteriori(fitted) -> None:
    data = blobs(800, 0)
    states = torch.from_numpy(data.pooled[:, 0])
    phi = fitted._phi(fitted._projected(states[None], fitted.projection[:1], slice(0, 1)))[0].double()
    beta = fitted.beta[0].double().requires_grad_()
    loss = functional.cross_entropy(phi @ beta, torch.from_numpy(data.labels)) + 0.1 * beta.square().sum() / (2 * 800)
    (slope,) = torch.autograd.grad(loss, beta)
    assert float(slope.norm()) < 1e-3


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, 1.0, 30.0]))
def test_the_projection_keeps_distances_up_to_its_bound(fitted, seed, scale) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = scale * torch.randn(2, 8, WIDTH, generator=generator)
    before = torch.cdist(states / fitted.scale, states / fitted.scale)
    projected = fitted._projected(states, fitted.projection, slice(None))
    after = torch.cdist(projected, projected)
    assert (after <= 1.95 * before + 1e-4).all()
    assert (after >= 0.05 * before - 1e-4).all()


def test_the_spectral_norm_is_bounded(fitted) -> None:
    assert float(torch.linalg.matrix_norm(fitted.projection, ord=2).max()) <= 0.95 + 1e-5
    fast = SNGP.fitted(blobs(100, 0), SNGPSettings(gp_hidden_dim=16, learning_rate=0.3, spec_norm_bound=0.5))[0]
    np.testing.assert_allclose(torch.linalg.matrix_norm(fast.projection, ord=2), 0.5, rtol=1e-4)


def test_it_is_the_same_for_states_in_other_units() -> None:
    data = blobs(200, 0)
    other = FitData(1024 * data.pooled, data.logits, data.labels, data.costs)
    chosen = SNGPSettings(gp_hidden_dim=32, epochs=1)
    one, two = SNGP.fitted(data, chosen)[0], SNGP.fitted(other, chosen)[0]
    expected = read_stored(one, data.pooled, data.logits).logits
    np.testing.assert_allclose(read_stored(two, other.pooled, data.logits).logits, expected, atol=1e-2)


def test_states_that_are_all_the_same_are_survived() -> None:
    data = blobs(50, 0)
    same = FitData(np.ones_like(data.pooled), data.logits, data.labels, data.costs)
    module, _ = SNGP.fitted(same, SNGPSettings(gp_hidden_dim=16))
    assert np.isfinite(read_stored(module, data.pooled, data.logits).logits).all()


def test_macs() -> None:
    module = make_module("sngp", ModuleShape(2, 4, 12), gp_hidden_dim=52)
    assert module.macs().tolist() == 2 * [12 * 12 + 12 * 52 + 52 * 52 + 52 * 4]


def test_settings_are_checked() -> None:
    for wrong in (
        {"gp_hidden_dim": 0},
        {"spec_norm_bound": 1.5},
        {"gp_cov_likelihood": "poisson"},
        {"gp_kernel_scale": 0.0},
        {"gp_mean_field_factor": -1.0},
    ):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make_module("sngp", ModuleShape(2, 3, 4), **wrong)
    assert SNGPSettings().gp_mean_field_factor == pytest.approx(math.pi / 8)
