"""The oracle by hand, as a bound, and where it must not go."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, Target, calibrate, make_policy, replay
from robustexit.exits.calibration import evaluate
from robustexit.exits.policy import require_deployable
from robustexit.exits.replay import replay_held_out


def data_of(answers: np.ndarray, labels: np.ndarray) -> HeldOut:
    exits = answers.shape[1]
    costs = np.tile(np.arange(1, exits + 1) / exits, (len(labels), 1))
    return HeldOut(np.eye(3)[answers].astype(np.float32), labels, costs, "h")


def test_by_hand() -> None:
    data = data_of(np.array([[1, 1, 1], [0, 1, 0], [0, 2, 2], [2, 2, 0]]), np.array([1, 1, 1, 0]))
    result = replay_held_out(make_policy("oracle"), data)
    assert result.exit.tolist() == [1, 2, 3, 3]  # the third text is never right and pays full depth
    assert result.answer.tolist() == [1, 1, 2, 0]
    point = evaluate(make_policy("oracle"), data)
    assert point.accuracy == 0.75
    assert point.speedup == pytest.approx(4 / (1 / 3 + 2 / 3 + 1 + 1))


@settings(max_examples=30, deadline=None)
@given(
    answers=arrays(np.int64, (12, 5), elements=st.integers(0, 2)),
    labels=arrays(np.int64, 12, elements=st.integers(0, 2)),
    name=st.sampled_from([("max-probability", 0.5), ("patience", 1), ("fixed", 3)]),
)
def test_no_policy_that_answers_with_an_exit_is_more_accurate(answers, labels, name) -> None:
    data = data_of(answers, labels)
    bound = evaluate(make_policy("oracle"), data).accuracy
    assert bound == data.correct.any(axis=1).mean()
    parameter = "k" if name[0] == "fixed" else "t"
    assert evaluate(make_policy(name[0], **{parameter: name[1]}), data).accuracy <= bound


def test_it_is_never_deployed() -> None:
    data = data_of(np.zeros((4, 3), dtype=np.int64), np.zeros(4, dtype=np.int64))
    with pytest.raises(ConfigError, match="reads the true label"):
        require_deployable(make_policy("oracle"))
    with pytest.raises(ConfigError, match="cannot be deployed"):
        calibrate("oracle", Target(speedup=2), data)
    with pytest.raises(ConfigError, match="reads the true label"):
        replay(make_policy("oracle"), data.logits)
    assert make_policy("oracle").settings(data) == [make_policy("oracle")]
