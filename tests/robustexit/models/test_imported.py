"""Checkpoints of other projects: their own forward and exits, written out here on their own tensor names."""

from __future__ import annotations

import json
import math
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from robustexit.errors import ConfigError, ModelError
from robustexit.exits import make_policy, replay
from robustexit.models import MultiExitForSequenceClassification, load_model
from robustexit.models.imported import CheckpointFormat, formats, import_checkpoint
from robustexit.models.imported.base import Layout
from robustexit.modules import ModuleShape, modules, read_stored

LAYERS, WIDTH, INNER, HEADS, WORDS, CLASSES = 4, 16, 24, 2, 40, 3
EPS = {"bert": 1e-12, "roberta": 1e-5, "albert": 1e-12, "elasticbert": 1e-12}
# As transformers 2.x wrote it: no model_type, output flags, another padding id than the code's.
CONFIG = {
    "vocab_size": WORDS,
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "max_position_embeddings": 40,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "output_past": True,
    "pruned_heads": {},
    "is_decoder": False,
    "finetuning_task": "mrpc",
    "num_labels": CLASSES,
    "pad_token_id": 0,
}


# --- state dicts with the original names


def _random(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        value = torch.randn(shape, generator=generator) * 0.4
        weights[name] = value + 1 if "norm" in name.lower() and name.endswith("weight") else value
    return weights


def _linear(name, out, into):
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _norm(name, width=WIDTH):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _embeddings(prefix, width):
    return {
        f"{prefix}.embeddings.word_embeddings.weight": (WORDS, width),
        f"{prefix}.embeddings.position_embeddings.weight": (40, width),
        f"{prefix}.embeddings.token_type_embeddings.weight": (2, width),
        **_norm(f"{prefix}.embeddings.LayerNorm", width),
    }


def _bert(prefix):
    shapes = _embeddings(prefix, WIDTH)
    for index in range(LAYERS):
        layer = f"{prefix}.encoder.layer.{index}"
        for name in ("query", "key", "value"):
            shapes |= _linear(f"{layer}.attention.self.{name}", WIDTH, WIDTH)
        shapes |= _linear(f"{layer}.attention.output.dense", WIDTH, WIDTH)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm")
        shapes |= _linear(f"{layer}.intermediate.dense", INNER, WIDTH)
        shapes |= _linear(f"{layer}.output.dense", WIDTH, INNER)
        shapes |= _norm(f"{layer}.output.LayerNorm")
    return shapes


def _albert():
    shapes = {**_embeddings("albert", 8), **_linear("albert.encoder.embedding_hidden_mapping_in", WIDTH, 8)}
    for group in range(2):
        layer = f"albert.encoder.albert_layer_groups.{group}.albert_layers.0"
        for name in ("query", "key", "value", "dense"):
            shapes |= _linear(f"{layer}.attention.{name}", WIDTH, WIDTH)
        shapes |= _norm(f"{layer}.attention.LayerNorm") | _norm(f"{layer}.full_layer_layer_norm")
        shapes |= _linear(f"{layer}.ffn", INNER, WIDTH) | _linear(f"{layer}.ffn_output", WIDTH, INNER)
    return shapes


def _deebert(prefix):
    shapes = _bert(prefix) | _linear(f"{prefix}.pooler.dense", WIDTH, WIDTH) | _linear("classifier", CLASSES, WIDTH)
    for index in range(LAYERS):
        ramp = f"{prefix}.encoder.highway.{index}"
        shapes |= _linear(f"{ramp}.pooler.dense", WIDTH, WIDTH) | _linear(f"{ramp}.classifier", CLASSES, WIDTH)
    return shapes


def _berxit(prefix):
    return _deebert(prefix) | _linear(f"{prefix}.encoder.lte_classifier", 1, WIDTH)


def _classifiers():
    shapes = {}
    for index in range(LAYERS):
        shapes |= _linear(f"classifiers.{index}", CLASSES, WIDTH)
    return shapes


def _pabee_bert():
    return _bert("bert") | _linear("bert.pooler.dense", WIDTH, WIDTH) | _classifiers()


def _pabee_albert():
    return _albert() | _linear("albert.pooler", WIDTH, WIDTH) | _classifiers()


def _elasticbert():
    shapes = _bert("elasticbert") | _classifiers()
    for index in range(LAYERS):
        shapes |= _linear(f"elasticbert.encoder.pooler.{index}.dense", WIDTH, WIDTH)
    return shapes


def _past_future(prefix):
    shapes = _albert() if prefix == "albert" else _bert(prefix)
    if prefix == "albert":
        shapes |= _linear("albert.pooler", WIDTH, WIDTH)
    else:
        shapes |= _linear(f"{prefix}.pooler.dense", WIDTH, WIDTH)
        for index in range(LAYERS):
            shapes |= _linear(f"{prefix}.poolers.{index}.dense", WIDTH, WIDTH)
    return shapes | {
        f"{prefix}.pred_layer.weight": (LAYERS, WIDTH, WIDTH),
        f"{prefix}.pred_layer.bias": (LAYERS, WIDTH),
        "classifiers.weight": (LAYERS, WIDTH, 2 * CLASSES),
        "classifiers.bias": (LAYERS, 2 * CLASSES),
        **_linear("classifiers.gate_proj", CLASSES, CLASSES),
    }


CHECKPOINTS = {
    "deebert-bert": ("deebert", "bert", lambda: _deebert("bert")),
    "deebert-roberta": ("deebert", "roberta", lambda: _deebert("roberta")),
    "berxit-bert": ("berxit", "bert", lambda: _berxit("bert")),
    "berxit-roberta": ("berxit", "roberta", lambda: _berxit("roberta")),
    "pabee-bert": ("pabee", "bert", _pabee_bert),
    "pabee-albert": ("pabee", "albert", _pabee_albert),
    "elasticbert": ("elasticbert", "elasticbert", _elasticbert),
    "elasticbert-without-poolers": (
        "elasticbert",
        "elasticbert",
        lambda: {name: shape for name, shape in _elasticbert().items() if ".pooler." not in name},
    ),
    "past-future-bert": ("past-future", "bert", lambda: _past_future("bert")),
    "past-future-roberta": ("past-future", "roberta", lambda: _past_future("roberta")),
    "past-future-albert": ("past-future", "albert", lambda: _past_future("albert")),
}


# --- the originals' forward


def _apply(weights, name, states):
    return states @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _layer_norm(weights, name, states, eps):
    centred = states - states.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + eps)
    return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _gelu(states):
    return states * 0.5 * (1 + torch.erf(states / math.sqrt(2)))


