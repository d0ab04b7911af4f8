"""Sentence encoders for TextAttack's constraints: the packaged MiniLM, or a folder of the user's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.components.sentence_thresholds import minilm_threshold
from robustexit.attacks.resources.sentence_encoder import MINILM
from robustexit.attacks.textattack_api import SBERT, SentenceEncoder, UniversalSentenceEncoder
from robustexit.similarity import PACKAGED
from robustexit.similarity import SentenceEncoder as Encoder


class MeanPooledSimilarity(SentenceEncoder):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's constraint on the similarity of two texts, or of two windows, over a mean-pooled encoder.

    What is compared and how is TextAttack's own. Texts are encoded in batches, each once in an attempt, and a text's
    embedding does not depend on the others of its batch.

    Args:
        encoder: A folder, or ``embedded:minilm``.
        threshold: Least similarity, on this encoder's scale.
        metric: ``cosine`` or ``angular``.
        compare_against_original: Compare with the original text rather than with the last one.
        window_size: Words around the changed one that are compared; None for the whole text.
        skip_text_shorter_than_window: Let shorter texts pass unseen.
    """

    def __init__(
        self,
        encoder: str,
        threshold: float,
        metric: str = "cosine",
        compare_against_original: bool = True,
        window_size: int | None = None,
        skip_text_shorter_than_window: bool = False,
    ) -> None:
        super().__init__(threshold, metric, compare_against_original, window_size, skip_text_shorter_than_window)
        self.encoder = encoder
        self.model = self  # TextAttack's check of a single text asks the model to encode
        self._known: dict[str, NDArray[np.float32]] = {}

    def encode(self, sentences: Sequence[str]) -> torch.Tensor:
        """Return unit-length embeddings, shape [N, width]."""
        new = [text for text in dict.fromkeys(sentences) if text not in self._known]
        if new:
            self._known.update(zip(new, load_encoder(self.encoder).embed(new), strict=True))
        return torch.from_numpy(np.stack([self._known[text] for text in sentences]))

    def _check_constraint_many(self, transformed_texts: Sequence[Any], reference_text: Any) -> list[Any]:
        """Keep what is similar enough, as TextAttack does; texts that pass unseen are not encoded first, as there."""
        seen = [text for text in transformed_texts if not self._passes_unseen(text)]
        kept = {id(text) for text in super()._check_constraint_many(seen, reference_text)}
        for text in transformed_texts:
            if self._passes_unseen(text):
                text.attack_attrs["similarity_score"] = 1.0
                kept.add(id(text))
        return [text for text in transformed_texts if id(text) in kept]

    def _passes_unseen(self, text: Any) -> bool:
        return bool(self.skip_text_shorter_than_window and len(text.words) < self.window_size)

    def clear_cache(self) -> None:
        """Forget the texts of the last attempt."""
        self._known.clear()

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of it."""
        return ["encoder", *super().extra_repr_keys()]


@lru_cache(maxsize=2)
def load_encoder(name: str) -> Encoder:
    """Return an encoder, loaded once a process.

    Raises:
        ResourceError: It is not there.
    """
    return Encoder(name)


def _in_place_of_use(
    encoder: str,
    threshold: float = 0.8,
    large: bool = False,
    metric: str = "angular",
    window_size: int | None = None,
    **options: Any,
) -> MeanPooledSimilarity:
    """Take the arguments of TextAttack's `UniversalSentenceEncoder`, its defaults included."""
    if encoder == PACKAGED:
        threshold = minilm_threshold(metric, threshold, window_size)
    return MeanPooledSimilarity(encoder, threshold, metric, window_size=window_size, **options)


def _in_place_of_sbert(
    encoder: str, threshold: float = 0.7, metric: str = "cosine", model_name: str = "", **options: Any
) -> MeanPooledSimilarity:
    """Take the arguments of TextAttack's `SBERT`, its defaults included; the model is the one given here."""
    return MeanPooledSimilarity(encoder, threshold, metric, **options)


def _encoder(here: resources.Resource) -> str:
    return PACKAGED if here.substitute == MINILM else here.where


@route("sentence-encoder")
@contextmanager
def universal_sentence_encoder() -> Iterator[None]:
    """TextAttack's own from its configured folder or TensorFlow Hub's cache; else what stands in."""
    here = resources.find("sentence-encoder")
    if not here.found:
        with in_recipes(UniversalSentenceEncoder, partial(_in_place_of_use, _encoder(here))):
            yield
    elif resources.configured("sentence-encoder") is None:
        yield
    else:
        with in_recipes(UniversalSentenceEncoder, partial(_at_folder, here.where)):
            yield


def _at_folder(folder: str, *arguments: Any, **options: Any) -> Any:
    constraint = UniversalSentenceEncoder(*arguments, **options)
    constraint._tfhub_url = folder  # the hub's loader takes a folder as well
    return constraint


@route("sbert-encoder")
@contextmanager
def sbert_encoder() -> Iterator[None]:
    """Whatever the encoder is, without the package sentence-transformers, which TextAttack's own needs."""
    with in_recipes(SBERT, partial(_in_place_of_sbert, _encoder(resources.find("sbert-encoder")))):
        yield
