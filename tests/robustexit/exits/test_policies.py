"""The driver, parameter errors, and hand-computed examples of the policies that look at one exit at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from robustexit.errors import ConfigError, ModelError
from robustexit.exits import ExitOutput, HeldOut, make_policy, refuse_inert, replay, run_policy


class StoredRun:
    """A forward pass over stored logits that counts what is asked of it."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.exit = 0
        self.rows_run: list[int] = []

    def advance(self) -> ExitOutput:
        self.exit += 1
        self.rows_run.append(len(self.logits))
        return ExitOutput(self.logits[:, self.exit - 1])

    def keep(self, rows: torch.Tensor) -> None:
        self.logits = self.logits[rows]


def log_odds(*probabilities: float) -> list[float]:
    return [math.log(max(p, 1e-12)) for p in probabilities]


def test_rows_leave_the_batch() -> None:
    sure, unsure = log_odds(0.99, 0.01), log_odds(0.5, 0.5)
    logits = torch.tensor([[sure, sure, sure], [unsure, sure, sure], [unsure, unsure, unsure]])
    run = StoredRun(logits)
    results = run_policy(run, make_policy("max-probability", t=0.9), rows=3, batch_rows=3, shape=(3, 2))
    assert [result.exit for result in results] == [1, 2, 3]
    assert run.rows_run == [3, 2, 1]


def test_max_probability_by_hand() -> None:
    logits = [[log_odds(0.6, 0.4), log_odds(0.1, 0.9)], [log_odds(0.6, 0.4), log_odds(0.55, 0.45)]]
    result = replay(make_policy("max-probability", t=0.75), logits)
    assert result.exit.tolist() == [2, 2]
    assert result.answer.tolist() == [1, 0]
    assert replay(make_policy("max-probability", t=0.55), logits).exit.tolist() == [1, 1]


def test_entropy_by_hand_in_nats_and_normalised() -> None:
    # H(.9, .1) = 0.3251 nats, 0.4690 of log 2.
    logits = [[log_odds(0.5, 0.5), log_odds(0.9, 0.1), log_odds(0.9, 0.1)]]
    assert replay(make_policy("entropy", t=0.326), logits).exit.tolist() == [2]
    assert replay(make_policy("entropy", t=0.325), logits).exit.tolist() == [3]
    assert replay(make_policy("normalised-entropy", t=0.470), logits).exit.tolist() == [2]
    assert replay(make_policy("normalised-entropy", t=0.468), logits).exit.tolist() == [3]


def test_patience_follows_the_likeliest_of_several_classes() -> None:
    a, b, c = log_odds(0.5, 0.3, 0.2), log_odds(0.2, 0.5, 0.3), log_odds(0.5, 0.2, 0.3)
    logits = [[a, c, b, a], [a, b, b, a]]  # answers 0 0 1 0 and 0 1 1 0
    assert replay(make_policy("patience", t=1), logits).exit.tolist() == [2, 3]


def test_patience_tries_every_number_that_can_leave_early() -> None:
    for exits, expected in ((2, []), (3, [1]), (6, [1, 2, 3, 4])):
        held = HeldOut(np.zeros((1, exits, 2), dtype=np.float32), np.zeros(1, dtype=np.int64), np.ones((1, exits)), "h")
        assert [policy.t for policy in make_policy("patience", t=1).settings(held)] == expected


def test_patience_by_hand() -> None:
    def answers(*labels: int) -> list[list[float]]:
        return [[0.0, 1.0] if label else [1.0, 0.0] for label in labels]

    logits = [answers(0, 0, 0, 0, 0, 0), answers(0, 1, 1, 1, 0, 0), answers(0, 1, 0, 1, 0, 1)]
    assert replay(make_policy("patience", t=1), logits).exit.tolist() == [2, 3, 6]
    assert replay(make_policy("patience", t=2), logits).exit.tolist() == [3, 4, 6]
    result = replay(make_policy("patience", t=6), logits)
    assert result.exit.tolist() == [6, 6, 6]
    assert result.answer.tolist() == [0, 0, 1]


def test_binary_max_probability_and_entropy_agree_at_matched_thresholds() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 6, 2))
    t = 0.8
    matched = -(t * math.log(t) + (1 - t) * math.log(1 - t))
    a = replay(make_policy("max-probability", t=t), logits).exit
    b = replay(make_policy("entropy", t=matched), logits).exit
    np.testing.assert_array_equal(a, b)


def test_nan_is_refused() -> None:
    with pytest.raises(ModelError, match="not finite"):
        replay(make_policy("entropy", t=0.1), [[[0.0, float("nan")]]])


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ModelError, match=r"\[N, exits, classes\]"):
        replay(make_policy("fixed"), [[0.0, 1.0]])


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("entropi", {}, "did you mean 'entropy'"),
        ("patience", {"T": 2}, "no parameter 'T' \\(did you mean 't'"),
        ("patience", {}, "needs t"),
        ("patience", {"t": 0}, "at least 1"),
        ("patience", {"t": 1.5}, "whole number"),
        ("entropy", {"t": "low"}, "expected a number"),
        ("entropy", {"t": float("nan")}, "expected a number"),
        ("fixed", {"k": 0}, "at least 1"),
    ],
)
def test_bad_parameters(name, parameters, message) -> None:
    with pytest.raises(ConfigError, match=message):
        make_policy(name, **parameters)


@pytest.mark.parametrize(
    ("name", "parameters", "exits", "message"),
    [
        ("patience", {"t": 5}, 6, "choose t of at most 4"),
        ("patience", {"t": 1}, 2, "at least 3 exits"),
        ("entropy", {"t": 0.0}, 6, "choose t above 0"),
        ("max-probability", {"t": 1.01}, 6, "choose t of at most 1"),
        ("entropy", {"t": 0.5}, 1, "one exit"),
        ("fixed", {"k": 7}, 6, "from 1 to 6"),
    ],
)
def test_policies_under_which_nothing_leaves_early_are_refused(name, parameters, exits, message) -> None:
    with pytest.raises(ConfigError, match=message):
        refuse_inert(make_policy(name, **parameters), exits, 2)


def test_describe() -> None:
    assert make_policy("fixed").describe() == "full-depth"
    assert make_policy("entropy", t=1 / 3).describe() == "entropy(t=0.3333)"
    assert make_policy("patience", t=2).describe() == "patience(t=2)"
