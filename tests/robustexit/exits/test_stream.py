"""Bandits over exits, thresholds and splits: the index by hand, what they find and never read, their order."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, calibrate, make_policy, replay
from robustexit.exits.calibration import Target
from robustexit.exits.stream import Bandit, Lesson, Seen, StreamPolicy, order_of, run_stream, summarise_stream

NAMES = ("uee-ucb", "ceebert", "splitee", "splitee-s")


def logits_of(confidence: np.ndarray, answers: np.ndarray | int = 0) -> np.ndarray:
    """Two-class logits with a given largest probability and answer at each place."""
    confidence = np.asarray(confidence, dtype=np.float64)
    first = np.log(confidence / (1 - confidence))
    margin = np.where(np.broadcast_to(answers, confidence.shape) == 0, first, -first)
    return np.stack([margin, np.zeros_like(margin)], axis=-1).astype(np.float32)


def held(logits: np.ndarray, labels: np.ndarray | None = None, data_hash: str = "0123456789abcdef") -> HeldOut:
    rows, exits, _ = logits.shape
    labels = np.zeros(rows, dtype=np.int64) if labels is None else labels
    return HeldOut(logits, labels, np.tile(np.arange(1, exits + 1) / exits, (rows, 1)), data_hash)


def policy(name: str, **parameters: object) -> StreamPolicy:
    made = make_policy(name, **parameters)
    assert isinstance(made, StreamPolicy)
    return made


def live(name: str, logits: np.ndarray, **parameters: object) -> list[float]:
    """Arms chosen over texts in their own order."""
    chosen = policy(name, **parameters)
    bandit = chosen.bandit(logits.shape[1])
    arms = chosen.arms(logits.shape[1])
    found = []
    for text in logits:
        arm = bandit.choose()
        found.append(arms[arm])
        row = replay(chosen.under(arms[arm]), text[None])
        confidence = _confidence(text)[: row.exit[0]]
        bandit.learn(chosen.lessons(arm, Seen(confidence, text.argmax(-1)[: row.exit[0]].tolist(), len(text))))
    return found


def _confidence(text: np.ndarray) -> list[float]:
    return [float(np.exp(row - row.max()).max() / np.exp(row - row.max()).sum()) for row in text.astype(np.float64)]


# By hand: two exits, every text the same.


def test_uee_by_hand() -> None:
    # Exits agree, the second costs lambda_ / K = .2 more. Text 1 goes to exit 2 and shows both: means 0 and -.2.
    # 2: 0 + sqrt(ln 2 / 1) against -.2 + sqrt(ln 2 / 1): exit 1, seen twice now.
    # 3: sqrt(ln 3 / 2) = .741 against -.2 + sqrt(ln 3 / 1) = .848: exit 2; both seen again: 3 and 2 times.
    # 4: sqrt(ln 4 / 3) = .680 against -.2 + sqrt(ln 4 / 2) = .633: exit 1.
    logits = np.repeat(logits_of([[0.9, 0.9]]), 4, axis=0)
    assert live("uee-ucb", logits, lambda_=0.4) == [2, 1, 2, 1]
    # Exits that disagree are worth 1 - .2: exit 2 leads from its first sight on.
    assert live("uee-ucb", np.repeat(logits_of([[0.9, 0.9]], [0, 1]), 4, axis=0), lambda_=0.4) == [2, 2, 2, 2]


def test_ceebert_by_hand() -> None:
    # Threshold .6 leaves at exit 1 and earns 0, threshold .9 at exit 2 and earns .95 - .7 - .1 = .15.
    # 3: 0 + 2 sqrt(ln 2 / 1) against .15 + 2 sqrt(ln 2 / 1): .9.
    # 4: 2 sqrt(ln 3 / 1) = 2.10 against .15 + 2 sqrt(ln 3 / 2) = 1.63: .6.
    logits = np.repeat(logits_of([[0.7, 0.95]]), 4, axis=0)
    assert live("ceebert", logits, actions=[0.6, 0.9]) == [0.6, 0.9, 0.9, 0.6]
    lesson = policy("ceebert").lessons(3, Seen([0.7, 0.95], [0, 0], 4))[0]
    assert lesson.arm == 3
    assert lesson.reward == pytest.approx(0.95 - 0.7 - 0.1 / 3)


def test_splitee_by_hand() -> None:
    # Split 1 is sure: .9 - .1 = .8; split 2 is the end: .95 - .2 = .75. The clock starts at ln 1 = 0 after the first
    # round: text 3 takes the larger mean, split 1. Text 4: .8 + sqrt(ln 2 / 2) = 1.389, .75 + sqrt(ln 2 / 1) = 1.583.
    logits = np.repeat(logits_of([[0.9, 0.95]]), 4, axis=0)
    assert live("splitee", logits) == [1, 2, 1, 2]
    # Unsure at split 1, a text is sent on: .95 - .1 - .3 = .55, and split 2 leads.
    assert policy("splitee").lessons(0, Seen([0.6, 0.95], [0, 0], 2))[0].reward == pytest.approx(0.55)
    assert live("splitee", np.repeat(logits_of([[0.6, 0.95]]), 4, axis=0))[2] == 2


def test_splitee_s_teaches_earlier_splits() -> None:
    chosen = policy("splitee-s")
    stays = chosen.lessons(2, Seen([0.6, 0.8, 0.9], [0] * 3, 6))
    # Split 1 would have sent the text on: the deepest exit computed stands in for exit K. Split 2 would have kept it.
    assert [lesson.arm for lesson in stays] == [0, 1, 2]
    assert [lesson.reward for lesson in stays] == pytest.approx([0.9 - 0.3 - 0.1, 0.8 - 0.2, 0.9 - 0.3])
    sent = chosen.lessons(1, Seen([0.6, 0.7, 0.9, 0.9, 0.9, 0.99], [0] * 6, 6))
    assert [lesson.reward for lesson in sent] == pytest.approx([0.99 - 0.3 - 0.1, 0.99 - 0.3 - 0.2])
    alone = policy("splitee").lessons(1, Seen([0.6, 0.8], [0] * 2, 6))
    assert alone == [Lesson(1, pytest.approx(0.8 - 0.2))]


def test_the_first_round_of_splitee_s_teaches_of_the_split_played_alone() -> None:
    bandit = policy("splitee-s").bandit(3)
    for arm in range(3):
        assert bandit.choose() == arm
        bandit.learn([Lesson(split, 0.5) for split in range(arm + 1)])
    assert bandit.counts == [1, 1, 1]
    bandit.learn([Lesson(0, 0.5), Lesson(1, 0.5), Lesson(2, 0.5)])
    assert bandit.counts == [2, 2, 2]


def test_a_bandit_takes_the_lowest_of_equals_and_looking_changes_nothing() -> None:
    bandit = Bandit(3, 1.0, (0, 1, 2), since=0, first_alone=True)
    for arm in range(3):
        bandit.learn([Lesson(arm, 0.25)])
    before = dataclasses.asdict(bandit)
    assert bandit.choose() == bandit.choose() == 0
    assert bandit.best() == 0
    assert dataclasses.asdict(bandit) == before
    assert bandit.bounds() == pytest.approx([0.25 + math.sqrt(math.log(3))] * 3)


# What they find.


def clear_case(name: str, texts: int = 3000) -> tuple[StreamPolicy, np.ndarray, float]:
    """A policy, outputs with a little noise, and the arm that is clearly best."""
    rng = np.random.default_rng(1)
    noise = rng.uniform(-0.01, 0.01, size=(texts, 4))
    if name == "uee-ucb":  # exit 2 corrects exit 1 in two texts of five, nothing after it changes an answer
        answers = np.zeros((texts, 4), dtype=np.int64)
        answers[rng.random(texts) < 0.4, 0] = 1
        return policy(name, lambda_=0.8), logits_of(0.9 + noise, answers), 2
    if name == "ceebert":  # half the texts gain .4 at exit 2, the others never
        gains = (rng.random(texts) < 0.5)[:, None]
        confidence = np.where(gains, [0.57, 0.97, 0.97, 0.97], 0.75) + noise
        return policy(name, overhead=0.4, c_tilde=0.5, actions=[0.5, 0.65, 0.95]), logits_of(confidence), 0.65
    return policy(name, lambda_=0.2, o=0.6), logits_of(np.array([0.6, 0.95, 0.96, 0.97]) + noise), 2


@pytest.mark.parametrize("name", NAMES)
def test_every_bandit_finds_the_best_arm(name: str) -> None:
    chosen, logits, best = clear_case(name)
    for seed in range(3):
        result = run_stream(chosen, held(logits), seed)
        assert result.best_arm == best
        assert result.learned_arm == best
        assert (result.arms[len(logits) // 2 :] == best).mean() > 0.8
        assert (np.diff(result.regret) >= 0).all()
        assert result.regret[-1] - result.regret[len(logits) // 2] < result.regret[len(logits) // 2]
    assert chosen.fitted(held(logits)).arm == best


@pytest.mark.parametrize("name", NAMES)
def test_no_label_is_read(name: str) -> None:
    chosen, logits, _ = clear_case(name, 300)
    right, other = held(logits), held(logits, np.random.default_rng(0).integers(0, 2, len(logits)))
    assert chosen.fitted(right) == chosen.fitted(other)
    assert list(chosen.settings(right)) == list(chosen.settings(other))
    first, second = run_stream(chosen, right, 0), run_stream(chosen, other, 0)
    np.testing.assert_array_equal(first.arms, second.arms)
    np.testing.assert_array_equal(first.answer, second.answer)


def test_side_observations_do_not_slow_learning() -> None:
    chosen, logits, _ = clear_case("splitee")
    seeds = range(5)
    alone = summarise_stream(chosen, held(logits), seeds)
    side = summarise_stream(policy("splitee-s", lambda_=0.2, o=0.6), held(logits), seeds)
    assert side.regret.mean <= alone.regret.mean
    assert set(side.learned_arms) == {2}


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_depends_on_its_order_and_is_repeatable(name: str) -> None:
    rng = np.random.default_rng(3)
    data = held(logits_of(rng.uniform(0.5, 0.999, (400, 5)), rng.integers(0, 2, (400, 5))))
    first, again, other = (run_stream(policy(name), data, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.arms, again.arms)
    np.testing.assert_array_equal(first.order, order_of(0, 400))
    by_text = [np.empty(400) for _ in range(2)]
    for found, result in zip(by_text, (first, other), strict=True):
        found[result.order] = result.arms
    assert (by_text[0] != by_text[1]).any()
    assert sorted(first.order) == list(range(400))


@pytest.mark.parametrize("name", NAMES)
def test_a_stream_answers_as_the_fold_of_its_arm(name: str) -> None:
    rng = np.random.default_rng(4)
    logits = logits_of(rng.uniform(0.5, 0.999, (60, 5)), rng.integers(0, 2, (60, 5)))
    result = run_stream(policy(name), held(logits), 2)
    for text, arm, exit, answer in zip(result.order, result.arms, result.exit, result.answer, strict=True):
        one = replay(policy(name).under(arm.item()), logits[text][None])
        assert (one.exit[0], one.answer[0]) == (exit, answer)


def test_a_summary_stands_on_several_orders() -> None:
    chosen, logits, _ = clear_case("uee-ucb", 500)
    summary = summarise_stream(chosen, held(logits), (0, 1, 2))
    each = [run_stream(chosen, held(logits), seed) for seed in (0, 1, 2)]
    exits = [one.exit.mean() for one in each]
    assert summary.mean_exit == pytest.approx((np.mean(exits), np.std(exits, ddof=1)))
    assert summary.speedup.mean == pytest.approx(np.mean([4 / exit for exit in exits]))
    assert summary.accuracy.mean == pytest.approx(np.mean([(one.answer == 0).mean() for one in each]))
    assert summarise_stream(chosen, held(logits), [5]).regret.deviation == 0
    with pytest.raises(ConfigError, match="at least one order"):
        summarise_stream(chosen, held(logits), ())


# Frozen, live and what is refused.


@pytest.mark.parametrize("name", NAMES)
def test_a_frozen_policy_names_its_arm_seed_and_burn_in(name: str) -> None:
    chosen, logits, best = clear_case(name, 1000)
    frozen = chosen.fitted(held(logits))
    assert f"arm={best:g}" in frozen.describe()
    assert "seed=0" in frozen.describe()
    assert frozen.burn_in == "0123456789ab"
    assert frozen.fitted(held(logits[:5])) is frozen
    given = dataclasses.replace(chosen, arm=best)
    assert given.fitted(held(logits)) is given
    assert list(given.settings(held(logits))) == [given]


def test_thresholds_of_ones_own_are_spelt_out() -> None:
    assert "actions" not in policy("ceebert").describe()
    assert "actions=(0.5, 0.9)" in policy("ceebert", actions=[0.5, 0.9]).describe()


@pytest.mark.parametrize("name", NAMES)
def test_sweeps_span_early_to_late(name: str) -> None:
    rng = np.random.default_rng(5)
    confidence = np.sort(rng.uniform(0.5, 0.999, (300, 6)), axis=1)
    answers = (rng.random((300, 6)) > np.linspace(0.5, 1, 6)).astype(np.int64)
    data = held(logits_of(confidence, answers))
    found = policy(name).fitted(data).settings(data)
    exits = [replay(one, data.logits).exit.mean() for one in found]
    assert len(set(found)) == len(found) > 2
    assert exits == sorted(exits)
    assert max(exits) - min(exits) > 1
    assert len(policy(name).fitted(data).settings(data, 2)) == 2
    assert calibrate(name, Target(speedup=1.3), data).parameters["arm"] is not None


@pytest.mark.parametrize("name", NAMES)
def test_what_cannot_work_is_refused(name: str) -> None:
    data = held(logits_of(np.full((2, 4), 0.8)))
    with pytest.raises(ConfigError, match="has not been burnt in"):
        replay(policy(name), data.logits)
    with pytest.raises(ConfigError, match="chooses an arm for every text"):
        replay(policy(name, evaluation="live"), data.logits)
    with pytest.raises(ConfigError, match="expected arm to be one of"):
        replay(policy(name, arm=7), data.logits)
    with pytest.raises(ConfigError, match="no setting to calibrate"):
        calibrate(name, Target(speedup=1.5), data, evaluation="live")
    with pytest.raises(ConfigError, match="did you mean 'live'"):
        policy(name, evaluation="alive")
    with pytest.raises(ConfigError, match="seed"):
        policy(name, seed=-1)
    with pytest.raises(ConfigError, match=r"expected \w+ from 0"):
        policy(name, **{policy(name).price: -1})
    if name != "uee-ucb":  # its first text shows every arm
        with pytest.raises(ConfigError, match="too few to try every arm"):
            policy(name).fitted(data)


def test_only_the_heads_in_use_are_charged() -> None:
    def read(name: str, **parameters: object) -> list[bool]:
        return [policy(name, **parameters).reads(exit, 5) for exit in range(1, 6)]

    assert read("uee-ucb", arm=3) == [False, False, True, False, False]
    assert read("uee-ucb", arm=3, evaluation="live") == [True, True, True, False, False]
    assert read("splitee", arm=2, evaluation="live") == [False, True, False, False, True]
    assert read("splitee-s", arm=2) == [False, True, False, False, True]
    assert read("splitee-s", arm=2, evaluation="live") == [True, True, False, False, True]
    assert read("ceebert", arm=0.7) == [True] * 5


def test_the_last_exit_as_arm_never_leaves() -> None:
    for name in ("uee-ucb", "splitee", "splitee-s"):
        assert "last exit" in str(policy(name, arm=4).inert_reason(4, 2))
        assert policy(name, arm=3).inert_reason(4, 2) is None
