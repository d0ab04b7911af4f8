"""The past-future policy: raw nats, on the module's logits."""

from __future__ import annotations

import numpy as np

from robustexit.exits import make_policy
from robustexit.exits.replay import replay

LOGITS = np.log(np.array([[[0.5, 0.25, 0.25], [0.8, 0.1, 0.1], [0.9, 0.05, 0.05]]], dtype=np.float32))


def test_entropy_in_nats_below_t() -> None:
    # H = 1.0397, 0.6390, 0.3944 nats
    assert replay(make_policy("past-future", t=1.04), LOGITS).exit.tolist() == [1]
    assert replay(make_policy("past-future", t=1.03), LOGITS).exit.tolist() == [2]
    assert replay(make_policy("past-future", t=0.63), LOGITS).exit.tolist() == [3]
    assert make_policy("past-future", t=1.0).module == "past-future"
    assert make_policy("past-future", t=0.0).inert_reason(6, 3)
