"""Checkpoints of the global past-future method (GPFEE)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import torch

from robustexit.models.imported.base import (
    CheckpointFormat,
    Encoder,
    Layout,
    Origin,
    formats,
    pooled_head,
    tensor_rows,
)
from robustexit.models.imported.reading import Weights

MODULE = "past-future"
CLASSIFIER = "classifiers.weight"


def _own_weight(weight: torch.Tensor, layer: int, classes: int) -> torch.Tensor:
    """Return one layer's classifier [classes, width] out of [layers, width, 2 x classes]; the rest feeds the gate."""
    return weight[layer, :, :classes].T


def _own_bias(bias: torch.Tensor, layer: int, classes: int) -> torch.Tensor:
    return bias[layer, :classes]


class PastFuture(CheckpointFormat):
    """A pooler after every layer (ALBERT: one for all), imagined future states, and a gated sum over layers.

    Their exit i sums over the classifiers of all layers, with imagined states for those above i. Our head at exit i is
    layer i's own term, W_i tanh(P_i h_i + b_i) + c_i; what makes the sum is returned for the post-hoc module
    ``past-future``, whose logits then stand in for the heads'.
    """

    name: ClassVar[str] = MODULE
    source: ClassVar[str] = "Past-Future, Liao et al. 2021, NAACL (github.com/lancopku/Early-Exit)"

    def recognises(self, keys: frozenset[str]) -> bool:
        """One classifier tensor for all layers, and a layer that imagines states."""
        return CLASSIFIER in keys and any(key.endswith(".pred_layer.weight") for key in keys)

    def classes(self, weights: Weights) -> int:
        """Return the size of the gate."""
        return tensor_rows(weights, "classifiers.gate_proj.weight", self.name)

    def layout(self, encoder: Encoder, weights: Weights, classes: int) -> Layout:
        """Return where each layer's own term belongs, and the rest for the post-hoc module."""
        heads = {}
        poolers = [self._pooler(encoder, index) for index in range(encoder.layers)]
        for index, pooler in enumerate(poolers):
            weight = Origin(CLASSIFIER, partial(_own_weight, layer=index, classes=classes))
            bias = Origin("classifiers.bias", partial(_own_bias, layer=index, classes=classes))
            heads.update(pooled_head(index, pooler, (weight, bias)))
        imagine = tuple(f"{encoder.prefix}.pred_layer.{part}" for part in ("weight", "bias"))
        gate = tuple(f"classifiers.gate_proj.{part}" for part in ("weight", "bias"))
        own_poolers = tuple(dict.fromkeys(key for pooler in poolers for key in pooler))
        extras = (*imagine, CLASSIFIER, "classifiers.bias", *gate, *own_poolers)
        unused = rf"{encoder.prefix}\.pooler\.dense\.(weight|bias)"
        reason = "the pretrained pooler; the exits have poolers of their own"
        return Layout("mlp", heads, {MODULE: extras}, ((unused, reason),))

    def _pooler(self, encoder: Encoder, index: int) -> tuple[str, str]:
        if encoder.config.model_type == "albert":
            return encoder.pooler("weight"), encoder.pooler("bias")
        stem = f"{encoder.prefix}.poolers.{index}.dense"
        return f"{stem}.weight", f"{stem}.bias"


formats.register(PastFuture.name)(PastFuture())
