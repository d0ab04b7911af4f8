"""The ztw policy: strictly above t, on the module's ensemble."""

from __future__ import annotations

import numpy as np

from robustexit.exits import make_policy
from robustexit.exits.replay import replay

LOGITS = np.log(np.array([[[0.75, 0.25], [0.9, 0.1], [0.6, 0.4]]], dtype=np.float32))


def test_leaves_strictly_above_t() -> None:
    assert replay(make_policy("ztw", t=0.5), LOGITS).exit.tolist() == [1]
    assert replay(make_policy("ztw", t=0.8), LOGITS).exit.tolist() == [2]
    assert replay(make_policy("ztw", t=0.95), LOGITS).exit.tolist() == [3]
    tie = np.zeros((1, 2, 2), dtype=np.float32)  # both probabilities are exactly 1/2
    assert replay(make_policy("ztw", t=0.5), tie).exit.tolist() == [2]
    assert make_policy("ztw", t=0.49).module == "ztw"


def test_no_probability_exceeds_one() -> None:
    assert "below 1" in (make_policy("ztw", t=1.0).inert_reason(6, 2) or "")
    assert make_policy("ztw", t=0.999).inert_reason(6, 2) is None
