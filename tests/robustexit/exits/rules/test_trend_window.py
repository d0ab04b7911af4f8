"""The three windows of ELBERT by hand, and against a plain reading of its public code on two classes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, make_policy, replay
from robustexit.exits.calibration import prototype


def two_classes(*first: float) -> np.ndarray:
    """Logits of one text by the probability of the first class at every exit."""
    return np.log([[[p, 1 - p] for p in first]])


def exit_of(logits: np.ndarray, **parameters: object) -> int:
    return int(replay(make_policy("trend-window", **parameters), logits).exit[0])


def test_the_three_windows_by_hand() -> None:
    logits = two_classes(0.6, 0.4, 0.7, 0.65, 0.75, 0.76, 0.77)
    assert exit_of(logits, d=0, n=3) == 5  # exits 3 to 5 above one half
    assert exit_of(logits, d=0, n=3, m=0.17) == 7  # .65 is not above .67
    assert exit_of(logits, d=0, n=3, mode="monotone") == 6  # .65, .75, .76
    assert exit_of(logits, d=0, n=3, mode="monotone", m=0.2) == 7
    assert exit_of(logits, d=0, n=3, mode="range", r=0.105) == 5  # .65 to .75
    assert exit_of(logits, d=0, n=3, mode="range", r=0.05) == 7
    assert exit_of(logits, d=0.82, n=7) == 5  # H(.75)/log 2 = .811
    assert exit_of(two_classes(0.4, 0.3, 0.2), d=0, n=2, mode="monotone") == 2  # away from one half on the other side
    assert exit_of(two_classes(0.2, 0.3, 0.4), d=0, n=2, mode="monotone") == 3  # towards it


def test_where_equality_falls() -> None:
    longer = two_classes(0.6, 0.4, 0.7, 0.65, 0.75, 0.76, 0.77, 0.9)
    assert exit_of(longer, d=0, n=3, mode="range", r=0.105, m=0.17) == 7  # exits 5 to 7 lie above .67
    level = two_classes(0.7, 0.7, 0.7, 0.9)
    assert exit_of(level, d=0, n=3, mode="monotone") == 3  # it never falls
    assert exit_of(level, d=0, n=3, mode="range", r=0) == 3  # it varies by at most 0
    for mode in ("one-side", "monotone", "range"):
        assert exit_of(np.zeros((1, 4, 2)), d=0, n=3, mode=mode) == 4  # one half is not above one half


def test_with_more_classes_the_leader_must_hold_more_than_half() -> None:
    logits = np.log([[[0.4, 0.3, 0.3], [0.45, 0.3, 0.25], [0.6, 0.2, 0.2], [0.6, 0.2, 0.2], [0.2, 0.2, 0.6]]])
    assert exit_of(logits, d=0, n=2) == 4
    assert exit_of(logits[:, [2, 4, 2, 4, 3]], d=0, n=2) == 5  # two leaders take turns


def public_code(first: np.ndarray, d: float, n: int, mode: str, m: float, r: float) -> int:
    """The decisions of the public code on one text of two classes, exit by exit."""
    for exit in range(1, len(first) + 1):
        p = np.array([first[exit - 1], 1 - first[exit - 1]])
        window = first[max(exit - n, 0) : exit]
        if -(p * np.log(p)).sum() / np.log(2) < d:
            return exit
        if exit < n:
            continue
        above, below = (window > 0.5 + m).all(), (window < 0.5 - m).all()
        if mode == "monotone":
            above = window[0] > 0.5 + m and (np.diff(window) >= 0).all()
            below = window[0] < 0.5 - m and (np.diff(window) <= 0).all()
        if (above or below) and (mode != "range" or np.ptp(window) <= r):
            return exit
    return len(first)


@settings(max_examples=60, deadline=None)
@given(
    logits=arrays(np.float32, (1, 6, 2), elements=st.floats(-3, 3, width=32)),
    d=st.floats(0, 1),
    n=st.integers(2, 6),
    mode=st.sampled_from(["one-side", "monotone", "range"]),
    m=st.floats(0, 0.3),
    r=st.floats(0, 0.5),
)
def test_on_two_classes_it_decides_as_the_public_code(logits, d, n, mode, m, r) -> None:
    first = softmax(logits.astype(np.float64), axis=-1)[0, :, 0]
    entropy = -(first * np.log(first) + (1 - first) * np.log(1 - first)) / np.log(2)
    pairs = np.abs(first[:, None] - first[None])
    edges = [np.abs(entropy - d), np.abs(np.abs(first - 0.5) - m), np.abs(pairs - r), pairs[np.triu_indices(6, 1)]]
    if min(float(edge.min()) for edge in edges) < 1e-6:
        return  # inputs on the edge of a comparison
    assert exit_of(logits, d=d, n=n, mode=mode, m=m, r=r) == public_code(first, d, n, mode, m, r)


def test_settings_spread_over_windows_and_entropies() -> None:
    logits = np.random.default_rng(0).normal(size=(60, 6, 3)).astype(np.float32)
    data = HeldOut(logits, np.arange(60) % 3, np.tile(np.arange(1, 7) / 6, (60, 1)), "h")
    found = prototype("trend-window").settings(data, 40)
    assert len(found) == 40
    assert {policy.n for policy in found} == {2, 3, 4, 5}
    assert {policy.n for policy in prototype("trend-window", n=4, mode="range").settings(data, 40)} == {4}


def test_parameters_are_checked() -> None:
    with pytest.raises(ConfigError, match="mode to be one of one-side, monotone, range"):
        make_policy("trend-window", d=0.1, mode="bias_1")
    with pytest.raises(ConfigError, match=r"m from 0 to 0\.5"):
        make_policy("trend-window", d=0.1, m=0.6)
    with pytest.raises(ConfigError, match="at least 2 exits"):
        make_policy("trend-window", d=0.1, n=1, mode="monotone")
    with pytest.raises(ConfigError, match="needs n: give it, or calibrate"):
        replay(make_policy("trend-window", d=0.1), np.zeros((1, 3, 2)))
    assert "smaller n" in (make_policy("trend-window", d=0, n=6).inert_reason(6, 2) or "")
    assert "smaller m" in (make_policy("trend-window", d=0, n=2, m=0.5).inert_reason(6, 2) or "")
    assert make_policy("trend-window", d=0, n=5).inert_reason(6, 2) is None
    assert make_policy("trend-window", d=0.1, n=9).inert_reason(6, 2) is None
