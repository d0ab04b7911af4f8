"""ElasticBERT's checkpoints with an exit after every layer."""

from __future__ import annotations

from typing import ClassVar

from robustexit.models.imported.base import (
    CheckpointFormat,
    Encoder,
    Layout,
    Origin,
    formats,
    plain,
    pooled_head,
    tensor_rows,
)
from robustexit.models.imported.reading import Weights

PREFIX = "elasticbert"


class ElasticBert(CheckpointFormat):
    """A BERT with a pooler and a classifier after every layer (fine-tuned for dynamic use).

    Models built without poolers classify the [CLS] state itself, which is our ``linear`` head.
    """

    name: ClassVar[str] = PREFIX
    source: ClassVar[str] = "ElasticBERT, Liu et al. 2022, NAACL (github.com/fastnlp/ElasticBERT)"
    prefixes: ClassVar[dict[str, str]] = {PREFIX: "bert"}

    def recognises(self, keys: frozenset[str]) -> bool:
        """Its own name before the encoder's tensors, and numbered classifiers."""
        return "classifiers.0.weight" in keys and any(key.startswith(f"{PREFIX}.") for key in keys)

    def classes(self, weights: Weights) -> int:
        """Return the outputs of the first classifier."""
        return tensor_rows(weights, "classifiers.0.weight", self.name)

    def layout(self, encoder: Encoder, weights: Weights, classes: int) -> Layout:
        """Return where poolers and classifiers belong."""
        pooler = f"{PREFIX}.encoder.pooler"
        heads: dict[str, Origin] = {}
        pooled = any(key.startswith(f"{pooler}.") for key in weights)
        for index in range(encoder.layers):
            weight, bias = plain(f"classifiers.{index}")
            if pooled:
                own = (f"{pooler}.{index}.dense.weight", f"{pooler}.{index}.dense.bias")
                heads.update(pooled_head(index, own, (weight, bias)))
            else:
                heads.update({f"heads.{index}.head.1.weight": weight, f"heads.{index}.head.1.bias": bias})
        return Layout("mlp" if pooled else "linear", heads)


formats.register(ElasticBert.name)(ElasticBert())
