"""Multiply-accumulates: against the hand formula, and against PyTorch's count of a full forward."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForSequenceClassification, LongformerConfig
from transformers import LongformerForSequenceClassification as Longformer

from robustexit.models import MacCounter, MultiExitConfig, MultiExitForSequenceClassification


def _bert_layers(tokens, layers, width, inner):
    """Projections, both attention products, and the feed-forward part, summed over the layers so far."""
    each = 4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * inner
    return [layer * each for layer in range(1, layers + 1)]


def _counted(model, tokens):
    """PyTorch's own count of one forward, with attention as plain matrix products."""
    ids = torch.full((1, tokens), 7)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(input_ids=ids, attention_mask=torch.ones_like(ids))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("tokens", [1, 4, 16, 17, 40])
def test_bert_by_hand(tiny_model, tokens):
    counter = MacCounter(tiny_model("bert", head="mlp"))
    assert counter.encoder(tokens).tolist() == _bert_layers(tokens, layers=4, width=16, inner=24)
    assert counter.heads(tokens).tolist() == [16 * 16 + 16 * 3] * 4
    assert counter.encoder(tokens).dtype == np.int64


def test_subset_of_layers_by_hand(tiny_model):
    counter = MacCounter(tiny_model("bert", exit_layers=[1, 3]))
    every = _bert_layers(10, layers=4, width=16, inner=24)
    assert counter.encoder(10).tolist() == [every[0], every[2]]
    assert counter.heads(10).tolist() == [48, 48]


def test_full_forward_of_every_family(family, tiny_model):
    model = tiny_model(family, exit_layers=[2, 4])
    counter = MacCounter(model)
    for tokens in (3, 13, 38):
        assert counter.encoder(tokens)[-1] + counter.heads(tokens).sum() == _counted(model, tokens)


def test_lengths_come_from_an_exact_polynomial(family, tiny_config):
    model = MultiExitForSequenceClassification(MultiExitConfig(encoder=tiny_config(family)))
    counter = MacCounter(model)
    # Nothing is computed, except by ModernBERT, whose rotary positions want a real device.
    assert (counter._subject is model) == (family == "modernbert")
    measured = [counter._measure(tokens) for tokens in (2, 27, 38)]
    counter._measure = lambda tokens: pytest.fail(f"measured again at {tokens} tokens")
    for tokens, (encoder, heads) in zip((2, 27, 38), measured, strict=True):
        assert counter.encoder(tokens).tolist() == encoder.tolist()
        assert counter.heads(tokens).tolist() == heads.tolist()


def test_plain_classifier_is_one_exit():
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    model = BertForSequenceClassification(config)
    counter = MacCounter(model)
    # The pooler belongs to Hugging Face's base model, so it counts below the head.
    pooler, head = 16 * 16, 16 * 2
    assert counter.encoder(9).tolist() == [_bert_layers(9, layers=2, width=16, inner=24)[-1] + pooler]
    assert counter.heads(9).tolist() == [head]
    assert counter.encoder(9)[0] + counter.heads(9)[0] == _counted(model.eval(), 9)


def test_models_that_are_no_polynomial_are_measured():
    """Longformer pads to whole windows: a step function of the tokens."""
    model = Longformer(
        LongformerConfig(
            vocab_size=40,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=24,
            attention_window=64,
            max_position_embeddings=140,
        )
    ).eval()
    counter = MacCounter(model)
    for tokens in (5, 61, 70):
        assert counter.encoder(tokens)[0] + counter.heads(tokens)[0] == _counted(model, tokens)


class _NeedsNumbers(nn.Module):
    """A layer whose code looks at values, as remote code may."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *inputs, **options):
        assert float(inputs[0].sum()) < float("inf")
        return self.inner(*inputs, **options)


class _ValueReading(BertForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)
        self.classifier = _NeedsNumbers(self.classifier)


def test_code_that_needs_numbers_is_run_and_left_as_it_was():
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24)
    model = _ValueReading(config).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    counter = MacCounter(model)
    assert counter.encoder(9)[0] == _bert_layers(9, layers=2, width=16, inner=24)[-1] + 16 * 16
    assert model.training
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_model_is_not_run_and_precision_plays_no_part(tiny_model):
    model = tiny_model("bert")
    expected = MacCounter(model).encoder(11).tolist()
    model.to(torch.bfloat16)
    model.encoder.register_forward_pre_hook(lambda *_: pytest.fail("ran"))
    model.encoder.encoder.layer[0].register_forward_pre_hook(lambda *_: pytest.fail("ran"))
    assert MacCounter(model).encoder(11).tolist() == expected
    assert model.config.encoder._attn_implementation == "sdpa"


def test_results_are_the_callers_own(tiny_model):
    counter = MacCounter(tiny_model("bert"))
    counter.encoder(5)[:] = 0
    counter.heads(5)[:] = 0
    assert counter.encoder(5).min() > 0
    assert counter.heads(5).min() > 0