def _attended(weights, name, states, mask):
    rows, tokens, _ = states.shape
    query, key, value = (
        _apply(weights, f"{name}.{part}", states).view(rows, tokens, HEADS, -1).permute(0, 2, 1, 3)
        for part in ("query", "key", "value")
    )
    scores = query @ key.transpose(-1, -2) / math.sqrt(WIDTH // HEADS) + (1.0 - mask[:, None, None].float()) * -10000.0
    return (scores.softmax(-1) @ value).permute(0, 2, 1, 3).reshape(rows, tokens, WIDTH)


def _embedded(weights, prefix, inputs):
    ids, eps = inputs["input_ids"], EPS[prefix]
    first = 2 if prefix == "roberta" else 0  # their RoBERTa counts positions from padding_idx + 1, padding or not
    total = weights[f"{prefix}.embeddings.word_embeddings.weight"][ids]
    total = total + weights[f"{prefix}.embeddings.position_embeddings.weight"][first : first + ids.shape[1]]
    total = total + weights[f"{prefix}.embeddings.token_type_embeddings.weight"][inputs["token_type_ids"]]
    return _layer_norm(weights, f"{prefix}.embeddings.LayerNorm", total, eps)


def _bert_states(weights, prefix, inputs):
    states, eps, found = _embedded(weights, prefix, inputs), EPS[prefix], []
    for index in range(LAYERS):
        layer = f"{prefix}.encoder.layer.{index}"
        attended = _attended(weights, f"{layer}.attention.self", states, inputs["attention_mask"])
        attended = _apply(weights, f"{layer}.attention.output.dense", attended)
        states = _layer_norm(weights, f"{layer}.attention.output.LayerNorm", attended + states, eps)
        inner = _gelu(_apply(weights, f"{layer}.intermediate.dense", states))
        inner = _apply(weights, f"{layer}.output.dense", inner)
        states = _layer_norm(weights, f"{layer}.output.LayerNorm", inner + states, eps)
        found.append(states)
    return found


def _albert_states(weights, inputs):
    embedded = _embedded(weights, "albert", inputs)
    states, found = _apply(weights, "albert.encoder.embedding_hidden_mapping_in", embedded), []
    for index in range(LAYERS):
        layer = f"albert.encoder.albert_layer_groups.{int(index / (LAYERS / 2))}.albert_layers.0"
        attended = _attended(weights, f"{layer}.attention", states, inputs["attention_mask"])
        attended = _apply(weights, f"{layer}.attention.dense", attended)
        states = _layer_norm(weights, f"{layer}.attention.LayerNorm", attended + states, EPS["albert"])
        inner = _apply(weights, f"{layer}.ffn_output", _gelu(_apply(weights, f"{layer}.ffn", states)))
        states = _layer_norm(weights, f"{layer}.full_layer_layer_norm", inner + states, EPS["albert"])
        found.append(states)
    return found


def _pooled(weights, name, states):
    return torch.tanh(_apply(weights, name, states[:, 0]))


def _original_logits(format_, prefix, weights, inputs):
    """Return every exit's logits [rows, exits, classes], the way the project's code computes them."""
    states = _albert_states(weights, inputs) if prefix == "albert" else _bert_states(weights, prefix, inputs)
    if format_ in ("deebert", "berxit"):
        logits = [
            _apply(
                weights,
                f"{prefix}.encoder.highway.{index}.classifier",
                _pooled(weights, f"{prefix}.encoder.highway.{index}.pooler.dense", states[index]),
            )
            for index in range(LAYERS - 1)
        ]
        logits.append(_apply(weights, "classifier", _pooled(weights, f"{prefix}.pooler.dense", states[-1])))
    elif format_ == "past-future":
        logits = _past_future_logits(prefix, weights, states)
    else:
        logits = []
        for index in range(LAYERS):
            read = states[index][:, 0]
            pooler = {"pabee": f"{prefix}.pooler" + ("" if prefix == "albert" else ".dense")}.get(
                format_, f"elasticbert.encoder.pooler.{index}.dense"
            )
            if f"{pooler}.weight" in weights:
                read = _pooled(weights, pooler, states[index])
            logits.append(_apply(weights, f"classifiers.{index}", read))
    return torch.stack(logits, dim=1)


def _past_future_logits(prefix, weights, states):
    seen, logits = [], []
    for index in range(LAYERS):
        pooler = "albert.pooler" if prefix == "albert" else f"{prefix}.poolers.{index}.dense"
        own = _pooled(weights, pooler, states[index])
        imagined = own.matmul(weights[f"{prefix}.pred_layer.weight"]).permute(1, 0, 2)
        imagined = torch.tanh(imagined + weights[f"{prefix}.pred_layer.bias"])[:, index + 1 :]
        seen.append(own)
        everything = torch.cat([torch.stack(seen, dim=1), imagined], dim=1)
        projected = everything.unsqueeze(-2).matmul(weights["classifiers.weight"]).squeeze(-2)
        projected = projected + weights["classifiers.bias"]
        past, future = projected[:, : index + 1], projected[:, index + 1 :]
        gate = torch.tanh(past[..., CLASSES:].sum(1) / (index + 1))
        gate = torch.sigmoid(_apply(weights, "classifiers.gate_proj", gate))
        past, future = past[..., :CLASSES].sum(1), future[..., :CLASSES].sum(1)
        logits.append(2 * gate * past + (2 - 2 * gate) * future)
    return logits


def _entropy(logits):
    """DeeBERT's formula, on logits."""
    exponents = torch.exp(logits)
    total = exponents.sum(-1)
    return torch.log(total) - (logits * exponents).sum(-1) / total


def _first(leaves):
    """Return the first exit (1-based) that a row leaves at; the last one if at none before."""
    inner = leaves[:, :-1]
    return torch.where(inner.any(1), inner.int().argmax(1) + 1, leaves.shape[1]).tolist()


def _patience(logits, patience):
    """PABEE's loop, one text at a time."""
    exits = []
    for row in logits:
        counter, exit_ = 0, 0
        while counter < patience and exit_ < len(row):
            same = exit_ > 0 and bool(row[exit_].argmax() == row[exit_ - 1].argmax())
            counter, exit_ = counter + 1 if same else 0, exit_ + 1
        exits.append(exit_)
    return exits


# --- fixtures


@pytest.fixture
def inputs():
    """Return 200 texts, padded on the right; their padding id is in no text."""
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(3, 13, (200,), generator=generator)
    mask = (torch.arange(12) < lengths[:, None]).long()
    tokens = torch.randint(3, WORDS, (200, 12), generator=generator)
    return {"input_ids": tokens * mask + (1 - mask), "attention_mask": mask, "token_type_ids": torch.zeros_like(mask)}


@pytest.fixture
def words(tmp_path):
    """Return the folder of a tokenizer whose files say themselves what they are."""
    vocabulary = {name: index for index, name in enumerate(("[UNK]", "[PAD]", "a", "good", "film"))}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    fast.save_pretrained(tmp_path / "words")
    return tmp_path / "words"


@pytest.fixture
def saved(tmp_path):
    """Return a maker of checkpoint folders: (name in CHECKPOINTS) -> (folder, weights)."""

    def save(name="deebert-bert", form="safetensors", config=None, change=None):
        _, prefix, shapes = CHECKPOINTS[name]
        weights = _random(shapes())
        if change is not None:
            weights = change(weights)
        folder = tmp_path / "theirs"
        folder.mkdir()
        own = {"albert": {"embedding_size": 8, "num_hidden_groups": 2, "inner_group_num": 1}}.get(prefix, {})
        settings = {**CONFIG, "layer_norm_eps": EPS[prefix], **own}
        (folder / "config.json").write_text(json.dumps(settings if config is None else config(settings)))
        if form == "safetensors":
            save_file(weights, folder / "model.safetensors")
        elif form == "bin":
            torch.save(weights, folder / "pytorch_model.bin")
            torch.save({"learning_rate": 0.1}, folder / "training_args.bin")
        else:
            wrapped = {"epoch": 3, "state_dict": {f"module.{key}": value for key, value in weights.items()}}
            torch.save(wrapped, folder / "best.pt")
        return folder, weights

    return save


# --- parity


@pytest.mark.parametrize("name", list(CHECKPOINTS))
@torch.no_grad()
def test_logits_and_exits_are_the_originals(saved, words, inputs, tmp_path, name):
    format_, prefix, _ = CHECKPOINTS[name]
    folder, weights = saved(name)
    report = import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    assert report.format == format_
    loaded = load_model(tmp_path / "ours")
    assert loaded.kind == "multi_exit"
    output = loaded.model(**inputs)
    original = _original_logits(format_, prefix, weights, inputs)
    ours = _with_modules(report, output)
    torch.testing.assert_close(ours, original, atol=1e-5, rtol=1e-5)

    entropies, taken = _entropy(original), set()
    for exit_ in range(LAYERS):
        threshold = float(entropies[:, exit_].quantile(0.5)) + 1e-5
        expected = _first(entropies < threshold)
        assert replay(make_policy("entropy", t=threshold), ours).exit.tolist() == expected
        taken.update(expected)
    assert len(taken) > 2
    for patience in (1, 2):
        assert replay(make_policy("patience", t=patience), ours).exit.tolist() == _patience(original, patience)


def _with_modules(report, output):
    """Return our logits: the heads' own, or those of the post-hoc module that the checkpoint brings."""
    if report.format != "past-future":
        return output.logits
    from robustexit.modules.base import ModuleShape, read_stored
    from robustexit.modules.past_future import PastFuture

    module = PastFuture.from_original(report.extras["past-future"], ModuleShape(LAYERS, CLASSES, WIDTH))
    return torch.from_numpy(read_stored(module, output.pooled.numpy(), output.logits.numpy()).logits)


@torch.no_grad()
@pytest.mark.parametrize("name", ["berxit-bert", "berxit-roberta"])
def test_learning_to_exit_comes_with_what_it_reads(saved, words, inputs, tmp_path, name):
    _, prefix, _ = CHECKPOINTS[name]
    folder, weights = saved(name)
    report = import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    states, lte = _bert_states(weights, prefix, inputs), f"{prefix}.encoder.lte_classifier"
    original = torch.stack(
        [
            torch.sigmoid(
                _apply(weights, lte, _pooled(weights, f"{prefix}.encoder.highway.{i}.pooler.dense", states[i]))
            ).squeeze(-1)
            for i in range(LAYERS - 1)
        ],
        dim=1,
    )
    extras, pooled = report.extras["learning-to-exit"], load_model(tmp_path / "ours").model(**inputs).pooled
    ours = torch.stack(
        [
            torch.sigmoid(
                _apply(
                    extras, lte, torch.tanh(_apply(extras, f"{prefix}.encoder.highway.{i}.pooler.dense", pooled[:, i]))
                )
            ).squeeze(-1)
            for i in range(LAYERS - 1)
        ],
        dim=1,
    )
    torch.testing.assert_close(ours, original, atol=1e-5, rtol=1e-5)
    last = torch.ones(200, 1)  # their code never leaves by it at the last layer
    threshold = float(original.flatten().quantile(0.4)) + 1e-5
    taken = replay(
        make_policy("learning-to-exit", t=threshold),
        torch.zeros(200, LAYERS, CLASSES),
        {"uncertainty": torch.cat([ours, last], 1).numpy()},
    )
    assert taken.exit.tolist() == _first(torch.cat([original, last], 1) < threshold)
    shape = ModuleShape(LAYERS, CLASSES, pooled.shape[2])
    module = modules.get("learning-to-exit").from_original(extras, shape)
    read = read_stored(module, pooled.numpy(), np.zeros((200, LAYERS, CLASSES), dtype=np.float32))
    torch.testing.assert_close(torch.from_numpy(read.scalars["uncertainty"])[:, :-1], ours, atol=1e-6, rtol=1e-6)
    assert f"{prefix}.pooler.dense.weight" in extras
    assert f"{prefix}.encoder.highway.{LAYERS - 1}.pooler.dense.weight" not in extras


# --- the key map


@pytest.mark.parametrize("name", list(CHECKPOINTS))
def test_every_tensor_is_placed_or_accounted_for(saved, words, tmp_path, name):
    folder, weights = saved(name)
    report = import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    model = MultiExitForSequenceClassification.from_pretrained(tmp_path / "ours")
    assert set(report.placed) == set(model.state_dict())
    extras = {key for tensors in report.extras.values() for key in tensors}
    used = {*report.placed.values(), *extras}
    assert used | set(report.unplaced) == set(weights)
    assert used.isdisjoint(report.unplaced)
    for ours, theirs in report.placed.items():
        if report.format != "past-future" or not ours.startswith("heads.") or ".4." not in ours:
            assert torch.equal(model.state_dict()[ours], weights[theirs])
    assert (model.config.head, model.config.pooling) == ("linear" if "without" in name else "mlp", "cls")
    assert model.config.training["imported"] == report.format


def test_the_last_off_ramp_has_no_place_and_the_report_says_why(saved, words, tmp_path):
    folder, _ = saved("deebert-bert")
    report = import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    ramp = "bert.encoder.highway.3"
    parts = [
        f"{ramp}.{part}"
        for part in ("classifier.bias", "classifier.weight", "pooler.dense.bias", "pooler.dense.weight")
    ]
    assert sorted(report.unplaced) == parts
    assert all("never trained" in reason for reason in report.unplaced.values())
    assert report.placed["heads.3.head.1.weight"] == "bert.pooler.dense.weight"
    assert report.placed["heads.3.head.4.bias"] == "classifier.bias"
    assert report.placed["heads.0.head.4.bias"] == "bert.encoder.highway.0.classifier.bias"


def test_unknown_tensors_and_counters_are_listed(saved, words, tmp_path):
    def change(weights):
        counter = {"bert.embeddings.position_ids": torch.arange(40)[None]}
        return {**weights, **counter, "cls.predictions.bias": torch.zeros(3)}

    folder, _ = saved("pabee-bert", change=change)
    report = import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    assert report.unplaced == {
        "bert.embeddings.position_ids": "a counter, not a weight; it is computed",
        "cls.predictions.bias": "unknown to this format",
    }


def test_pabees_pooler_is_copied_to_every_exit(saved, words, tmp_path):
    folder, weights = saved("pabee-albert")
    import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    model = load_model(tmp_path / "ours").model
    for exit_head in model.heads:
        assert torch.equal(exit_head.head[1].weight, weights["albert.pooler.weight"])
    assert model.heads[0].head[1].weight.data_ptr() != model.heads[1].head[1].weight.data_ptr()


@torch.no_grad()
@pytest.mark.parametrize("form", ["bin", "pt"])
def test_every_kind_of_file_gives_the_same_model(saved, words, inputs, tmp_path, form):
    folder, weights = saved("deebert-bert", form=form)
    source = folder / "best.pt" if form == "pt" else folder
    import_checkpoint(source, None, tmp_path / "ours", tokenizer=words)
    original = _original_logits("deebert", "bert", weights, inputs)
    torch.testing.assert_close(load_model(tmp_path / "ours").model(**inputs).logits, original, atol=1e-5, rtol=1e-5)


def test_half_precision_becomes_single(saved, words, tmp_path):
    folder, _ = saved("pabee-bert", change=lambda weights: {key: value.half() for key, value in weights.items()})
    import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    assert {value.dtype for value in load_model(tmp_path / "ours").model.state_dict().values()} == {torch.float32}


def test_the_tokenizer_beside_the_weights_is_taken(saved, tmp_path):
    """Old folders say nowhere which tokenizer it is: the encoder's family does."""
    folder, _ = saved("deebert-bert")
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "film"]
    (folder / "vocab.txt").write_text("\n".join(names))
    import_checkpoint(folder, "deebert", tmp_path / "ours", label_names=["no", "maybe", "yes"], max_length=12)
    loaded = load_model(tmp_path / "ours")
    assert loaded.tokenizer("a good film")["input_ids"] == [2, 5, 6, 7, 3]
    assert loaded.model.config.label_names == ("no", "maybe", "yes")
    assert loaded.model.config.max_length == 12


