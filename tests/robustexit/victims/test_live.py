"""A live victim: one text after another, learning from what it computed, and nothing remembered in its place."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustexit.attacks.attempt import Attacker, AttemptResult
from robustexit.data.types import Example, Fields, TextDataset
from robustexit.errors import ConfigError
from robustexit.exits import make_policy
from robustexit.exits.stream import StreamPolicy, order_of, run_stream
from robustexit.models import load_model
from robustexit.victims.base import Trace, Victim
from robustexit.victims.custom import FunctionVictim
from robustexit.victims.live import LearningVictim, LiveVictim, order_seed
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

NAMES = ("uee-ucb", "ceebert", "splitee", "splitee-s")
WORDS = ("the", "story", "was", "slow", "but", "fine", "and", "warm", "with", "bad", "jokes", "great", "cast")


@pytest.fixture(scope="module")
def deployed(tiny_model: Path) -> DeployedModel:
    return DeployedModel(load_model(str(tiny_model)))


def texts(count: int, seed: int = 0) -> list[Fields]:
    rng = random.Random(seed)
    return [{"text": " ".join(rng.choices(WORDS, k=rng.randint(3, 12)))} for _ in range(count)]


def dataset(found: Sequence[Fields]) -> TextDataset:
    examples = tuple(Example(str(i), fields, i % 2) for i, fields in enumerate(found))
    return TextDataset("d", examples, ("negative", "positive"), "made up")


def live(name: str, seed: int = 0, **parameters: Any) -> StreamPolicy:
    made = make_policy(name, evaluation="live", seed=seed, **parameters)
    assert isinstance(made, StreamPolicy)
    return made


def state(victim: LiveVictim) -> dict[str, Any]:
    return asdict(victim.bandit)


@pytest.mark.parametrize("name", NAMES)
def test_live_answers_are_those_of_the_stream_over_stored_outputs(deployed: DeployedModel, name: str) -> None:
    found = texts(40)
    policy = live(name, seed=3)
    expected = run_stream(policy, collect_outputs(deployed, dataset(found)).held_out(), policy.seed)
    victim = LiveVictim(deployed, policy)
    traces = victim.trace([found[i] for i in order_of(policy.seed, len(found))])
    assert [trace.exit for trace in traces] == expected.exit.tolist()
    assert [trace.answer for trace in traces] == expected.answer.tolist()
    assert policy.arms(4)[victim.bandit.best()] == expected.learned_arm


@pytest.mark.parametrize("name", NAMES)
def test_asking_for_deeper_exits_changes_neither_answers_nor_learning(deployed: DeployedModel, name: str) -> None:
    found = texts(20)
    plain, deep = LiveVictim(deployed, live(name)), LiveVictim(deployed, live(name))
    first, second = plain.trace(found), deep.trace(found, min_depth=4)
    assert [trace.exit for trace in first] == [trace.exit for trace in second]
    assert [trace.macs for trace in first] == [trace.macs for trace in second]
    assert all(trace.depth == 4 for trace in second)
    assert any(trace.depth < 4 for trace in first)
    assert state(plain) == state(deep)


@pytest.mark.parametrize("name", NAMES)
def test_a_peek_is_what_would_be_answered_now_and_teaches_nothing(deployed: DeployedModel, name: str) -> None:
    victim = LiveVictim(deployed, live(name))
    victim.trace(texts(15))
    before = state(victim)
    pair = texts(2, seed=9)
    seen = victim.peek(pair, min_depth=4)
    assert state(victim) == before
    arm = victim.policy.arms(4)[victim.bandit.choose()]
    fixed = ModelVictim(deployed, replace(victim.policy, arm=arm)).trace(pair, min_depth=4)
    assert [(trace.exit, trace.macs) for trace in seen] == [(trace.exit, trace.macs) for trace in fixed]
    assert victim.trace(pair[:1])[0].exit == seen[0].exit


@pytest.mark.parametrize("name", NAMES)
def test_one_text_again_and_again_moves_a_live_bandit_and_no_frozen_policy(deployed: DeployedModel, name: str) -> None:
    burn_in = collect_outputs(deployed, dataset(texts(30, seed=1))).held_out()
    victim = LiveVictim(deployed, live(name), burn_in)
    before = state(victim)
    victim.trace(texts(1) * 60)
    assert victim.bandit.rounds == before["rounds"] + 60
    assert victim.bandit.bounds() != pytest.approx(LiveVictim(deployed, live(name), burn_in).bandit.bounds())
    frozen = ModelVictim(deployed, make_policy(name).fitted(burn_in))
    probe = texts(5, seed=2)
    first = [trace.exit for trace in frozen.trace(probe)]
    frozen.trace(texts(1) * 60)
    assert [trace.exit for trace in frozen.trace(probe)] == first


def test_an_attacker_who_repeats_a_text_changes_what_others_get(deployed: DeployedModel) -> None:
    """UEE-UCB believes that exits agree once it has seen one agreeing text often enough, and leaves at exit 1."""
    outputs = collect_outputs(deployed, dataset(texts(60))).held_out()
    answers = outputs.logits.argmax(-1)
    agreeing = int(np.flatnonzero((answers == answers[:, :1]).all(axis=1))[0])
    quiet = live("uee-ucb", lambda_=0.4, alpha=0.05)
    victim = LiveVictim(deployed, quiet, outputs)
    probe = texts(1, seed=5)
    before = victim.peek(probe)[0].exit
    victim.trace([texts(60)[agreeing]] * 600)
    assert victim.peek(probe)[0].exit == 1 < before


def test_restart_and_fingerprint(deployed: DeployedModel) -> None:
    burn_in = collect_outputs(deployed, dataset(texts(30, seed=1))).held_out()
    victim = LiveVictim(deployed, live("splitee"), burn_in)
    fresh = state(victim)
    assert fresh == asdict(live("splitee").burnt_in(burn_in))
    first = [trace.exit for trace in victim.trace(texts(20))]
    victim.restart()
    assert state(victim) == fresh
    assert [trace.exit for trace in victim.trace(texts(20))] == first
    prints = {
        LiveVictim(deployed, policy, data).fingerprint
        for policy in (live("splitee"), live("splitee", seed=1), live("splitee", o=0.5))
        for data in (burn_in, None)
    }
    assert len(prints) == 6
    assert LiveVictim(deployed, live("splitee"), burn_in).fingerprint == victim.fingerprint


def test_the_order_decides(deployed: DeployedModel) -> None:
    found = texts(40)
    one, other = LiveVictim(deployed, live("ceebert")), LiveVictim(deployed, live("ceebert"))
    forward = [trace.exit for trace in one.trace(found)]
    backward = [trace.exit for trace in other.trace(found[::-1])][::-1]
    assert forward != backward


def test_a_live_victim_pays_for_the_heads_it_learns_from(deployed: DeployedModel) -> None:
    victim = LiveVictim(deployed, live("uee-ucb"))
    trace = victim.trace(texts(1))[0]  # the first text runs to exit 4, and every exit is compared with exit 1
    assert trace.macs == deployed.exit_macs(trace.tokens, make_policy("entropy", t=0.1))[3]
    frozen = ModelVictim(deployed, make_policy("uee-ucb", arm=3)).trace(texts(1))[0]
    assert frozen.macs == deployed.exit_macs(trace.tokens, make_policy("fixed", k=3))[2] < trace.macs


def test_what_is_no_live_policy_is_refused(deployed: DeployedModel) -> None:
    for policy in (make_policy("uee-ucb"), live("uee-ucb", arm=2)):
        with pytest.raises(ConfigError, match="expected a live policy without an arm"):
            LiveVictim(deployed, policy)
    with pytest.raises(ConfigError, match="chooses an arm for every text"):
        ModelVictim(deployed, live("uee-ucb"))


def test_which_victims_learn(deployed: DeployedModel) -> None:
    victim = LiveVictim(deployed, live("uee-ucb", seed=7))
    assert isinstance(victim, Victim)
    assert isinstance(victim, LearningVictim)
    assert order_seed(victim) == 7
    for other in (ModelVictim(deployed), FunctionVictim(lambda found: np.zeros((len(found), 2)), num_classes=2)):
        assert not isinstance(other, LearningVictim)
        assert order_seed(other) is None


# Attacks on a live victim.


class Listening(LiveVictim):
    """A live victim that writes down what it is asked."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.asked: list[str] = []

    def trace(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        self.asked += [fields["text"] for fields in texts]
        return super().trace(texts, min_depth)


def attack(victim: Victim, recipe: str, goal: str, text: str) -> AttemptResult:
    attacker = Attacker(victim, recipe, goal, field_names=("text",))
    label = victim.peek([{"text": text}])[0].answer if isinstance(victim, LearningVictim) else 0
    return attacker.attempt(Example("e", {"text": text}, label), dataset="d", seed=0)


@pytest.mark.parametrize(("recipe", "goal"), [("deepwordbug", "deployed"), ("input-reduction", "input-reduction")])
def test_every_query_is_asked(deployed: DeployedModel, recipe: str, goal: str) -> None:
    text = "the story was slow but the the cast was fine"
    victim = Listening(deployed, live("uee-ucb"))
    result = attack(victim, recipe, goal, text)
    assert result.error is None
    assert result.queries == result.forwards == len(victim.asked) == victim.bandit.rounds
    assert victim.asked[0] == text
    assert len(victim.asked) > 1
    victim.restart()
    again = attack(victim, recipe, goal, text)
    assert replace(again, seconds=0) == replace(result, seconds=0)


def test_a_repeated_text_is_asked_again(deployed: DeployedModel) -> None:
    """Input reduction removes either of two equal words: the same text twice."""
    victim = Listening(deployed, live("uee-ucb"))
    attack(victim, "input-reduction", "input-reduction", "fine fine fine fine")
    assert len(set(victim.asked)) < len(victim.asked)


def test_a_second_attack_meets_what_the_first_left(deployed: DeployedModel) -> None:
    victim = LiveVictim(deployed, live("ceebert"))
    attack(victim, "deepwordbug", "slowdown-uniform", "the story was slow")
    rounds = victim.bandit.rounds
    assert rounds > 0
    attack(victim, "deepwordbug", "slowdown-uniform", "the story was slow")
    assert victim.bandit.rounds > rounds
