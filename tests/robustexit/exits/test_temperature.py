"""Temperatures: the optimum of the likelihood, recovered from drawn labels, defined where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from robustexit.errors import ModelError
from robustexit.exits.temperature import RANGE, calibration_error, fit_temperatures, negative_log_likelihood


def drawn(temperatures: tuple[float, ...], rows: int = 4000, classes: int = 3, seed: int = 0) -> tuple:
    """Logits whose labels are drawn from softmax(z / T): T is what a fit must find."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(rows, classes)) * 1.5
    p = softmax(base, axis=-1)
    labels = (p.cumsum(-1) > rng.random((rows, 1))).argmax(-1)
    return np.stack([base * t for t in temperatures], axis=1), labels


def test_recovers_the_temperature_labels_were_drawn_at() -> None:
    logits, labels = drawn((0.5, 1.0, 3.0))
    found = fit_temperatures(logits, labels)
    np.testing.assert_allclose(found, [0.5, 1.0, 3.0], rtol=0.06)
    before, after = calibration_error(logits, labels), calibration_error(logits / found[None, :, None], labels)
    assert before[0] > 0.1
    assert before[2] > 0.1
    assert (after < 0.03).all()


def test_by_hand() -> None:
    # Two classes, logits (a, 0), right 3 times of 4: softmax(a / T) = 3/4, so a / T = log 3.
    logits = np.tile(np.array([[[2.0, 0.0]]]), (4, 1, 1))
    assert fit_temperatures(logits, [0, 0, 0, 1])[0] == pytest.approx(2 / np.log(3), rel=1e-9)
    # Confidence .8808 against accuracy .75, all in one bin.
    assert calibration_error(logits, [0, 0, 0, 1])[0] == pytest.approx(1 / (1 + np.exp(-2)) - 0.75)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0.7, 1.4))
def test_no_other_temperature_fits_better(seed, factor) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=(30, 2, 4)) * 3, rng.integers(0, 4, size=30)
    found = fit_temperatures(logits, labels)
    other = np.clip(found * factor, *RANGE)
    best = negative_log_likelihood(logits / found[None, :, None], labels)
    assert (best <= negative_log_likelihood(logits / other[None, :, None], labels) + 1e-9).all()


def test_degenerate_data_has_a_defined_answer() -> None:
    right = np.tile(np.array([[[1.0, 0.0]]]), (5, 1, 1))
    assert fit_temperatures(right, [0] * 5)[0] == pytest.approx(RANGE[0])  # always right: as sharp as allowed
    assert fit_temperatures(right, [1] * 5)[0] == pytest.approx(RANGE[1])  # always wrong: as flat as allowed
    assert fit_temperatures(np.zeros((5, 1, 3)), [0, 1, 2, 0, 1])[0] == 1.0
    assert fit_temperatures(np.full((1, 1, 2), 1e4), [0])[0] == 1.0
    assert np.isfinite(fit_temperatures(right * 1e30, [0, 0, 0, 1, 1])).all()


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 2, 2)), []),
        (np.zeros((2, 2)), [0, 1]),
        (np.zeros((2, 1, 2)), [0]),
        (np.full((1, 1, 2), np.nan), [0]),
        (np.zeros((1, 1, 2)), [2]),
    ],
)
def test_what_cannot_be_fitted_is_refused(logits, labels) -> None:
    with pytest.raises(ModelError, match="expected"):
        fit_temperatures(logits, labels)
    with pytest.raises(ModelError, match="expected"):
        calibration_error(logits, labels)
