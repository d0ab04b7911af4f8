"""import-checkpoint and scale-temperatures as a user runs them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from robustexit.models import load_model
from robustexit.modules import load_module, module_folder, saved_modules

LAYERS, WIDTH, CLASSES = 4, 32, 2


@pytest.fixture
def berxit(tmp_path: Path, tiny_model: Path) -> Path:
    """A checkpoint with BERxiT's own tensor names: encoder, off-ramps, last classifier, learning-to-exit layer."""
    encoder = load_model(tiny_model).model.encoder
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * 0.3

    weights = {f"bert.{name}": value.clone() for name, value in encoder.state_dict().items()}
    for layer in range(LAYERS - 1):
        ramp = f"bert.encoder.highway.{layer}"
        weights |= {f"{ramp}.pooler.dense.weight": draw(WIDTH, WIDTH), f"{ramp}.pooler.dense.bias": draw(WIDTH)}
        weights |= {f"{ramp}.classifier.weight": draw(CLASSES, WIDTH), f"{ramp}.classifier.bias": draw(CLASSES)}
    weights |= {"bert.pooler.dense.weight": draw(WIDTH, WIDTH), "bert.pooler.dense.bias": draw(WIDTH)}
    weights |= {"classifier.weight": draw(CLASSES, WIDTH), "classifier.bias": draw(CLASSES)}
    weights |= {"bert.encoder.lte_classifier.weight": draw(1, WIDTH), "bert.encoder.lte_classifier.bias": draw(1)}
    weights["optimizer.state"] = draw(3)
    folder = tmp_path / "theirs"
    folder.mkdir()
    config = {**encoder.config.to_dict(), "id2label": {"0": "negative", "1": "positive"}, "architectures": ["Berxit"]}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (tiny_model / name).exists():
            shutil.copy(tiny_model / name, folder / name)
    return folder


def test_a_berxit_checkpoint_becomes_a_whole_victim(berxit: Path, tmp_path: Path, capsys, call) -> None:
    ours = str(tmp_path / "ours")
    assert call("import-checkpoint", str(berxit), "--out", ours) == 0
    shown = capsys.readouterr().out
    assert "berxit: 4 exits" in shown
    assert "not placed: optimizer.state" in shown
    assert saved_modules(module_folder(tmp_path / "ours")) == ["learning-to-exit"]
    loaded = load_model(tmp_path / "ours")
    module, fitted_on = load_module(module_folder(tmp_path / "ours"), "learning-to-exit", loaded.weights_hash)
    assert fitted_on.data == "imported with theirs"
    assert module.settings.pooler
    attack = ["attack", "a dull story", "--model", ours, "--label", "negative"]
    assert call(*attack, "--policy", "learning-to-exit", "--set", "t=0.5") == 0


def test_a_damaged_checkpoint_leaves_nothing(berxit: Path, tmp_path: Path, capsys, call) -> None:
    whole = (berxit / "model.safetensors").read_bytes()
    (berxit / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert call("import-checkpoint", str(berxit), "--out", str(tmp_path / "ours")) == 2
    assert not (tmp_path / "ours").exists()
    assert "error:" in capsys.readouterr().err


def test_scaled_temperatures(tmp_path: Path, tiny_model: Path, capsys, call) -> None:
    rows = [{"text": f"the {tone} story {i}", "label": y} for i in range(20) for y, tone in enumerate(("dull", "warm"))]
    data = tmp_path / "texts.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    command = ["scale-temperatures", str(tiny_model), "--data", str(data), "--labels", "negative,positive", "--out"]
    assert call(*command, str(tmp_path / "scaled")) == 0
    assert "temperature" in capsys.readouterr().out
    before, after = load_model(tiny_model), load_model(tmp_path / "scaled")
    assert before.weights_hash != after.weights_hash
    inputs = before.tokenizer(["the dull story"], return_tensors="pt")
    plain = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        old, new = before.model(**plain).logits[0], after.model(**plain).logits[0]
    temperatures = np.asarray(after.model.config.temperatures)
    np.testing.assert_allclose(old.numpy() / temperatures[:, None], new.numpy(), rtol=1e-5)
    assert call(*command, str(tmp_path / "scaled")) == 2  # not empty
    command[1] = str(tmp_path / "scaled")
    assert call(*command, str(tmp_path / "twice")) == 2
    assert "scaled already" in capsys.readouterr().err
