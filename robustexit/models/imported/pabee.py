"""PABEE's checkpoints."""

from __future__ import annotations

from typing import ClassVar

from robustexit.models.imported.base import (
    CheckpointFormat,
    Encoder,
    Layout,
    formats,
    plain,
    pooled_head,
    tensor_rows,
)
from robustexit.models.imported.reading import Weights


class Pabee(CheckpointFormat):
    """One pooler that all exits share, and a classifier for each; the pooler is copied to every exit."""

    name: ClassVar[str] = "pabee"
    source: ClassVar[str] = "PABEE, Zhou et al. 2020, NeurIPS (github.com/JetRunner/PABEE, and in transformers)"
    prefixes: ClassVar[dict[str, str]] = {"bert": "bert", "albert": "albert"}

    def recognises(self, keys: frozenset[str]) -> bool:
        """Numbered classifiers over a BERT or ALBERT with its ordinary pooler."""
        return "classifiers.0.weight" in keys and any(key.partition(".")[0] in self.prefixes for key in keys)

    def classes(self, weights: Weights) -> int:
        """Return the outputs of the first classifier."""
        return tensor_rows(weights, "classifiers.0.weight", self.name)

    def layout(self, encoder: Encoder, weights: Weights, classes: int) -> Layout:
        """Return where pooler and classifiers belong."""
        heads = {}
        for index in range(encoder.layers):
            pooler = (encoder.pooler("weight"), encoder.pooler("bias"))
            heads.update(pooled_head(index, pooler, plain(f"classifiers.{index}")))
        return Layout("mlp", heads)


formats.register(Pabee.name)(Pabee())