def test_label_names_come_from_the_config(saved, words, tmp_path):
    named = {"0": "against", "1": "neither", "2": "for"}
    folder, _ = saved("pabee-bert", config=lambda settings: {**settings, "id2label": named})
    report = import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words, field_names=("premise", "hypothesis"))
    assert report.label_names == ("against", "neither", "for")
    assert load_model(tmp_path / "ours").model.config.field_names == ("premise", "hypothesis")


def test_the_same_import_gives_the_same_model_and_leaves_the_random_state(saved, words, tmp_path):
    folder, _ = saved("pabee-bert")
    before = torch.get_rng_state()
    for name in ("one", "two"):
        import_checkpoint(folder, None, tmp_path / name, tokenizer=words)
    assert torch.equal(torch.get_rng_state(), before)
    assert load_model(tmp_path / "one").weights_hash == load_model(tmp_path / "two").weights_hash


def test_one_layer_is_one_exit(saved, words, inputs, tmp_path):
    def first_layer(weights):
        dropped = ("layer.1", "layer.2", "layer.3", "highway.1", "highway.2", "highway.3")
        return {key: value for key, value in weights.items() if not any(part in key for part in dropped)}

    folder, _ = saved("deebert-bert", change=first_layer, config=lambda settings: {**settings, "num_hidden_layers": 1})
    report = import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words)
    assert report.num_exits == 1
    assert report.placed["heads.0.head.4.weight"] == "classifier.weight"


