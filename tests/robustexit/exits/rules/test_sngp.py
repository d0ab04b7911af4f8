"""The sngp policy: max probability of the module's logits."""

from __future__ import annotations

import numpy as np

from robustexit.exits import make_policy
from robustexit.exits.replay import replay

LOGITS = np.log(np.array([[[0.75, 0.25], [0.9, 0.1], [0.6, 0.4]]], dtype=np.float32))


def test_leaves_where_the_distance_aware_confidence_reaches_t() -> None:
    scalars = {"variance": np.zeros((1, 3), dtype=np.float32)}
    assert replay(make_policy("sngp", t=0.7), LOGITS, scalars).exit.tolist() == [1]
    assert replay(make_policy("sngp", t=0.8), LOGITS, scalars).exit.tolist() == [2]
    assert replay(make_policy("sngp", t=0.95), LOGITS, scalars).exit.tolist() == [3]
    assert make_policy("sngp", t=0.9).module == "sngp"
    assert make_policy("sngp", t=1.1).inert_reason(3, 2)
