"""A source format: how to tell it, and where its tensors belong in our model."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from transformers import AutoConfig, PretrainedConfig

from robustexit.errors import ModelError
from robustexit.models.encoders import new_encoder
from robustexit.models.imported.reading import Weights
from robustexit.models.sources import read_checked
from robustexit.registry import Registry

_BERT_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "max_position_embeddings",
    "type_vocab_size",
    "initializer_range",
    "layer_norm_eps",
    "position_embedding_type",
)
ENCODER_SETTINGS: dict[str, tuple[str, ...]] = {
    "bert": _BERT_SIZES,
    "roberta": _BERT_SIZES,
    "albert": (*_BERT_SIZES, "embedding_size", "num_hidden_groups", "inner_group_num", "classifier_dropout_prob"),
}
"""What of a config.json describes the encoder. The rest of old files (output flags, label maps of other tasks, padding
ids that their own code overrides) would only mislead."""

_REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@dataclass(frozen=True)
class Origin:
    """Where one of our tensors comes from.

    Attributes:
        key: Name in the checkpoint.
        pick: Takes our tensor out of that one; None if it is that one.
    """

    key: str
    pick: Callable[[torch.Tensor], torch.Tensor] | None = None

    def read(self, weights: Weights) -> torch.Tensor:
        """Return our tensor.

        Raises:
            ModelError: The checkpoint's tensor has too few dimensions or entries.
        """
        try:
            return weights[self.key] if self.pick is None else self.pick(weights[self.key]).contiguous()
        except (IndexError, RuntimeError) as error:
            shape = tuple(weights[self.key].shape)
            raise ModelError(f"checkpoint: {self.key} of shape {shape} does not fit config.json ({error})") from error


@dataclass(frozen=True)
class Encoder:
    """The encoder inside a checkpoint.

    Attributes:
        prefix: What stands before its tensors' names, without the dot.
        config: Its configuration.
    """

    prefix: str
    config: PretrainedConfig

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.config.num_hidden_layers)

    def pooler(self, part: str) -> str:
        """Return the name of the ordinary pooler's ``weight`` or ``bias`` (ALBERT's pooler is a bare layer)."""
        dense = "" if self.config.model_type == "albert" else ".dense"
        return f"{self.prefix}.pooler{dense}.{part}"


@dataclass(frozen=True)
class Layout:
    """Where a checkpoint's tensors belong.

    Attributes:
        head: Our head that computes what the original's exits compute.
        heads: Origin of each tensor of our heads, by our name.
        extras: Names of the tensors that a post-hoc module can be made of, by the module's name.
        without_place: (regular expression, reason) of tensors that our model has no use for.
    """

    head: str
    heads: Mapping[str, Origin]
    extras: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    without_place: tuple[tuple[str, str], ...] = ()


class CheckpointFormat(ABC):
    """One project's checkpoints."""

    name: ClassVar[str]
    source: ClassVar[str]
    """Paper and code."""

    prefixes: ClassVar[Mapping[str, str]] = {"bert": "bert", "roberta": "roberta", "albert": "albert"}
    """Encoder families (`model_type`) by what stands before the encoder's tensors."""

    @abstractmethod
    def recognises(self, keys: frozenset[str]) -> bool:
        """Whether a checkpoint with these names is of this format and no other."""

    @abstractmethod
    def classes(self, weights: Weights) -> int:
        """Return the number of outputs of its classifiers.

        Raises:
            ModelError: It has no such classifier.
        """

    @abstractmethod
    def layout(self, encoder: Encoder, weights: Weights, classes: int) -> Layout:
        """Return where its tensors belong."""

    def encoder(self, weights: Weights, config: Mapping[str, Any]) -> Encoder:
        """Return the encoder inside a checkpoint.

        Raises:
            ModelError: An encoder that this format has not, or a config.json without its sizes.
        """
        found = sorted({key.partition(".")[0] for key in weights} & set(self.prefixes))
        if len(found) != 1:
            first = ", ".join(sorted(weights)[:3])
            raise ModelError(
                f"format {self.name!r}: expected an encoder under {' or '.join(sorted(self.prefixes))}, found "
                f"{' and '.join(found) or 'none'} (the names begin with {first}); check the format"
            )
        family = self.prefixes[found[0]]
        missing = [name for name in _REQUIRED if name not in config]
        if missing:
            raise ModelError(
                f"config.json: expected the sizes of a {family} encoder, {', '.join(missing)} missing; "
                "copy the config.json of this very checkpoint beside it"
            )
        settings = {name: config[name] for name in ENCODER_SETTINGS[family] if name in config}
        return Encoder(found[0], read_checked("encoder", "config.json", lambda: _checked_config(family, settings)))


def _checked_config(family: str, settings: Mapping[str, Any]) -> PretrainedConfig:
    """Return a configuration that an encoder can be built from (tried without memory)."""
    config: PretrainedConfig = AutoConfig.for_model(family, **settings)
    with torch.device("meta"):
        new_encoder(config)
    return config


def tensor_rows(weights: Weights, key: str, format: str) -> int:
    """Return the first dimension of a tensor.

    Raises:
        ModelError: The checkpoint has no such tensor.
    """
    if key not in weights or weights[key].dim() == 0:
        raise ModelError(
            f"format {format!r}: expected {key} in the checkpoint, found none; check the format, and that the "
            "checkpoint is a trained classifier"
        )
    return len(weights[key])


def without_place_reason(key: str, layout: Layout) -> str:
    """Say why a tensor found no place."""
    for pattern, reason in layout.without_place:
        if re.fullmatch(pattern, key):
            return reason
    return "unknown to this format"


def pooled_head(index: int, pooler: tuple[str, str], classifier: tuple[Origin, Origin]) -> dict[str, Origin]:
    """Return the origins of our ``mlp`` head at one exit.

    Args:
        index: Exit, 0-based.
        pooler: Names of the pooler's weight and bias.
        classifier: Origins of the classifier's weight and bias.
    """
    return {
        f"heads.{index}.head.1.weight": Origin(pooler[0]),
        f"heads.{index}.head.1.bias": Origin(pooler[1]),
        f"heads.{index}.head.4.weight": classifier[0],
        f"heads.{index}.head.4.bias": classifier[1],
    }


def plain(stem: str) -> tuple[Origin, Origin]:
    """Return the origins of a linear layer's weight and bias."""
    return Origin(f"{stem}.weight"), Origin(f"{stem}.bias")


formats: Registry[CheckpointFormat] = Registry("checkpoint format", "robustexit.checkpoint_formats")
"""Every source format by name; other packages add theirs through the entry-point group."""