def test_formats_of_other_packages_take_part(registries, saved, words, tmp_path):
    class Renamed(type(formats.get("pabee"))):
        name = "test-renamed"

        def recognises(self, keys):
            return "my_exits.0.weight" in keys

        def classes(self, weights):
            return len(weights["my_exits.0.weight"])

        def layout(self, encoder, weights, classes):
            own = super().layout(encoder, weights, classes)
            assert isinstance(own, Layout)
            return Layout(
                own.head,
                {
                    ours: type(origin)(origin.key.replace("classifiers", "my_exits"))
                    for ours, origin in own.heads.items()
                },
            )

    one = Renamed()
    assert isinstance(one, CheckpointFormat)
    formats.register(one.name)(one)
    folder, _ = saved(
        "pabee-bert",
        change=lambda weights: {key.replace("classifiers", "my_exits"): value for key, value in weights.items()},
    )
    assert import_checkpoint(folder, None, tmp_path / "ours", tokenizer=words).format == "test-renamed"


# --- refusals


class _Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def _refused(tmp_path, error, match, *arguments, **options):
    """Check that an import is refused and leaves nothing behind."""
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(error, match=match):
        import_checkpoint(*arguments, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("kept", [0.0, 0.4, 0.95])
def test_truncated_files_are_refused(saved, words, tmp_path, form, kept):
    folder, _ = saved(form=form)
    file = folder / ("model.safetensors" if form == "safetensors" else "pytorch_model.bin")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * kept)])
    _refused(tmp_path, ModelError, "could not read its weights", folder, None, tmp_path / "ours", tokenizer=words)


