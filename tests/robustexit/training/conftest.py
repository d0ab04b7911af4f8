from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from robustexit.data.types import Example, TextDataset
from robustexit.training import TrainSpec

POSITIVE = ("good", "fine", "great", "warm")
NEGATIVE = ("bad", "dull", "poor", "cold")
NEUTRAL = ("film", "the", "a", "plot", "with", "and", "scene")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random 3-layer BERT with a word vocabulary."""
    folder = tmp_path_factory.mktemp("backbone")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *POSITIVE, *NEGATIVE, *NEUTRAL]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=24).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=24,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def make_data(size: int, name: str = "toy", pair: bool = False, **changes: Any) -> TextDataset:
    """Sentences of varied length whose label is the tone of one word."""
    examples = []
    for row in range(size):
        label = row % 2
        tone = (NEGATIVE, POSITIVE)[label][row // 2 % 4]
        words = [NEUTRAL[(row * 3 + place) % len(NEUTRAL)] for place in range(2 + row % 5)]
        words.insert(row % len(words), tone)
        fields = {"first": "the film", "second": " ".join(words)} if pair else {"text": " ".join(words)}
        examples.append(Example(f"{name}-{row}", fields, label))
    settings: dict[str, Any] = {"name": name, "label_names": ("negative", "positive"), "source": "generated"}
    return TextDataset(examples=tuple(examples), **{**settings, "synthetic": True, **changes})


@pytest.fixture(name="make_data")
def make_data_fixture() -> Callable[..., TextDataset]:
    return make_data


@pytest.fixture
def train_data() -> TextDataset:
    return make_data(48)


@pytest.fixture
def eval_data() -> TextDataset:
    return make_data(20, "held-out")


@pytest.fixture
def spec(backbone: Path) -> TrainSpec:
    """Two epochs of six steps, a checkpoint every four."""
    return TrainSpec(
        backbone=str(backbone),
        epochs=2,
        batch_size=8,
        learning_rate=3e-3,
        head_learning_rate=1e-2,
        feature_epochs=5,
        feature_batch_size=16,
        checkpoint_steps=4,
    )
