"""Victims without a model: words have fixed random weights, so every answer can be computed by hand."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

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
