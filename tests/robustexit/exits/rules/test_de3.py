"""DE3 and class-means: the ratios by hand, their limits, their order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from robustexit.errors import ConfigError
from robustexit.exits import make_policy
from robustexit.exits.replay import replay
from robustexit.exits.rules.de3 import DE3, distance_ratio

distances = st.floats(0, 1e4, width=32)


def ratio(r1: float, r2: float) -> float:
    return float(distance_ratio(torch.tensor([float(r1)]), torch.tensor([float(r2)])))


def edr(lam: float, dr: float, h: float) -> float:
    return float(DE3(t=0.5, lam=lam).combined(torch.tensor([float(dr)]), torch.tensor([float(h)])))


def test_distance_ratio_by_hand() -> None:
    assert ratio(1, 4) == pytest.approx(0.125)  # (1 - 3/4) / 2
    assert ratio(4, 1) == pytest.approx(0.875)
    assert ratio(0, 3) == 0
    assert ratio(3, 0) == 1
    assert ratio(2, 2) == ratio(0, 0) == 0.5


@given(distances, distances, distances)
def test_distance_ratio_lies_in_the_unit_interval_and_rises_with_r1(a, b, c) -> None:
    low, high = sorted((a, b))
    assert 0 <= ratio(low, c) <= ratio(high, c) <= 1
    assert ratio(a, b) + ratio(b, a) == pytest.approx(1, abs=1e-6)


def test_edr_is_the_weighted_harmonic_mean() -> None:
    assert edr(1, 0.25, 0.5) == pytest.approx(2 / (1 / 0.25 + 1 / 0.5))
    assert edr(3, 0.25, 0.5) == pytest.approx(4 / (3 / 0.25 + 1 / 0.5))
    assert edr(1e-6, 0.25, 0.5) == pytest.approx(0.5, rel=1e-4)
    assert edr(1e6, 0.25, 0.5) == pytest.approx(0.25, rel=1e-4)
    for dr, h in ((0, 0.5), (0.5, 0), (0, 0)):
        assert edr(1, dr, h) == 0


@given(st.floats(0.01, 100), st.floats(0, 1, width=32), st.floats(0, 1, width=32))
def test_edr_lies_between_its_parts(lam, dr, h) -> None:
    assert min(dr, h) - 1e-6 <= edr(lam, dr, h) <= max(dr, h) + 1e-6


def test_de3_leaves_by_both() -> None:
    """Exit 1 is sure but between the prototypes, exit 2 near one and sure: EDR .419 and .127."""
    logits = np.log(np.array([[[0.9, 0.1], [0.9, 0.1], [0.5, 0.5]]], dtype=np.float32))
    scalars = {"r1": np.array([[8.0, 1.5, 1]]), "r2": np.array([[10.0, 10.0, 1]])}
    h = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1)) / math.log(2)
    first, second = 2 / (1 / 0.4 + 1 / h), 2 / (1 / 0.075 + 1 / h)
    assert first > 0.4 > 0.2 > second
    assert replay(make_policy("de3", t=0.2), logits, scalars).exit.tolist() == [2]
    assert replay(make_policy("de3", t=first + 1e-4), logits, scalars).exit.tolist() == [1]
    assert replay(make_policy("de3", t=second - 1e-4), logits, scalars).exit.tolist() == [3]
    assert replay(make_policy("de3", t=0.2, lam=1e-3), logits, scalars).exit.tolist() == [3]  # entropy decides


def test_class_means_looks_at_distances_alone() -> None:
    logits = np.zeros((2, 3, 2), dtype=np.float32)
    scalars = {"r1": np.array([[2.0, 1, 1], [0, 0, 0]]), "r2": np.array([[4.0, 4, 1], [1, 1, 1]])}
    assert replay(make_policy("class-means", t=0.2), logits, scalars).exit.tolist() == [2, 1]
    assert replay(make_policy("class-means", t=0.3), logits, scalars).exit.tolist() == [1, 1]
    assert replay(make_policy("class-means", t=0.1), logits, scalars).exit.tolist() == [3, 1]


def test_parameters_are_checked() -> None:
    for lam in (-1, 0, math.inf, "1"):
        with pytest.raises(ConfigError, match="lam"):
            make_policy("de3", t=0.1, lam=lam)
    assert make_policy("de3", t=0.0).inert_reason(6, 2)
    assert make_policy("class-means", t=0.0).inert_reason(6, 2)
    assert (make_policy("de3", t=0.1).module, make_policy("class-means", t=0.1).module) == ("de3", "class-means")