@pytest.mark.parametrize("write", ["torch", "pickle"])
def test_pickled_code_never_runs(saved, words, tmp_path, write):
    folder, weights = saved(form="bin")
    state = {**weights, "classifier.bias": _Hostile(tmp_path / "ran")}
    if write == "torch":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(state))
    _refused(tmp_path, ModelError, "could not read its weights", folder, None, tmp_path / "ours", tokenizer=words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "expected a state dict"),
        ({}, "expected a state dict"),
        ({"bert.x": 1.5}, "expected tensors by name, got float for 'bert.x'"),
    ],
)
def test_files_without_a_state_dict_are_refused(saved, words, tmp_path, content, message):
    folder, _ = saved(form="bin")
    torch.save(content, folder / "pytorch_model.bin")
    _refused(tmp_path, ModelError, message, folder, None, tmp_path / "ours", tokenizer=words)


@pytest.mark.parametrize(
    ("name", "format_", "message"),
    [
        ("deebert-bert", "past-future", "expected classifiers.gate_proj.weight in the checkpoint, found none"),
        ("pabee-bert", "elasticbert", "expected an encoder under elasticbert, found none"),
        ("elasticbert", "pabee", "expected an encoder under albert or bert, found none"),
        ("past-future-bert", "deebert", "expected classifier.weight in the checkpoint, found none"),
        ("deebert-roberta", "pabee", "expected classifiers.0.weight"),
    ],
)
def test_another_format_is_refused(saved, words, tmp_path, name, format_, message):
    folder, _ = saved(name)
    _refused(tmp_path, ModelError, message, folder, format_, tmp_path / "ours", tokenizer=words)


