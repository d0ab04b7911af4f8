"""Class means and DE3's metric: distances by hand, the means, the anchor, what the metric learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.class_means import DE3, ClassMeans, ClassMeansSettings, DE3Settings, squared_distances


def data_of(pooled: np.ndarray, labels: np.ndarray, classes: int) -> FitData:
    n, exits, _ = pooled.shape
    logits = np.zeros((n, exits, classes), dtype=np.float32)
    return FitData(pooled.astype(np.float32), logits, labels.astype(np.int64), np.arange(1, exits + 1) / exits)


def noisy(n: int, seed: int, width: int = 10) -> FitData:
    """Two classes apart along one direction, under ten times larger noise along all others."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    pooled = 5 * rng.normal(size=(n, 2, width))
    pooled[:, :, 0] = np.where(labels, 1.0, -1.0)[:, None] + 0.5 * rng.normal(size=(n, 2))
    return data_of(pooled, labels, 2)


def test_means_and_distances_by_hand() -> None:
    pooled = np.array([[[0.0, 0]], [[2, 0]], [[4, 4]], [[4, 6]], [[9, 0]]])
    module, report = ClassMeans.fitted(data_of(pooled, np.array([0, 0, 1, 1, 2]), 3))
    np.testing.assert_array_equal(module.prototypes[0], [[1, 0], [4, 5], [9, 0]])
    assert report == {}
    read = read_stored(module, np.array([[[1, 4]], [[9, 0]]], dtype=np.float32), np.zeros((2, 1, 3), dtype=np.float32))
    np.testing.assert_allclose(read.scalars["r1"][:, 0], [np.sqrt(10), 0], rtol=1e-6)
    np.testing.assert_allclose(read.scalars["r2"][:, 0], [4, np.sqrt(50)], rtol=1e-6)
    np.testing.assert_array_equal(read.logits, 0)


def test_the_anchor_may_be_the_heads_answer() -> None:
    pooled = np.array([[[0.0]], [[1.0]], [[5.0]]])
    module, _ = ClassMeans.fitted(data_of(pooled, np.arange(3), 3), ClassMeansSettings(anchor="answer"))
    logits = np.array([[[0, 0, 1]], [[1, 0, 0]]], dtype=np.float32)
    read = read_stored(module, np.array([[[0.25]], [[0.25]]], dtype=np.float32), logits)
    np.testing.assert_allclose(read.scalars["r1"][:, 0], [4.75, 0.25])
    np.testing.assert_allclose(read.scalars["r2"][:, 0], [0.25, 0.75])


def test_means_hold_for_more_texts_than_are_summed_at_a_time() -> None:
    rng = np.random.default_rng(0)
    pooled, labels = rng.normal(size=(2500, 2, 3)) + 100, np.arange(2500) % 7
    module, _ = ClassMeans.fitted(data_of(pooled, labels, 7))
    for label in range(7):
        expected = pooled[labels == label].mean(axis=0)
        np.testing.assert_allclose(module.prototypes[:, label], expected, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(points=arrays(np.float32, (3, 5), elements=st.floats(-100, 100, width=32)))
def test_distances_are_exact_at_a_prototype_and_symmetric(points) -> None:
    values = torch.from_numpy(points)
    found = squared_distances(values, values)
    assert (found.diagonal() == 0).all()
    torch.testing.assert_close(found, found.T)
    torch.testing.assert_close(
        found.sqrt(), torch.cdist(values.double(), values.double()).float(), rtol=1e-4, atol=1e-4
    )


def test_what_cannot_teach_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of class 1, 3 among 2"):
        ClassMeans.fitted(data_of(np.zeros((2, 1, 3)), np.array([0, 2]), 4))
    with pytest.raises(ConfigError, match="two prototypes"):
        DE3.fitted(data_of(np.zeros((2, 1, 3)), np.array([0, 0]), 1))


def nearest_is_right(module: ClassMeans, data: FitData) -> np.ndarray:
    """Whether the nearest prototype is the label's, by asking the module how far that one is."""
    answer = np.zeros((*data.pooled.shape[:2], 2), dtype=np.float32)
    np.put_along_axis(answer, np.broadcast_to(data.labels[:, None, None], (*answer.shape[:2], 1)), 1, axis=2)
    anchored = type(module)(module.shape, type(module).Settings(anchor="answer"))
    anchored.load_state_dict(module.state_dict())
    scalars = read_stored(anchored, data.pooled, answer).scalars
    right: np.ndarray = (scalars["r1"] < scalars["r2"]).mean(axis=0)
    return right


def test_the_learned_metric_looks_past_the_noise() -> None:
    train, test = noisy(1500, 0), noisy(1500, 1)
    plain, learned = ClassMeans.fitted(train)[0], DE3.fitted(train, DE3Settings(learning_rate=1e-2))[0]
    assert (nearest_is_right(learned, test) > 0.94).all()
    # The means carry little noise, so plain distances are right too, but their ratio says nothing: all near 1.
    ratio = {}
    for module in (plain, learned):
        scalars = read_stored(module, test.pooled, test.logits).scalars
        ratio[module.name] = scalars["r1"] / scalars["r2"]
    assert np.median(ratio["class-means"]) > 0.9
    assert np.median(ratio["de3"]) < 0.6


def test_the_metric_does_not_depend_on_the_states_scale() -> None:
    small, large = noisy(300, 0), noisy(300, 0)
    large = FitData(1024 * large.pooled, large.logits, large.labels, large.costs)
    one, other = DE3.fitted(small)[1], DE3.fitted(large, DE3Settings(learning_rate=1e-3 / 1024, weight_decay=10.24))[1]
    assert other["prototypical_loss"] == pytest.approx(one["prototypical_loss"], rel=1e-3)


def test_macs() -> None:
    assert make_module("class-means", ModuleShape(2, 3, 100)).macs().tolist() == [300, 300]
    assert make_module("de3", ModuleShape(2, 3, 100), dim=10).macs().tolist() == [1000 + 30, 1000 + 30]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="euclidean, linear"):
        make_module("class-means", ModuleShape(2, 3, 4), metric="cosine")
    with pytest.raises(ConfigError, match="nearest, answer"):
        make_module("de3", ModuleShape(2, 3, 4), anchor="first")
