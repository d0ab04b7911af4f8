"""States layer by layer equal what Hugging Face's own encoders return, for every family."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, GPT2Config

from robustexit.errors import ModelError
from robustexit.models import MultiExitConfig, MultiExitForSequenceClassification
from robustexit.models.encoders import adapter_for, new_encoder

# fp32, four layers, states of size about one: sums in another order, nothing more.
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def _inputs_of(encoder, batch):
    """Keep what the family's own forward accepts."""
    takes_segments = getattr(encoder.config, "type_vocab_size", 0) > 1
    return {k: v for k, v in batch.items() if k != "token_type_ids" or takes_segments}


def _states(encoder, batch):
    adapter = adapter_for(encoder)
    state = adapter.embed(batch["input_ids"], batch["attention_mask"], batch.get("token_type_ids"))
    states = [state.hidden]
    for _ in range(encoder.config.num_hidden_layers):
        adapter.step(state)
        states.append(state.hidden)
    return states


def _expected(encoder, batch):
    output = encoder(**_inputs_of(encoder, batch), output_hidden_states=True)
    # Only ModernBERT's last_hidden_state differs from its last hidden state: one more norm.
    return [*output.hidden_states[:-1], output.last_hidden_state]


@torch.no_grad()
@pytest.mark.parametrize("pair", [True, False], ids=["pair", "single"])
def test_states_equal_hidden_states(family_and_attention, tiny_encoder, batch, pair):
    name, attention = family_and_attention
    encoder = tiny_encoder(name, attention)
    assert encoder.config._attn_implementation == attention
    if not pair:
        batch.pop("token_type_ids")
    ours, theirs = _states(encoder, batch), _expected(encoder, batch)
    assert len(ours) == len(theirs) == 5
    for layer, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        torch.testing.assert_close(a, b, **CLOSE, msg=lambda text, layer=layer: f"layer {layer}: {text}")


@torch.no_grad()
def test_segments_matter_where_the_family_has_them(family, tiny_encoder, batch):
    encoder = tiny_encoder(family)
    with_segments = _states(encoder, batch)[-1]
    without = _states(encoder, {k: v for k, v in batch.items() if k != "token_type_ids"})[-1]
    has_segments = getattr(encoder.config, "type_vocab_size", 0) > 1
    assert torch.equal(with_segments, without) != has_segments


@torch.no_grad()
def test_rows_that_leave_change_nothing_for_the_others(family_and_attention, tiny_encoder, batch):
    encoder = tiny_encoder(*family_and_attention)
    whole = _states(encoder, batch)
    adapter = adapter_for(encoder)
    state = adapter.embed(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    rows = torch.arange(5)
    for layer, keep in enumerate([[0, 1, 2, 3, 4], [4, 1, 2], [2, 0], [0]]):
        state.keep(torch.tensor(keep))
        rows = rows[keep]
        adapter.step(state)
        torch.testing.assert_close(state.hidden, whole[layer + 1][rows], **CLOSE)


@torch.no_grad()
def test_padding_changes_nothing(family, tiny_encoder, batch):
    encoder = tiny_encoder(family)
    row = {name: value[1:2, :5] for name, value in batch.items()}
    alone, padded = _states(encoder, row)[-1], _states(encoder, batch)[-1][1:2, :5]
    torch.testing.assert_close(alone, padded, **CLOSE)


@torch.no_grad()
def test_no_mask_means_no_padding(tiny_encoder, batch):
    adapter = adapter_for(tiny_encoder("bert"))
    ids = batch["input_ids"][:1]
    without, ones = adapter.embed(ids, None, None), adapter.embed(ids, torch.ones_like(ids), None)
    adapter.step(without)
    adapter.step(ones)
    assert torch.equal(without.hidden, ones.hidden)


def test_half_precision_keeps_its_type(family, tiny_encoder, batch):
    encoder = tiny_encoder(family).to(torch.bfloat16)
    last = _states(encoder, batch)[-1]
    assert last.dtype == torch.bfloat16
    assert torch.isfinite(last).all()


def test_encoders_are_built_without_parts_no_exit_reads(family, tiny_config):
    names = [name for name, _ in new_encoder(tiny_config(family)).named_parameters()]
    assert not [name for name in names if "pooler" in name]


def test_unsupported_family_lists_the_supported_ones():
    with pytest.raises(ModelError, match=r"encoder family 'gpt2'.*albert.*bert.*modernbert.*roberta"):
        MultiExitConfig(encoder=GPT2Config())


def test_decoder_is_refused():
    config = MultiExitConfig(encoder=BertConfig(hidden_size=8, num_attention_heads=2, is_decoder=True))
    with pytest.raises(ModelError, match="is_decoder"):
        MultiExitForSequenceClassification(config)


def test_unknown_attention_is_refused(tiny_encoder):
    encoder = tiny_encoder("bert")
    encoder.config._attn_implementation = "flash_attention_2"
    with pytest.raises(ModelError, match="expected 'sdpa' or 'eager', got 'flash_attention_2'"):
        adapter_for(encoder)


def test_inputs_that_do_not_fit_are_refused(tiny_encoder, batch):
    adapter = adapter_for(tiny_encoder("roberta"))
    with pytest.raises(ModelError, match=r"one shape \[rows, tokens\], got \(5, 12\) and \(5, 11\)"):
        adapter.embed(batch["input_ids"], batch["attention_mask"][:, 1:], None)
    too_long = torch.full((1, 39), 7)
    with pytest.raises(ModelError, match="at most 38 tokens, got 39"):
        adapter.embed(too_long, None, None)
    adapter.embed(too_long[:, :38], None, None)
