"""DeeBERT's checkpoints."""

from __future__ import annotations

import re
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

LTE = ".encoder.lte_classifier.weight"


def is_highway(key: str) -> bool:
    """Whether a name belongs to an off-ramp ("highway")."""
    return ".encoder.highway." in key


class DeeBert(CheckpointFormat):
    """An off-ramp with its own pooler after every layer; the last exit is the ordinary pooler and classifier.

    Their code also builds an off-ramp after the last layer, which is never trained; it has no place here.
    """

    name: ClassVar[str] = "deebert"
    source: ClassVar[str] = "DeeBERT, Xin et al. 2020, ACL (github.com/castorini/DeeBERT)"

    def recognises(self, keys: frozenset[str]) -> bool:
        """Off-ramps, and no learning-to-exit layer."""
        return any(map(is_highway, keys)) and not any(key.endswith(LTE) for key in keys)

    def classes(self, weights: Weights) -> int:
        """Return the outputs of the last classifier."""
        return tensor_rows(weights, "classifier.weight", self.name)

    def layout(self, encoder: Encoder, weights: Weights, classes: int) -> Layout:
        """Return where off-ramps, pooler and classifier belong."""
        ramp, last = f"{encoder.prefix}.encoder.highway", encoder.layers - 1
        heads = {}
        for index in range(last):
            pooler = (f"{ramp}.{index}.pooler.dense.weight", f"{ramp}.{index}.pooler.dense.bias")
            heads.update(pooled_head(index, pooler, plain(f"{ramp}.{index}.classifier")))
        heads.update(pooled_head(last, (encoder.pooler("weight"), encoder.pooler("bias")), plain("classifier")))
        never = (
            rf"{re.escape(ramp)}\.{last}\..*",
            "the last exit is the ordinary pooler and classifier; this off-ramp is built but never trained",
        )
        return Layout("mlp", heads, without_place=(never,))


formats.register(DeeBert.name)(DeeBert())
