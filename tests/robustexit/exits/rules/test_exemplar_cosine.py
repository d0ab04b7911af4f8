"""The exemplar-cosine policy: at least t, on the module's cosine, answered by the head."""

from __future__ import annotations

import numpy as np

from robustexit.exits import make_policy
from robustexit.exits.replay import replay

LOGITS = np.array([[[2.0, 0], [0, 2.0], [2.0, 0]], [[0, 1.0], [2.0, 0], [0, 1.0]]], dtype=np.float32)
SCALARS = {"cosine": np.array([[0.5, 0.75, 0.25], [-1, 0.625, 1]], dtype=np.float32)}


def test_leaves_at_the_first_cosine_of_at_least_t() -> None:
    def at(t: float) -> tuple[list[int], list[int]]:
        found = replay(make_policy("exemplar-cosine", t=t), LOGITS, SCALARS)
        return found.exit.tolist(), found.answer.tolist()

    assert at(0.5) == ([1, 2], [0, 0])
    assert at(0.51) == ([2, 2], [1, 0])
    assert at(0.7) == ([2, 3], [1, 1])
    assert at(0.8) == ([3, 3], [0, 1])
    assert at(-0.5) == ([1, 2], [0, 0])  # a class without exemplars counts as -1
    assert at(-1.0) == ([1, 1], [0, 1])


def test_its_module_and_what_can_never_leave() -> None:
    assert make_policy("exemplar-cosine", t=0.9).module == "exemplar-bank"
    assert make_policy("exemplar-cosine", t=1.0).inert_reason(6, 2) is None
    assert "at most 1" in (make_policy("exemplar-cosine", t=1.01).inert_reason(6, 2) or "")
