"""The exemplar bank: who enters, cosines by hand, classes without an exemplar, how many are compared."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.exemplar_bank import NO_EXEMPLAR, ExemplarBank
from robustexit.training.losses import true_class_probabilities

SURE = float(np.log(19))  # against one other class: a probability of .95


def data_of(states, margins, labels, classes: int = 2) -> FitData:
    """One exit or more; the true class leads every other by a margin of logits."""
    pooled = np.asarray(states, dtype=np.float32)
    labels = np.asarray(labels, dtype=np.int64)
    pooled = pooled[:, None] if pooled.ndim == 2 else pooled
    logits = np.zeros((*pooled.shape[:2], classes), dtype=np.float32)
    logits[np.arange(len(labels)), :, labels] = np.asarray(margins, dtype=np.float32).reshape(len(labels), -1)
    return FitData(pooled, logits, labels, np.arange(1, pooled.shape[1] + 1) / pooled.shape[1])


def fit(data: FitData, seed: int = 0, **options) -> ExemplarBank:
    return ExemplarBank.fitted(data, make_settings("exemplar-bank", **options), seed)[0]


def cosines(module: ExemplarBank, states, answers, classes: int = 2) -> list[float]:
    """Read states [N, D] at a model with one exit that answers `answers`."""
    pooled = np.asarray(states, dtype=np.float32)[:, None]
    logits = np.eye(classes, dtype=np.float32)[np.asarray(answers)][:, None]
    read = read_stored(module, pooled, logits)
    np.testing.assert_array_equal(read.logits, logits)
    return read.scalars["cosine"][:, 0].tolist()


def test_confident_right_states_enter_their_banks() -> None:
    """The second text is unsure, the third sure and wrong, the fourth sure at exit 2 alone."""
    states = np.arange(1, 21, dtype=np.float32).reshape(5, 2, 2)
    found = data_of(states, [[SURE, SURE], [0.5, 0.5], [-SURE, -SURE], [0.5, SURE], [SURE, SURE]], [0, 0, 0, 0, 1])
    module, report = ExemplarBank.fitted(found)
    assert module.filled.tolist() == [[1, 1], [2, 1]]
    assert report == {"exemplars": 1.25, "empty_share": 0.0}
    assert module.bank.shape == (2, 2, 2, 2)  # no longer than the fullest
    unit = states / np.linalg.norm(states, axis=-1, keepdims=True)
    np.testing.assert_allclose(module.bank[0, 0, :1], unit[[0], 0], rtol=1e-6)
    np.testing.assert_allclose(module.bank[1, 0], unit[[0, 3], 1], rtol=1e-6)
    np.testing.assert_allclose(module.bank[1, 1, :1], unit[[4], 1], rtol=1e-6)


def test_every_exit_compares_with_its_own_bank() -> None:
    states = np.array([[[1, 0], [1, 0]], [[0, 1], [0, 1]], [[1, 1], [1, 1]]])
    module = fit(data_of(states, [[SURE, SURE], [0.5, SURE], [SURE, SURE]], [0, 0, 1]))
    assert module.filled.tolist() == [[1, 1], [2, 1]]
    logits = np.zeros((2, 2, 2), dtype=np.float32)  # class 0
    read = read_stored(module, np.array([[[0, 2], [0, 2]], [[-1, 0], [-3, 0]]], dtype=np.float32), logits)
    assert read.scalars["cosine"].tolist() == [[0, 1], [-1, 0]]


def test_a_low_threshold_takes_no_wrong_answers() -> None:
    found = data_of([[1, 0], [0, 1], [1, 1]], [0.1, -0.1, 0.1], [0, 0, 1])
    assert fit(found, confident=0.0).filled.tolist() == [[1, 1]]


def test_the_threshold_is_met_by_equality() -> None:
    found = data_of([[1, 0], [0, 1]], [SURE, SURE], [0, 1])
    quality = float(true_class_probabilities(torch.from_numpy(found.logits), torch.from_numpy(found.labels))[0, 0])
    assert fit(found, confident=quality).filled.tolist() == [[1, 1]]
    with pytest.raises(ConfigError, match="lower confident"):
        fit(found, confident=quality + 1e-6)


def test_cosine_to_the_nearest_exemplar_of_the_answer_by_hand() -> None:
    module = fit(data_of([[2, 0], [0, 5], [-1, 0]], [SURE] * 3, [0, 0, 1]))
    states = [[3, 4], [4, 3], [3, 4], [0, 0], [-7, 0], [1, -1]]
    found = cosines(module, states, [0, 0, 1, 0, 1, 0])
    assert found == pytest.approx([0.8, 0.8, -0.6, 0.0, 1.0, np.sqrt(0.5)], abs=1e-6)


def test_mean_of_the_nearest_by_hand() -> None:
    """Class 1 holds one exemplar: the mean is over that one."""
    data = data_of([[1, 0], [0, 1], [-1, 0], [0, 1]], [SURE] * 4, [0, 0, 0, 1])
    state = [[3, 4], [3, 4]]
    assert cosines(fit(data, nearest=2), state, [0, 1]) == pytest.approx([0.7, 0.8], abs=1e-6)
    assert cosines(fit(data, nearest=3), state, [0, 1]) == pytest.approx([0.8 / 3, 0.8], abs=1e-6)
    assert cosines(fit(data, nearest=9), state, [0, 1]) == pytest.approx([0.8 / 3, 0.8], abs=1e-6)


def test_a_class_without_exemplars_is_far_from_everything() -> None:
    data = data_of([[1, 0], [0, 1]], [SURE, SURE], [0, 2], classes=3)
    module, report = ExemplarBank.fitted(data)
    assert module.filled.tolist() == [[1, 0, 1]]
    assert report["empty_share"] == pytest.approx(1 / 3)
    assert cosines(module, [[1, 0], [0, 1], [0, 1]], [0, 1, 2], classes=3) == [1.0, NO_EXEMPLAR, 1.0]


def test_before_the_fit_nothing_is_near() -> None:
    module = make_module("exemplar-bank", ModuleShape(1, 2, 3), bank_size=10**9)
    assert cosines(module, [[1, 2, 3], [0, 0, 0]], [0, 1]) == [NO_EXEMPLAR, NO_EXEMPLAR]


def test_a_full_bank_is_a_seeded_draw() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(40, 3))
    data = data_of(states, [SURE] * 40, np.arange(40) % 2)
    every, some = fit(data, bank_size=100), fit(data, bank_size=5)
    assert every.filled.tolist() == [[20, 20]]
    assert every.bank.shape[2] == 20
    assert some.filled.tolist() == [[5, 5]]
    for class_ in (0, 1):
        stored = {tuple(state) for state in every.bank[0, class_].tolist()}
        assert {tuple(state) for state in some.bank[0, class_].tolist()} < stored
    assert torch.equal(fit(data, bank_size=5).bank, some.bank)
    assert not torch.equal(fit(data, seed=1, bank_size=5).bank, some.bank)


states_of_three = arrays(np.float32, (4, 3), elements=st.floats(-5, 5, width=16))


@settings(max_examples=30, deadline=None)
@given(states_of_three, st.floats(0.1, 10), st.integers(1, 9))
def test_scale_does_not_matter_and_more_neighbours_are_no_nearer(states, scale, nearest) -> None:
    rng = np.random.default_rng(1)
    data = data_of(rng.normal(size=(12, 3)), [SURE] * 12, np.arange(12) % 2)
    answers = [0, 1, 0, 1]
    one = np.asarray(cosines(fit(data), states, answers))
    several = np.asarray(cosines(fit(data, nearest=nearest), states, answers))
    assert (np.abs(one) <= 1).all()
    assert (several <= one + 1e-6).all()
    np.testing.assert_allclose(cosines(fit(data), scale * states, answers), one, atol=1e-5)


def test_stored_texts_find_themselves_at_every_exit() -> None:
    rng = np.random.default_rng(2)
    data = data_of(rng.normal(size=(30, 4, 6)), np.full((30, 4), SURE), np.arange(30) % 2)
    read = read_stored(fit(data), data.pooled, data.logits).scalars["cosine"]
    np.testing.assert_allclose(read, 1.0, atol=1e-6)
    shifted = read_stored(fit(data), np.roll(data.pooled, 1, axis=1), data.logits).scalars["cosine"]
    assert (shifted < 0.999).all()  # an exit has a bank of its own


def test_settings_are_checked() -> None:
    for wrong in ({"bank_size": 0}, {"confident": 1.5}, {"nearest": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make_settings("exemplar-bank", **wrong)


def test_macs_are_the_inner_products_with_the_fullest_class() -> None:
    data = data_of(np.eye(4)[[0, 1, 2]], [SURE] * 3, [0, 0, 1])
    assert fit(data).macs().tolist() == [2 * 4]


def test_the_mean_of_several_does_not_depend_on_a_rows_place() -> None:
    rng = np.random.default_rng(3)
    data = data_of(rng.normal(size=(74, 1, 10)), [SURE] * 74, np.arange(74) % 2)
    module = fit(data, nearest=5)
    expected = read_stored(module, data.pooled, data.logits).scalars["cosine"]
    order = rng.permutation(74)
    found = read_stored(module, data.pooled[order], data.logits[order]).scalars["cosine"]
    np.testing.assert_array_equal(found, expected[order])