def test_a_format_that_nearly_fits_names_the_right_one(saved, words, tmp_path):
    def change(weights):
        return {**weights, "classifier.weight": torch.zeros(3, WIDTH), "classifier.bias": torch.zeros(3)}

    folder, _ = saved("pabee-bert", change=change)
    message = r"as 'deebert' it lacks 12 of \d+ tensors \(bert.encoder.highway.0.pooler.dense.weight for our heads.0"
    _refused(tmp_path, ModelError, message, folder, "deebert", tmp_path / "ours", tokenizer=words)
    _refused(tmp_path, ModelError, "it looks like 'pabee'", folder, "deebert", tmp_path / "ours", tokenizer=words)


def test_plain_classifiers_need_no_import(saved, words, tmp_path):
    folder, _ = saved(change=lambda weights: {k: v for k, v in weights.items() if ".highway." not in k})
    _refused(tmp_path, ModelError, "a plain classifier needs no import", folder, None, tmp_path / "x", tokenizer=words)


def test_unknown_formats_are_refused(saved, words, tmp_path):
    folder, _ = saved()
    match = r"unknown checkpoint format 'debert' \(did you mean 'deebert'\?\)"
    _refused(tmp_path, ConfigError, match, folder, "debert", tmp_path / "ours", tokenizer=words)


