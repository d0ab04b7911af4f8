"""Victims without a model: words have fixed random weights, so every answer can be computed by hand."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from robustexit.attacks import resources
from robustexit.data.types import Example, Fields
from robustexit.victims.base import Trace

SENTENCES = (
    "The film is a warm and funny portrait of a small town in winter.",
    "A slow, clumsy thriller that never finds its rhythm.",
    "Her performance carries the whole picture with quiet grace.",
    "Nothing in this loud sequel comes near the charm of the first part.",
    "The jokes are stale and the plot makes little sense.",
    "An honest story about friendship, told with great care.",
    "The camera lingers on every face until the silence speaks.",
    "It wastes a fine cast on a dull and lazy script.",
    "A bright, clever comedy for children and their parents.",
    "The ending feels rushed, but the journey is worth taking.",
    "Two hours of empty noise and shaky pictures.",
    "This modest drama grows on you long after the lights go up.",
    "The dialogue sounds as if nobody ever read it aloud.",
    "A rare documentary that trusts its audience.",
    "Beautiful music cannot save such a weak idea.",
    "The director finds poetry in the most ordinary streets.",
    "I laughed once, and that was at the trailer.",
    "Strong acting turns a simple tale into something special.",
    "The special effects look cheap and the hero is boring.",
    "A gentle, moving film that deserves a large public.",
    "It's neither good nor bad; it's just there.",
    "Every scene repeats what the last one already said.",
    "Sharp writing and a superb lead make this a delight!",
    "The story is told twice, and it was thin the first time.",
)


@lru_cache(maxsize=2**16)
def word_weights(word: str, size: int) -> np.ndarray:
    digest = hashlib.sha256(word.encode()).digest()
    generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    return generator.standard_normal(size).astype(np.float32)


class BagOfWords:
    """Exit i sees the words through weights of its own, and is surer the deeper it lies.

    Leaves at the first exit whose largest probability reaches `threshold`.
    """

    def __init__(self, num_exits: int = 1, num_classes: int = 2, threshold: float = 0.9, gain: float = 1.0) -> None:
        self.num_exits = num_exits
        self.num_classes = num_classes
        self.exit_layers = tuple(range(1, num_exits + 1))
        self.full_depth = num_exits == 1
        self.fingerprint = f"bag-{num_exits}-{num_classes}-{threshold}-{gain}"
        self.threshold = threshold
        self.gain = gain
        self.texts_run = 0
        self.calls: list[int] = []

    def logits(self, text: Fields) -> np.ndarray:
        words = [f"{name}:{word}" for name, value in text.items() for word in value.split()]
        size = self.num_exits * self.num_classes
        total = sum((word_weights(word, size) for word in words), np.zeros(size, np.float32))
        depth = np.linspace(0.5, 1.0, self.num_exits, dtype=np.float32)[:, None]
        return (self.gain * depth * total.reshape(self.num_exits, self.num_classes)).astype(np.float32)

    def trace(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        self.texts_run += len(texts)
        self.calls.append(len(texts))
        return [self._trace(text, min_depth) for text in texts]

    def _trace(self, text: Fields, min_depth: int) -> Trace:
        logits = self.logits(text)
        probabilities = torch.softmax(torch.from_numpy(logits), dim=1).numpy()
        sure = np.flatnonzero(probabilities.max(axis=1) >= self.threshold)
        exit_ = int(sure[0]) + 1 if len(sure) else self.num_exits
        depth = max(exit_, min_depth)
        tokens = sum(len(value.split()) for value in text.values())
        return Trace(
            logits=logits[:depth],
            exit=exit_,
            probabilities=probabilities[exit_ - 1],
            tokens=tokens,
            macs=exit_ * max(tokens, 1),
            full_macs=self.num_exits * max(tokens, 1),
            layers=depth,
        )


def labelled(victim: BagOfWords, texts: Sequence[str] = SENTENCES, field: str = "text") -> list[Example]:
    """Examples labelled by the victim itself, so that no attack skips them."""
    return [Example(f"s{i}", {field: text}, victim.trace([{field: text}])[0].answer) for i, text in enumerate(texts)]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def bag() -> type[BagOfWords]:
    return BagOfWords


@pytest.fixture(scope="session")
def sentences() -> tuple[str, ...]:
    return SENTENCES


@pytest.fixture(scope="session")
def label_by() -> Callable[..., list[Example]]:
    return labelled


_OF_THE_USER = (
    "NLTK_DATA",
    "TA_CACHE_DIR",
    "TFHUB_CACHE_DIR",
    "FLAIR_CACHE_ROOT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "XDG_CACHE_HOME",
    "ROBUSTEXIT_CACHE",
    "ROBUSTEXIT_RESOURCES",
    "ROBUSTEXIT_ALLOW_NETWORK",
)


@pytest.fixture(autouse=True)
def _nothing_configured() -> Iterator[None]:
    """Forget the paths of resources that a test configures."""
    yield
    resources.configure({})


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[resources.Resource], None]:
    """Let a resource be found as a test says."""

    def replace(resource: resources.Resource) -> None:
        monkeypatch.setitem(resources.finders._members, resource.name, resources.Finder(lambda: resource))

    return replace


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME and nothing of the user's, for code that looks for resources; returns the HOME."""
    home = tmp_path / "home"
    home.mkdir()
    for name in _OF_THE_USER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delitem(sys.modules, "nltk.data", raising=False)
    return home


