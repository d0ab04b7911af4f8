"""Settings and paths shared by every test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"):
    os.environ[name] = "1"  # before anything imports the Hugging Face libraries

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tiny tensors: several threads only wait for each other."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget after the test what it registers."""
    from robustexit.exits import policies
    from robustexit.models.heads import heads
    from robustexit.models.imported import formats
    from robustexit.modules import modules
    from robustexit.training.regimes import regimes

    for registry in (policies, modules, heads, formats, regimes):
        monkeypatch.setattr(registry, "_members", dict(registry._members))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("ROBUSTEXIT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set ROBUSTEXIT_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved four-exit BERT with random weights and heads far enough apart to answer, and its tokenizer."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import BertProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    from robustexit.models import MultiExitForSequenceClassification

    letters = [chr(code) for code in range(97, 123)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *letters, *(f"##{letter}" for letter in letters), ".", ",", "'", "the", "was", "and", "but"]
    vocabulary = {word: index for index, word in enumerate(words)}
    inner = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=40))
    inner.normalizer = BertNormalizer(lowercase=True)
    inner.pre_tokenizer = BertPreTokenizer()
    inner.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=128,
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,
    )
    folder = tmp_path_factory.mktemp("tiny")
    BertModel(config, add_pooling_layer=False).save_pretrained(folder / "encoder")
    model = MultiExitForSequenceClassification.from_backbone(
        folder / "encoder", label_names=("negative", "positive"), max_length=128, seed=0
    )
    spread_answers(model.eval(), tokenizer)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "encoder")
    return folder / "model"


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: Path) -> Path:
    """The same encoder without heads, with its tokenizer: a backbone to train on."""
    return tiny_model.parent / "encoder"


def spread_answers(model: Any, tokenizer: Any) -> None:
    """Scale and shift the random heads so that each exit answers both ways, with moderate confidence."""
    import random

    import torch

    rng = random.Random(0)
    words = [
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
        "dull",
        "end",
        "a",
        "lot",
        "of",
        "noise",
    ]
    texts = [" ".join(rng.choices(words, k=rng.randint(4, 20))) for _ in range(64)]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(inputs["input_ids"], inputs["attention_mask"]).logits
        for exit, head in enumerate(model.heads):
            linear = next(part for part in head.modules() if isinstance(part, torch.nn.Linear))
            scale = 2.0 / (logits[:, exit, 1] - logits[:, exit, 0]).std()
            linear.weight.mul_(scale)
            linear.bias.copy_((linear.bias - logits[:, exit].mean(dim=0)) * scale)