@pytest.mark.parametrize(
    ("name", "gone", "message"),
    [
        (
            "pabee-bert",
            "classifiers.2.weight",
            "lacks 1 of .* tensors .classifiers.2.weight for our heads.2.head.4.weight",
        ),
        ("pabee-bert", "bert.encoder.layer.1.output.dense.bias", "lacks 1 of .*layer.1.output.dense.bias"),
        ("berxit-bert", "bert.encoder.lte_classifier.bias", "expected bert.encoder.lte_classifier.bias, found none"),
        ("past-future-bert", "bert.pred_layer.bias", "expected bert.pred_layer.bias, found none"),
    ],
)
def test_tensors_of_ours_without_a_value_are_an_error(saved, words, tmp_path, name, gone, message):
    folder, _ = saved(name, change=lambda weights: {key: value for key, value in weights.items() if key != gone})
    _refused(tmp_path, ModelError, message, folder, None, tmp_path / "ours", tokenizer=words)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_hidden_layers": 3}, "expected the 3 layers that config.json says"),
        ({"num_hidden_layers": 5}, "it lacks 18 of"),
        ({"hidden_size": 32}, "expected the shapes that config.json says, got others"),
        ({"vocab_size": 41}, r"word_embeddings.weight: \(40, 16\) for \(41, 16\)"),
        ({"hidden_size": 17}, "could not read its encoder"),
        ({"hidden_act": "gleu"}, "could not read its encoder"),
        ({"num_attention_heads": "two"}, "could not read its encoder"),
        ({"hidden_size": None}, "could not read its encoder"),
    ],
)
def test_the_config_of_another_model_is_refused(saved, words, tmp_path, change, message):
    folder, _ = saved("pabee-bert", config=lambda settings: {**settings, **change})
    _refused(tmp_path, ModelError, message, folder, None, tmp_path / "ours", tokenizer=words)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (None, "expected the encoder's config.json beside the weights, found none"),
        ("{", "expected JSON"),
        ("[]", "expected an object with the encoder's sizes, got list"),
        ('{"vocab_size": 40}', "hidden_size, num_hidden_layers, num_attention_heads, intermediate_size missing"),
    ],
)
def test_missing_and_broken_configs_are_refused(saved, words, tmp_path, write, message):
    folder, _ = saved()
    (folder / "config.json").unlink()
    if write is not None:
        (folder / "config.json").write_text(write)
    _refused(tmp_path, ModelError, message, folder, None, tmp_path / "ours", tokenizer=words)


