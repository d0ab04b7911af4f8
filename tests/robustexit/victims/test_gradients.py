"""Gradients of a deployed system: the trace's own numbers, true derivatives, nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from transformers import (
    AlbertConfig,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    RobertaConfig,
)

from robustexit.data.types import Example, Fields, TextDataset
from robustexit.errors import ConfigError, ModelError
from robustexit.exits import ExitPolicy, make_policy, policies
from robustexit.exits.calibration import prototype
from robustexit.exits.policy import Update
from robustexit.models import LoadedModel, MultiExitConfig, MultiExitForSequenceClassification, load_model
from robustexit.modules import module_folder
from robustexit.victims.base import Victim
from robustexit.victims.custom import FunctionVictim
from robustexit.victims.fitting import fit_and_save
from robustexit.victims.gradients import DifferentiableTrace, differentiable, embedding_table, gradients, token_spans
from robustexit.victims.live import LiveVictim
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

STEP = 5e-4
WORDS = (
    "the",
    "story",
    "was",
    "slow",
    "but",
    "fine",
    "and",
    "warm",
    "with",
    "bad",
    "jokes",
    "no",
    "heart",
    "great",
    "cast",
)
POLICIES = {
    "entropy": {"t": 0.5},
    "max-probability": {"t": 0.75},
    "margin": {"t": 0.4},
    "patience": {"t": 1},
    "voting": {"t": 2},
    "geometric-mean": {"t": 0.7},
    "fixed": {},
    "fixed-2": {"k": 2},
    "random": {"distribution": [0.25, 0.25, 0.25, 0.25]},
}


def texts(n: int, seed: int = 0) -> list[Fields]:
    rng = random.Random(seed)
    return [{"text": " ".join(rng.choices(WORDS, k=rng.randint(2, 24)))} for _ in range(n)]


def policy(name: str) -> ExitPolicy:
    return make_policy(name.partition("-2")[0], **POLICIES[name])


def wrong(trace: DifferentiableTrace) -> torch.Tensor:
    """The score of an attack on the answer 0."""
    return 1 - trace.probabilities[0]


def everything(trace: DifferentiableTrace) -> torch.Tensor:
    """A score that reads all there is."""
    return trace.probabilities[0] + trace.logits.softmax(-1)[:, 1].square().sum()


@pytest.fixture(scope="module")
def data() -> TextDataset:
    examples = tuple(Example(str(i), fields, i % 2) for i, fields in enumerate(texts(60, seed=5)))
    return TextDataset("made-up", examples, ("negative", "positive"), "generated", synthetic=True)


@pytest.fixture(scope="module")
def deployed(tiny_model: Path, data: TextDataset, tmp_path_factory: pytest.TempPathFactory) -> DeployedModel:
    found = DeployedModel(load_model(str(tiny_model)), modules=module_folder(tmp_path_factory.mktemp("modules")))
    outputs = collect_outputs(found, data)
    for name in LEARNED:
        fit_and_save(found, name, data, outputs, settings={} if name == "class-means" else {"epochs": 2})
    return found


LEARNED = {"learning-to-exit": {"t": 0.5}, "ztw": {"t": 0.7}, "class-means": {"t": 0.5}}


def victims(deployed: DeployedModel) -> dict[str, ModelVictim]:
    made = {name: policy(name) for name in POLICIES} | {n: make_policy(n, **p) for n, p in LEARNED.items()}
    return {name: ModelVictim(deployed, one) for name, one in made.items()}


@pytest.mark.parametrize("name", [*POLICIES, *LEARNED])
@pytest.mark.parametrize("min_depth", [1, 3])
def test_what_is_differentiated_is_the_trace(deployed, name, min_depth) -> None:
    victim = victims(deployed)[name]
    asked = texts(20)
    seen: list[DifferentiableTrace] = []
    found = gradients(victim, asked, lambda trace: (seen.append(trace), everything(trace))[1], min_depth)
    by_logits = {tuple(one.logits.detach().numpy().ravel().tolist()): one for one in seen}
    for trace, gradient in zip(victim.trace(asked, min_depth), found, strict=True):
        own = by_logits[tuple(trace.logits[: max(min_depth, trace.exit)].ravel().tolist())]
        assert (own.exit, own.answer) == (trace.exit, trace.answer)
        np.testing.assert_array_equal(own.probabilities.detach().numpy(), trace.probabilities)
        assert gradient.layers == own.layers == max(min_depth, trace.exit)
        assert gradient.values.shape == (trace.tokens, 32)
        assert np.abs(gradient.values).max() > 0


@pytest.mark.parametrize("name", [*POLICIES, *LEARNED])
def test_the_gradient_is_the_derivative(deployed, name) -> None:
    """Against central differences, at texts whose exit and answers do not change on the way."""
    victim = victims(deployed)[name]
    generator = torch.Generator().manual_seed(0)
    checked = 0
    for text in texts(12, seed=3):
        (gradient,) = gradients(victim, [text], wrong)
        direction = torch.randn(gradient.values.shape, generator=generator)
        ends = [shifted(victim, text, step * direction) for step in (-STEP, STEP)]
        if len({end[1] for end in ends} | {victim.trace([text])[0].exit}) > 1:
            continue
        slope = (ends[1][0] - ends[0][0]) / (2 * STEP)
        expected = float((torch.from_numpy(gradient.values) * direction).sum())
        assert slope == pytest.approx(expected, rel=0.05, abs=2e-3)
        checked += 1
    assert checked >= 6 or name == "random"  # whose every step draws another exit


def shifted(victim: ModelVictim, text: Fields, by: torch.Tensor) -> tuple[float, int]:
    """Score and exit with the embeddings moved."""

    def move(layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        return output + torch.nn.functional.pad(by, (0, 0, 0, output.shape[1] - len(by)))

    hook = victim.deployed.model.get_input_embeddings().register_forward_hook(move)
    try:
        trace = victim.trace([text])[0]
    finally:
        hook.remove()
    return 1 - float(trace.probabilities[0]), trace.exit


@pytest.mark.parametrize("around", [nullcontext, torch.no_grad, torch.inference_mode], ids=lambda c: c.__name__)
def test_calls_leave_nothing_behind(deployed, around: Callable[[], Any]) -> None:
    victim = ModelVictim(deployed, policy("entropy"))
    model, asked = deployed.model, texts(6)
    before = victim.trace(asked, 4)
    state = torch.get_rng_state()
    with around():
        first, second = gradients(victim, asked, everything), gradients(victim, asked, everything)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module.training for module in model.modules())
    assert not model.get_input_embeddings()._forward_hooks
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(before, victim.trace(asked, 4), strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)


def test_a_failing_score_leaves_no_hook(deployed) -> None:
    with pytest.raises(ZeroDivisionError):
        gradients(ModelVictim(deployed), texts(1), lambda trace: trace.logits[0, 0] * (1 / 0))
    assert not deployed.model.get_input_embeddings()._forward_hooks


def test_texts_do_not_depend_on_each_other(deployed) -> None:
    victim = ModelVictim(deployed, policy("entropy"))
    asked = texts(40, seed=2)
    together = gradients(victim, asked, everything)
    for text, one in list(zip(asked, together, strict=True))[::7]:
        (alone,) = gradients(victim, [text], everything)
        np.testing.assert_allclose(one.values, alone.values, rtol=1e-4, atol=1e-6)
        assert one.score == alone.score
    assert gradients(victim, [], everything) == []


def test_scores_that_do_not_move_have_no_gradient(deployed) -> None:
    victim = ModelVictim(deployed, policy("entropy"))
    (constant,) = gradients(victim, texts(1), lambda trace: trace.logits.new_tensor(trace.exit / 4))
    assert not constant.values.any() and constant.score > 0
    mixed = gradients(victim, texts(8), lambda t: wrong(t) if t.exit > 1 else t.logits.new_zeros(()))
    assert {bool(one.values.any()) for one in mixed} == {True, False}


@dataclass(frozen=True)
class Shares(ExitPolicy):
    """Returns a vote alone, which no small step changes."""

    name: ClassVar[str] = "shares"
    source: ClassVar[str] = "test"

    def update(self, state: Any, exit: int, logits: torch.Tensor, scalars: Any) -> Update:
        votes = torch.nn.functional.one_hot(logits.argmax(-1), logits.shape[-1]).float()
        return Update(state, torch.full((len(logits),), exit == 2), votes)

    def settings(self, held_out: Any, most: int = 1) -> list[Any]:
        return [self]


def test_vote_shares_fall_back_to_the_softmax_of_the_exit_taken(deployed) -> None:
    seen: list[DifferentiableTrace] = []
    found = gradients(ModelVictim(deployed, Shares()), texts(4), lambda t: (seen.append(t), wrong(t))[1])
    expected = gradients(ModelVictim(deployed, make_policy("fixed", k=2)), texts(4), wrong)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.values, other.values, rtol=1e-5, atol=1e-8)
        assert one.score in (0.0, 1.0)
    assert all(set(trace.probabilities.tolist()) == {0.0, 1.0} for trace in seen)


def test_a_logit_that_is_not_finite_is_an_error(deployed) -> None:
    weight = deployed.model.heads[1].head
    linear = next(part for part in weight.modules() if isinstance(part, torch.nn.Linear))
    kept = linear.weight.detach().clone()
    try:
        linear.weight.data.fill_(float("nan"))
        with pytest.raises(ModelError, match="not finite"):
            gradients(ModelVictim(deployed), texts(1), wrong)
    finally:
        linear.weight.data.copy_(kept)


def test_long_texts_are_cut_as_the_model_cuts_them(deployed) -> None:
    text = {"text": " ".join(["story slow"] * 60)}
    (gradient,) = gradients(ModelVictim(deployed), [text], wrong)
    assert len(gradient.ids) == len(gradient.spans) == deployed.max_length == 128
    last = [span for span in gradient.spans if span is not None][-1]
    assert last.end < len(text["text"])


def test_spans_say_where_tokens_stand(deployed) -> None:
    text = {"first": "Slow end, the cast", "second": "a Fine story"}
    spans = token_spans(deployed, text)
    words = [None if span is None else list(text.values())[span.field][span.start : span.end] for span in spans]
    assert words[0] is words[-1] is None
    assert "".join(word or "|" for word in words) == "|Slowend,thecast|aFinestory|"
    ids = deployed.encode([text])[0].inputs["input_ids"]
    assert len(ids) == len(spans)


class NoPieces:
    is_fast = False


def test_victims_without_gradients_are_refused(deployed) -> None:
    function = FunctionVictim(lambda found: np.zeros((len(found), 2)), num_classes=2)
    with pytest.raises(ConfigError, match="need gradients, which a FunctionVictim does not show"):
        gradients(function, texts(1), wrong)
    loaded = deployed.loaded
    slow = DeployedModel(LoadedModel(loaded.model, loaded.tokenizer, loaded.kind, "h"))
    slow.tokenizer = NoPieces()
    with pytest.raises(ConfigError, match="says where its tokens stand, which NoPieces does not"):
        differentiable(ModelVictim(slow))


def test_a_learning_victim_is_differentiated_as_it_stands_and_learns_nothing(deployed) -> None:
    stream = make_policy("uee-ucb", evaluation="live", seed=0)
    victim: Victim = LiveVictim(deployed, stream)
    victim.trace(texts(9, seed=8))
    rounds = victim.bandit.rounds
    expected = victim.peek(texts(5))
    seen: list[DifferentiableTrace] = []
    gradients(victim, texts(5), lambda trace: (seen.append(trace), wrong(trace))[1])
    assert victim.bandit.rounds == rounds
    assert sorted(trace.exit for trace in seen) == sorted(trace.exit for trace in expected)


SIZES: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 140,
    "initializer_range": 0.4,
}
FAMILIES: dict[str, Callable[[int], Any]] = {
    "bert": lambda v: BertConfig(vocab_size=v, **SIZES),
    "roberta": lambda v: RobertaConfig(vocab_size=v, type_vocab_size=1, **SIZES),
    "albert": lambda v: AlbertConfig(vocab_size=v, embedding_size=8, **SIZES),
    "electra": lambda v: ElectraConfig(vocab_size=v, embedding_size=8, **SIZES),
    "distilbert": lambda v: DistilBertConfig(
        vocab_size=v, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=140, initializer_range=0.4
    ),
    "deberta": lambda v: DebertaV2Config(
        vocab_size=v,
        relative_attention=True,
        position_buckets=4,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        **SIZES,
    ),
    "modernbert": lambda v: ModernBertConfig(vocab_size=v, local_attention=4, pad_token_id=0, **SIZES),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shows_its_gradients(tiny_model, family) -> None:
    tokenizer = load_model(str(tiny_model)).tokenizer
    torch.manual_seed(0)
    config = MultiExitConfig(encoder=FAMILIES[family](len(tokenizer)), num_labels=2)
    model = MultiExitForSequenceClassification(config).eval()
    victim = ModelVictim(DeployedModel(LoadedModel(model, tokenizer, "multi_exit", "h")))
    (gradient,) = gradients(victim, texts(1), everything)
    table = embedding_table(victim.deployed)
    width = 8 if family in ("albert", "electra") else 16
    assert table.shape == (len(tokenizer), width)
    assert gradient.values.shape == (len(gradient.ids), width)
    assert np.abs(gradient.values[1:-1]).min(axis=1).max() > 0


def test_a_plain_classifier_has_the_gradient_that_torch_gives(tiny_model) -> None:
    tokenizer = load_model(str(tiny_model)).tokenizer
    torch.manual_seed(0)
    model = BertForSequenceClassification(FAMILIES["bert"](len(tokenizer))).eval()
    victim = ModelVictim(DeployedModel(LoadedModel(model, tokenizer, "plain", "h")))
    (text,) = texts(1)
    (found,) = gradients(victim, [text], wrong)
    inputs = tokenizer(text["text"], return_tensors="pt")
    embedded = model.get_input_embeddings()(inputs.pop("input_ids")).detach().requires_grad_()
    score = 1 - model(inputs_embeds=embedded, **inputs).logits.softmax(-1)[0, 0]
    (expected,) = torch.autograd.grad(score, embedded)
    np.testing.assert_allclose(found.values, expected[0].numpy(), rtol=1e-4, atol=1e-7)
    assert found.score == pytest.approx(float(score.detach()), abs=1e-6)


@pytest.mark.parametrize("name", [name for name in policies if policies.get(name).module is None])
def test_every_policy_lets_gradients_through(deployed, data, name) -> None:
    kind = prototype(name)
    if kind.needs_labels:
        pytest.skip("never deployed")
    held_out = collect_outputs(deployed, data).held_out()
    several = list(kind.fitted(held_out).settings(held_out, 5))
    for one in several[:: max(1, len(several) // 2)]:
        victim, asked = ModelVictim(deployed, one), texts(4)
        seen: list[DifferentiableTrace] = []
        found = gradients(victim, asked, lambda trace, seen=seen: (seen.append(trace), wrong(trace))[1])
        assert any(gradient.values.any() for gradient in found)
        assert sorted(trace.exit for trace in seen) == sorted(trace.exit for trace in victim.trace(asked))
