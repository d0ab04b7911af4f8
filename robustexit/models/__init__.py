"""Models: multi-exit encoders, their heads, their cost, and loading them."""

from __future__ import annotations

from robustexit.models.config import MultiExitConfig
from robustexit.models.cost import MacCounter
from robustexit.models.encoders import EncoderAdapter, EncoderState, encoders
from robustexit.models.heads import heads, poolings
from robustexit.models.loading import LoadedModel, load_model, load_tokenizer, weights_hash
from robustexit.models.multi_exit import (
    MultiExitForSequenceClassification,
    MultiExitOutput,
    MultiExitRun,
    load_encoder,
)
from robustexit.models.sources import resolve_backbone

__all__ = [
    "EncoderAdapter",
    "EncoderState",
    "LoadedModel",
    "MacCounter",
    "MultiExitConfig",
    "MultiExitForSequenceClassification",
    "MultiExitOutput",
    "MultiExitRun",
    "encoders",
    "heads",
    "load_encoder",
    "load_model",
    "load_tokenizer",
    "poolings",
    "resolve_backbone",
    "weights_hash",
]
