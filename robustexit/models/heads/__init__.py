"""Exit heads and pooling: what of a layer's state is read, and how it becomes logits. One file a head."""

from __future__ import annotations

from robustexit.discovery import import_all
from robustexit.models.heads.base import (
    ContextHead,
    EarlierExits,
    HeadFactory,
    HeadInputs,
    build_head,
    head_options,
    heads,
)
from robustexit.models.heads.pooling import Pooling, cls_pooling, mean_pooling, poolings

__all__ = [
    "ContextHead",
    "EarlierExits",
    "HeadFactory",
    "HeadInputs",
    "Pooling",
    "build_head",
    "cls_pooling",
    "head_options",
    "heads",
    "mean_pooling",
    "poolings",
]

import_all(__name__, __path__)
