"""Calibrated max probability: scaled by hand, temperatures learned and kept, models with other exits refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy, replay
from robustexit.exits.calibration import Target, calibrate
from robustexit.exits.temperature import fit_temperatures


def held_out(scales: tuple[float, ...], rows: int = 2000) -> HeldOut:
    """Exits whose logits are those that the labels were drawn from, times a factor."""
    rng = np.random.default_rng(3)
    base = rng.normal(size=(rows, len(scales), 3)) * np.linspace(1, 2, len(scales))[None, :, None]
    p = softmax(base[:, -1], axis=-1)
    labels = (p.cumsum(-1) > rng.random((rows, 1))).argmax(-1)
    base[:, :-1] = base[:, -1:] + rng.normal(size=base[:, :-1].shape)
    logits = (base * np.asarray(scales)[None, :, None]).astype(np.float32)
    costs = np.tile(np.arange(1, len(scales) + 1) / len(scales), (rows, 1))
    return HeldOut(logits, labels, costs, "h")


def test_by_hand() -> None:
    # softmax(log 4, 0) = (.8, .2); at temperature 2 (2/3, 1/3); at temperature 1/2 (16/17, 1/17).
    logits = np.log([[[4.0, 1.0], [4.0, 1.0]]])
    policy = make_policy("calibrated-max-probability", t=0.75, temperatures=[2.0, 0.5])
    result = replay(policy, logits)
    assert result.exit.tolist() == [2]
    np.testing.assert_allclose(result.probabilities, [[16 / 17, 1 / 17]], rtol=1e-6)
    assert replay(make_policy("calibrated-max-probability", t=0.66, temperatures=[2.0, 0.5]), logits).exit == [1]


def test_unit_temperatures_are_max_probability() -> None:
    data = held_out((1.0, 1.0, 1.0), 200)
    for t in (0.4, 0.6, 0.9):
        scaled = replay(make_policy("calibrated-max-probability", t=t, temperatures=(1.0, 1.0, 1.0)), data.logits)
        plain = replay(make_policy("max-probability", t=t), data.logits)
        np.testing.assert_array_equal(scaled.exit, plain.exit)
        np.testing.assert_array_equal(scaled.probabilities, plain.probabilities)


def test_temperatures_are_learned_once_and_stand_in_the_parameters() -> None:
    data = held_out((3.0, 1.0, 0.5))
    found = calibrate("calibrated-max-probability", Target(speedup=1.4), data)
    np.testing.assert_allclose(found.parameters["temperatures"], fit_temperatures(data.logits, data.labels))
    assert found.parameters["temperatures"][0] > 2  # an overconfident exit is cooled
    assert found.reached_speedup == pytest.approx(1.4, abs=0.05)
    given = make_policy("calibrated-max-probability", t=0.5, temperatures=(1.0, 2.0, 3.0))
    assert given.fitted(data) == given


def test_missing_or_foreign_temperatures_are_refused() -> None:
    logits = np.zeros((1, 3, 2))
    with pytest.raises(ConfigError, match="needs temperatures: give it, or calibrate"):
        replay(make_policy("calibrated-max-probability", t=0.5), logits)
    with pytest.raises(ConfigError, match=r"expected 3 values of temperatures.*got 2"):
        replay(make_policy("calibrated-max-probability", t=0.5, temperatures=(1.0, 1.0)), logits)
    with pytest.raises(ConfigError, match="above 0"):
        make_policy("calibrated-max-probability", t=0.5, temperatures=(1.0, 0.0))
    with pytest.raises(ConfigError, match="expected a list of numbers"):
        make_policy("calibrated-max-probability", t=0.5, temperatures=1.0)
    assert make_policy("calibrated-max-probability", t=1.01).inert_reason(6, 2)
