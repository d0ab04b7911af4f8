"""Configuration of a multi-exit classifier: an encoder, the layers that have a head, and what heads read."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from robustexit.errors import ConfigError, unknown_name
from robustexit.models.encoders import adapter_class
from robustexit.models.heads import head_options as all_head_options
from robustexit.models.heads import heads, poolings

MODEL_TYPE = "robustexit_multi_exit"
"""`model_type` in the config.json of our folders."""


def check_single_label(problem_type: str | None, num_labels: int, where: str) -> None:
    """Refuse tasks that are not single-label classification.

    Args:
        problem_type: Hugging Face's `problem_type`, or None.
        num_labels: Number of labels.
        where: What the settings belong to, for the message.

    Raises:
        ConfigError: Regression, several labels an input, or fewer than two labels.
    """
    if problem_type not in (None, "single_label_classification"):
        raise ConfigError(
            f"{where}: expected single-label classification, got problem_type {problem_type!r}; "
            "robustness is measured on one answer an input, so train a single-label classifier"
        )
    if num_labels < 2:
        raise ConfigError(
            f"{where}: expected at least 2 labels, got {num_labels} (a regression head); "
            "train a classifier with one output a class"
        )


def check_exit_layers(exit_layers: Sequence[int], encoder_layers: int) -> tuple[int, ...]:
    """Return the exit layers as a tuple once they name encoder layers in order.

    Args:
        exit_layers: Encoder layers (1-based) that have a head.
        encoder_layers: Layers the encoder has.

    Raises:
        ConfigError: Empty, not strictly increasing, or outside 1..encoder_layers.
    """
    layers = tuple(exit_layers)
    ordered = all(a < b for a, b in itertools.pairwise(layers))
    whole = all(isinstance(layer, int) and not isinstance(layer, bool) for layer in layers)
    if not layers or not whole or not ordered or layers[0] < 1 or layers[-1] > encoder_layers:
        raise ConfigError(
            f"exit_layers: expected strictly increasing layer numbers between 1 and {encoder_layers}, "
            f"got {list(layers)}; list the encoder layers that shall have a head"
        )
    return layers


def check_temperatures(temperatures: Sequence[float] | None, num_exits: int) -> tuple[float, ...] | None:
    """Return the temperatures as a tuple once there is a positive one for each exit.

    Raises:
        ConfigError: Another number of them, or one that is not positive and finite.
    """
    if temperatures is None:
        return None
    if len(temperatures) != num_exits or not all(0 < value < math.inf for value in temperatures):
        raise ConfigError(f"temperatures: expected {num_exits} positive numbers, one an exit, got {list(temperatures)}")
    return tuple(float(value) for value in temperatures)


def _encoder_config(encoder: PretrainedConfig | Mapping[str, Any] | None) -> PretrainedConfig:
    if isinstance(encoder, PretrainedConfig):
        # A copy, since Hugging Face writes the attention implementation into nested configurations.
        return copy.deepcopy(encoder)
    if not isinstance(encoder, Mapping) or "model_type" not in encoder:
        raise ConfigError(
            "encoder: expected the encoder's configuration with its model_type, got "
            f"{type(encoder).__name__}; build models with MultiExitForSequenceClassification.from_backbone"
        )
    # transformers 4.50 saves that it chose an attention implementation, and then does not choose on loading.
    not_settings = ("model_type", "_attn_implementation_autoset")
    settings = {key: value for key, value in encoder.items() if key not in not_settings}
    try:
        return AutoConfig.for_model(encoder["model_type"], **settings)
    except ValueError as error:
        raise ConfigError(f"encoder: unknown model_type {encoder['model_type']!r}; {error}") from error


class MultiExitConfig(PretrainedConfig):
    """Configuration of `MultiExitForSequenceClassification`.

    Args:
        encoder: The encoder's configuration, as an object or as the dict in config.json.
        exit_layers: Encoder layers (1-based) that have a head, strictly increasing; None for every layer.
        head: Registered head name.
        head_options: Options of the head by name; those not given take the head's defaults and are saved as well.
        temperatures: What each exit's logits are divided by, one an exit (`robustexit scale-temperatures`); None for
            unscaled logits.
        pooling: Registered pooling name: what of a layer's state the head reads.
        dropout: Dropout probability in the heads.
        head_norm: Put a LayerNorm between pooling and head; None chooses it for encoders whose inner states
            are not normalised (ModernBERT) and leaves it out elsewhere.
        field_names: Text fields, in the order the tokenizer sees them (one or two).
        max_length: Longest input in tokens, special tokens included; None for the encoder's own limit.
        training: Where the weights come from (regime, dataset hash, seed, ...), free-form JSON.
        **kwargs: `PretrainedConfig` settings: `num_labels`, `id2label`, `label2id`, ...

    Raises:
        ConfigError: A setting that cannot work; the message says what was expected.
        ModelError: An encoder family that cannot run layer by layer.
    """

    model_type = MODEL_TYPE
    sub_configs: dict[str, Any] = {"encoder": AutoConfig}  # noqa: RUF012 (declared so by Hugging Face)
    has_no_defaults_at_init = True
    # What transformers 4.50 calls has_no_defaults_at_init.
    is_composition = True

    def __init__(
        self,
        encoder: PretrainedConfig | Mapping[str, Any] | None = None,
        exit_layers: Sequence[int] | None = None,
        head: str = "linear",
        pooling: str = "mean",
        dropout: float = 0.1,
        head_norm: bool | None = None,
        field_names: Sequence[str] = ("text",),
        max_length: int | None = None,
        training: Mapping[str, Any] | None = None,
        head_options: Mapping[str, Any] | None = None,
        temperatures: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoder = _encoder_config(encoder)
        every_layer = range(1, self.encoder.num_hidden_layers + 1)
        chosen = every_layer if exit_layers is None else exit_layers
        self.exit_layers = check_exit_layers(chosen, self.encoder.num_hidden_layers)
        if head not in heads:
            raise ConfigError(unknown_name("head", head, heads.names()))
        if head_options is not None and not isinstance(head_options, Mapping):
            raise ConfigError(f"head_options: expected options by name, got {head_options!r}")
        if pooling not in poolings:
            raise ConfigError(unknown_name("pooling", pooling, poolings))
        if not 0.0 <= dropout < 1.0:
            raise ConfigError(f"dropout: expected a probability in [0, 1), got {dropout}")
        if not 1 <= len(field_names) <= 2 or isinstance(field_names, str):
            raise ConfigError(f"field_names: expected one or two text field names, got {field_names!r}")
        limit = adapter_class(self.encoder.model_type).position_limit(self.encoder)
        if max_length is not None and not 1 <= max_length <= limit:
            raise ConfigError(f"max_length: expected 1 to {limit} tokens (the encoder's positions), got {max_length}")
        self.head = head
        self.head_options: dict[str, Any] = all_head_options(head, head_options or {})
        self.temperatures = check_temperatures(temperatures, len(self.exit_layers))
        self.pooling = pooling
        self.dropout = dropout
        self.head_norm = self.encoder.model_type == "modernbert" if head_norm is None else head_norm
        self.field_names = tuple(field_names)
        self.training = dict(training or {})
        super().__init__(**kwargs)
        # After Hugging Face's own max_length, a setting for generated text.
        self.max_length = limit if max_length is None else max_length
        check_single_label(self.problem_type, self.num_labels, "multi-exit classifier")

    def _get_non_default_generation_parameters(self) -> dict[str, Any]:
        """Return nothing: Hugging Face would take `max_length` for a setting of text generation and warn."""
        return {}

    def to_diff_dict(self) -> dict[str, Any]:
        """Return the settings to save, `max_length` always among them (its generation default is dropped)."""
        return {**super().to_diff_dict(), "max_length": self.max_length}

    @property
    def hidden_size(self) -> int:
        """Width of the encoder's states."""
        return int(self.encoder.hidden_size)

    @property
    def num_hidden_layers(self) -> int:
        """Layers of the encoder."""
        return int(self.encoder.num_hidden_layers)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Name of each label index."""
        names: dict[int, str] = self.id2label or {}
        return tuple(names[index] for index in range(self.num_labels))