@pytest.fixture(scope="session")
def child_environment() -> Callable[..., dict[str, str]]:
    """Environment of a subprocess: as here, with another HOME and nothing of the user's."""

    def make(home: Path, **extra: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in _OF_THE_USER}
        return {**kept, "HOME": str(home), **extra}

    return make


_FILM_WORDS = {
    "NOUN": ("film", "movie", "story", "plot", "script", "cast"),
    "ADJ": ("good", "great", "fine", "warm", "bright", "bad", "dull", "stale", "weak", "lazy"),
    "ADV": ("very", "really", "rather", "quite"),
    "DET": ("the", "a"),
    "VERB": ("is",),
    "ADP": ("with",),
}
FILM_TAGS = {word: tag for tag, words in _FILM_WORDS.items() for word in words}


def film_sentences() -> list[str]:
    """Sentences of one small grammar: a model that has seen them knows which word fits where."""
    choices = itertools.product(*(_FILM_WORDS[tag] for tag in ("NOUN", "ADJ", "ADV")))
    made = [(f"the {n} is {d} {a}", f"a {a} {n} with a {d} {a} cast .") for n, a, d in choices]
    return [sentence for pair in made for sentence in pair]


def _wordpiece(corpus: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    words = sorted({word for sentence in corpus for word in sentence.split()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, "##s", "##ly", "##ness", "un", "re", "##make", ","]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=512)


def _byte_level_bpe(corpus: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import RobertaTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        corpus, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=512)


def _train_masked_lm(model: Any, tokenizer: Any, corpus: Sequence[str], folder: Path) -> Path:
    from transformers import DataCollatorForLanguageModeling

    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    order = random.Random(0)
    model.train()
    for _ in range(120):
        model(**collate([tokenizer(text) for text in order.sample(corpus, 32)])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


_TINY = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with WordPiece that fills gaps in `film_sentences`; 512 positions, which TextAttack's own parts need."""
    from transformers import BertConfig, BertForMaskedLM

    corpus = film_sentences()
    tokenizer = _wordpiece(corpus)
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **_TINY))
    return _train_masked_lm(model, tokenizer, corpus, tmp_path_factory.mktemp("lm") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa with byte-level BPE that fills gaps in `film_sentences`."""
    from transformers import RobertaConfig, RobertaForMaskedLM

    corpus = film_sentences()
    tokenizer = _byte_level_bpe([*corpus, *(f"le caf\u00e9 {word}" for word in corpus)])
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    torch.manual_seed(0)
    config = RobertaConfig(vocab_size=len(tokenizer), max_position_embeddings=514, type_vocab_size=1, **ids, **_TINY)
    return _train_masked_lm(
        RobertaForMaskedLM(config), tokenizer, corpus, tmp_path_factory.mktemp("lm") / "tiny-roberta"
    )


@pytest.fixture
def film_tagger(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], list[str]]:
    """NLTK's tagger replaced by one that knows the words of `film_sentences`: no data needed."""
    import nltk

    from robustexit.attacks.components import gap_filling

    def tag(words: Sequence[str], tagset: str = "universal", lang: str = "eng") -> list[tuple[str, str]]:
        return [(word, FILM_TAGS.get(word.lower(), "X")) for word in words]

    def tags(words: Sequence[str]) -> list[str]:
        return [tag_ for _, tag_ in tag(words)]

    monkeypatch.setattr(nltk, "pos_tag", tag)
    monkeypatch.setattr(gap_filling, "tagger", lambda: tags)
    return tags


def _save_gpt(folder: Path, start: str | None = "<s>") -> Path:
    """A tiny GPT-2 with random weights; whole words and single letters are its tokens, spaces belong to the next."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    letters = [chr(code) for code in range(97, 123)]
    pieces = ["<s>", *letters, *(f"Ġ{letter}" for letter in letters), ".", ",", "'", "Ġ"]
    merges: list[tuple[str, str]] = []
    for word in ("the", "film", "was", "good", "bad", "fine", "a", "plot"):
        for first in ("", "Ġ"):
            whole = first + word[0] if first else word[0]
            for letter in word[1:]:
                merges.append((whole, letter))
                whole += letter
                pieces.append(whole)
        merges.append(("Ġ", word[0]))
    merges = list(dict.fromkeys([("Ġ", letter) for letter in letters] + merges))
    vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    inner = Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **({"bos_token": start} if start else {}))
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=64, n_embd=16, n_layer=2, n_head=2, initializer_range=1)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def save_gpt() -> Callable[..., Path]:
    """Writes a tiny causal language model into a folder and returns it."""
    return _save_gpt
