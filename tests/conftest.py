"""Settings and paths shared by every test."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
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


@pytest.fixture(scope="session")
def worded() -> Callable[..., Any]:
    """Tiny random deployed BERTs in memory whose tokens are words, by kind of tokenizer; each built once."""
    return functools.cache(_worded)


_TOLD = (
    "the film was a good story with great cast but bad jokes and a slow dull end",
    "no heart in this plot yet the picture and the tale move fine",
    "one movie one actor much noise never ends it is warm and funny",
)
_PIECES = ("un", "##ing", "##s", "##ly", "wait", "great", "(", ")", ".", ",", "'", "-", "!", "[unused1]")


def _word_tokenizer(kind: str) -> Any:
    """A fast tokenizer of one of the three kinds, whose vocabulary is some whole words and some pieces."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = sorted({word for line in _TOLD for word in line.split()})
    if kind == "wordpiece":
        letters = [chr(code) for code in range(97, 123)]
        entries = dict.fromkeys([*special, *words, *_PIECES, *letters, *(f"##{letter}" for letter in letters)])
        inner = Tokenizer(models.WordPiece({word: i for i, word in enumerate(entries)}, unk_token="[UNK]"))
        inner.normalizer = normalizers.BertNormalizer(lowercase=True)
        inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    elif kind == "bpe":
        inner = Tokenizer(models.BPE(unk_token="[UNK]"))
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=520, special_tokens=special, initial_alphabet=letters, show_progress=False
        )
        inner.train_from_iterator([*_TOLD, *words], trainer)
    else:
        letters = [chr(code) for code in range(33, 127)]
        scores = {"[UNK]": -20.0, "▁": -4.0, **{f"▁{word}": -3.0 for word in words}, "ing": -5.0}
        scores |= {letter: -8.0 for letter in letters if letter not in scores}
        vocabulary = [("[PAD]", 0.0), *scores.items(), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[MASK]", 0.0)]
        inner = Tokenizer(models.Unigram(vocabulary, unk_id=1))
        inner.pre_tokenizer = pre_tokenizers.Metaspace()
        inner.decoder = decoders.Metaspace()
    ids = [(name, inner.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=64, **names)


def _worded(kind: str = "wordpiece", exits: int = 4, classes: int = 2, *, plain: bool = False) -> Any:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from robustexit.models import LoadedModel, MultiExitConfig, MultiExitForSequenceClassification
    from robustexit.victims.model_victim import DeployedModel

    tokenizer = _word_tokenizer(kind)
    torch.manual_seed(0)
    encoder = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=exits,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.12,
        num_labels=classes,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    if plain:
        model: Any = BertForSequenceClassification(encoder).eval()
        return DeployedModel(LoadedModel(model, tokenizer, "plain", f"{kind} plain"))
    model = MultiExitForSequenceClassification(MultiExitConfig(encoder=encoder, num_labels=classes)).eval()
    spread_answers(model, tokenizer)
    return DeployedModel(LoadedModel(model, tokenizer, "multi_exit", f"{kind} {exits} {classes}"))


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
