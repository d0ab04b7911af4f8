"""The three ensembles by hand, and what they have in common."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from robustexit.exits import make_policy, replay

NAMES = ("arithmetic-mean", "geometric-mean", "product-of-experts")
EXITS = np.log([[[0.8, 0.2], [0.5, 0.5], [0.8, 0.2]]])


def test_by_hand() -> None:
    # Means of the first class: .8, .65, .7. Odds: geometric 4, 2, 16^(1/3) = 2.52; product 4, 4, 16.
    never = {name: replay(make_policy(name, t=1.1), EXITS).probabilities[0, 0] for name in NAMES}
    assert never["arithmetic-mean"] == pytest.approx(0.7)
    assert never["geometric-mean"] == pytest.approx(16 ** (1 / 3) / (1 + 16 ** (1 / 3)), rel=1e-5)
    assert never["product-of-experts"] == pytest.approx(16 / 17, rel=1e-5)
    at_90 = {name: int(replay(make_policy(name, t=0.9), EXITS).exit[0]) for name in NAMES}
    assert at_90 == {"arithmetic-mean": 3, "geometric-mean": 3, "product-of-experts": 3}
    first_unsure = EXITS[:, [1, 0, 0, 2]]
    assert int(replay(make_policy("arithmetic-mean", t=0.69), first_unsure).exit[0]) == 3  # .5, .65, .7
    assert int(replay(make_policy("geometric-mean", t=0.7), first_unsure).exit[0]) == 3  # odds 1, 2, 2.52
    assert int(replay(make_policy("product-of-experts", t=0.79), first_unsure).exit[0]) == 2  # odds 1, 4


@settings(max_examples=30, deadline=None)
@given(logits=arrays(np.float32, (4, 5, 3), elements=st.floats(-6, 6, width=32)), k=st.integers(1, 5))
def test_each_is_its_formula_at_every_exit(logits, k) -> None:
    upto = logits[:, :k].astype(np.float64)
    log_p = log_softmax(upto, axis=-1)
    expected = {
        "arithmetic-mean": softmax(upto, axis=-1).mean(axis=1),
        "geometric-mean": softmax(log_p.mean(axis=1), axis=-1),
        "product-of-experts": softmax(log_p.sum(axis=1), axis=-1),
    }
    for name in NAMES:
        found = replay(make_policy(name, t=1.1), logits[:, :k]).probabilities
        np.testing.assert_allclose(found, expected[name], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_one_exit_repeated(name) -> None:
    """The means stay what every exit says; the product grows surer."""
    logits = np.repeat(EXITS[:, :1], 4, axis=1)
    result = replay(make_policy(name, t=1.1), logits).probabilities[0, 0]
    assert result == pytest.approx(256 / 257 if name == "product-of-experts" else 0.8, rel=1e-5)
    assert make_policy(name, t=1.1).inert_reason(6, 2)
    assert make_policy(name, t=1).inert_reason(6, 2) is None
