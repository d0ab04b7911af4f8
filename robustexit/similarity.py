"""Sentence similarity of two texts: cosine of mean-pooled encoder states (Sentence-BERT, arXiv 1908.10084)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from robustexit.data.types import Fields
from robustexit.victims.encoding import batches, encode

PACKAGED = "embedded:minilm"


class SentenceEncoder:
    """A mean-pooled sentence encoder.

    Args:
        name: A folder, or ``embedded:minilm`` for the packaged all-MiniLM-L6-v2.

    Raises:
        ResourceError: The packaged encoder is not installed.
    """

    MAX_LENGTH = 256

    def __init__(self, name: str = PACKAGED) -> None:
        from transformers import AutoModel, AutoTokenizer

        from robustexit.models import resolve_backbone

        self.name = name
        folder = str(Path(resolve_backbone(name)))
        tokenizers: Any = AutoTokenizer
        self._tokenizer = tokenizers.from_pretrained(folder, local_files_only=True)
        self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit-length embeddings, shape [N, width]; a text's embedding ignores its neighbours."""
        fields: list[Fields] = [{"text": text} for text in texts]
        encoded = encode(self._tokenizer, fields, self.MAX_LENGTH)
        output = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        pad = {"input_ids": self._tokenizer.pad_token_id or 0}
        with torch.inference_mode():
            for batch in batches(encoded, pad_values=pad, limit=self.MAX_LENGTH, device="cpu"):
                states = self._model(**batch.inputs).last_hidden_state
                mask = batch.inputs["attention_mask"].unsqueeze(-1)
                pooled = (states * mask).sum(dim=1) / mask.sum(dim=1)
                unit = torch.nn.functional.normalize(pooled, dim=-1)
                output[batch.positions] = unit[: len(batch.positions)].numpy()
        return output

    def similarity(self, originals: Sequence[Fields], others: Sequence[Fields]) -> list[float]:
        """Return the cosine of each pair of inputs (their fields joined by a space)."""
        texts = [" ".join(fields.values()) for fields in [*originals, *others]]
        vectors = self.embed(texts)
        return [float(a @ b) for a, b in zip(vectors[: len(originals)], vectors[len(originals) :], strict=True)]
