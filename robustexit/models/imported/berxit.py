"""BERxiT's checkpoints: DeeBERT's off-ramps and a learning-to-exit layer."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from robustexit.models.imported.base import Encoder, Layout, formats
from robustexit.models.imported.deebert import LTE, DeeBert, is_highway
from robustexit.models.imported.reading import Weights

MODULE = "learning-to-exit"
PARTS = ("weight", "bias")


class Berxit(DeeBert):
    """DeeBERT's layout; the learning-to-exit layer is returned for the post-hoc module of that name.

    That layer reads what each off-ramp's pooler returns, u_i = sigmoid(w . tanh(P_i h_i + b_i) + b), so the poolers
    (of the last exit, the ordinary one) are returned with it.
    """

    name: ClassVar[str] = "berxit"
    source: ClassVar[str] = "BERxiT, Xin et al. 2021, EACL (github.com/castorini/berxit)"

    def recognises(self, keys: frozenset[str]) -> bool:
        """Off-ramps and a learning-to-exit layer."""
        return any(map(is_highway, keys)) and any(key.endswith(LTE) for key in keys)

    def layout(self, encoder: Encoder, weights: Weights, classes: int) -> Layout:
        """Return where off-ramps, pooler and classifier belong, and the learning-to-exit layer if there is one."""
        layout = super().layout(encoder, weights, classes)
        lte = f"{encoder.prefix}.encoder.lte_classifier"
        if f"{lte}.weight" not in weights:
            return layout
        poolers = [
            layout.heads[f"heads.{index}.head.1.{part}"].key for index in range(encoder.layers) for part in PARTS
        ]
        extras = tuple(dict.fromkeys((f"{lte}.weight", f"{lte}.bias", *poolers)))
        return dataclasses.replace(layout, extras={MODULE: extras})


formats.register(Berxit.name)(Berxit())
