"""Voting by hand: counts, winners and ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError
from robustexit.exits import make_policy, replay


def log_of(*answers: int, classes: int = 3) -> np.ndarray:
    """Logits of one text whose exits give these answers."""
    return np.eye(classes)[list(answers)][None]


def test_counts_and_winners_by_hand() -> None:
    logits = log_of(0, 1, 1, 0, 2, 1)
    exits = {t: int(replay(make_policy("voting", t=t), logits).exit[0]) for t in (1, 2, 3, 4)}
    assert exits == {1: 1, 2: 3, 3: 6, 4: 6}
    result = replay(make_policy("voting", t=2), logits)
    assert result.answer.tolist() == [1]
    np.testing.assert_allclose(result.probabilities, [[1 / 3, 2 / 3, 0]], atol=5e-4)


def test_votes_need_not_be_in_a_row_and_outvote_the_last_exit() -> None:
    result = replay(make_policy("voting", t=5), log_of(0, 2, 0, 1, 2, 0, 1))
    assert (result.exit.tolist(), result.answer.tolist()) == ([7], [0])  # exit 7 says 1


def test_a_tie_goes_to_the_label_the_current_exit_finds_likelier() -> None:
    tie = replay(make_policy("voting", t=3), log_of(0, 0, 1, 1))
    assert (tie.exit.tolist(), tie.answer.tolist()) == ([4], [1])
    # Two labels tie and the last exit votes for a third: its second choice among them decides.
    logits = log_of(0, 0, 1, 1, 2)
    logits[0, -1] = [0.0, 0.5, 2.0]
    assert replay(make_policy("voting", t=3), logits).answer.tolist() == [1]
    logits[0, -1] = [0.5, 0.0, 2.0]
    assert replay(make_policy("voting", t=3), logits).answer.tolist() == [0]


@settings(max_examples=40, deadline=None)
@given(logits=arrays(np.float32, (6, 7, 3), elements=st.floats(-9, 9, width=32)), t=st.integers(1, 7))
def test_the_answer_has_the_most_votes(logits, t) -> None:
    result = replay(make_policy("voting", t=t), logits)
    for row, exit in enumerate(result.exit):
        votes = np.bincount(logits[row, :exit].argmax(-1), minlength=3)
        assert votes[result.answer[row]] == votes.max()
        assert votes.max() == t or exit == 7
        assert votes.max() <= t


def test_what_never_leaves_is_said() -> None:
    assert "at most 5" in (make_policy("voting", t=6).inert_reason(6, 2) or "")
    assert make_policy("voting", t=5).inert_reason(6, 2) is None
    with pytest.raises(ConfigError, match="whole number"):
        make_policy("voting", t=1.5)