@pytest.mark.parametrize("name", ["deebert-bert", "pabee-bert", "elasticbert", "past-future-bert"])
def test_regression_heads_are_refused(saved, words, tmp_path, name):
    def one_output(weights):
        parts = ("classifier.", ".classifier.", "classifiers.", "gate_proj.")
        return {
            key: value[:1] if any(key.startswith(part) or part in key for part in parts) else value
            for key, value in weights.items()
        }

    folder, _ = saved(name, change=one_output)
    match = r"at least 2 outputs, got 1 \(a regression head\)"
    _refused(tmp_path, ModelError, match, folder, None, tmp_path / "ours", tokenizer=words)


def test_weights_that_are_not_finite_are_refused(saved, words, tmp_path):
    folder, _ = saved(change=lambda weights: {**weights, "classifier.bias": torch.tensor([0.0, np.nan, 1.0])})
    _refused(tmp_path, ModelError, "classifier.bias holds values", folder, None, tmp_path / "ours", tokenizer=words)


def test_sources_and_targets_that_cannot_work_are_refused(saved, words, tmp_path):
    folder, _ = saved()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "file").write_text("mine")
    _refused(tmp_path, ModelError, "expected a new folder", folder, None, taken, tokenizer=words)
    assert (taken / "file").read_text() == "mine"
    ours = tmp_path / "ours"
    _refused(tmp_path, ModelError, "found nothing; check the path", tmp_path / "no", None, ours, tokenizer=words)
    _refused(tmp_path, ModelError, "expected weights as", folder / "config.json", None, ours, tokenizer=words)
    _refused(tmp_path, ModelError, "expected one weights file .* found none", words, None, ours, tokenizer=words)
    _refused(tmp_path, ModelError, "could not read its tokenizer|with a vocabulary", folder, None, ours)
    _refused(tmp_path, ConfigError, "expected 3 names", folder, None, ours, tokenizer=words, label_names=["a", "b"])
    _refused(tmp_path, ConfigError, "field_names", folder, None, ours, tokenizer=words, field_names=("a", "b", "c"))
    _refused(tmp_path, ConfigError, "max_length: expected 1 to 40", folder, None, ours, tokenizer=words, max_length=50)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert import_checkpoint(folder, None, empty, tokenizer=words).folder == empty


def test_a_tokenizer_with_too_many_words_is_refused(saved, tmp_path):
    folder, _ = saved()
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(99))]))
    _refused(tmp_path, ModelError, "got 104 tokens for 40 embeddings", folder, None, tmp_path / "ours")
