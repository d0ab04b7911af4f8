"""What a training run is told: one checked YAML mapping, nothing read from anywhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from robustexit.errors import ConfigError
from robustexit.validation import validate

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def _with_numbers(value: Any) -> Any:
    """Read ``1e-5`` as a number: YAML 1.1 takes it for a word, and options have no declared types to go by."""
    if isinstance(value, Mapping):
        return {key: _with_numbers(inner) for key, inner in value.items()}
    return float(value) if isinstance(value, str) and _EXPONENT.fullmatch(value) else value


class TrainSpec(BaseModel):
    """A training run.

    The defaults suit small encoders: on two CPU cores one epoch over 6,000 short texts takes about five
    minutes with a 6-layer, 384-wide encoder.

    Attributes:
        backbone: Hub id, local folder or ``embedded:...`` name of the encoder.
        regime: Name of a training regime.
        regime_options: Keyword options of that regime, by name.
        exit_layers: Encoder layers that get a head, 1-based and rising; None for every layer (for the last
            layer alone where the regime trains a single exit).
        head: Kind of head.
        head_options: Keyword options of that head, by name; the options of a head inside another are a mapping.
        pooling: How token states become the state that a head reads.
        epochs: Passes over the data in stages that run the encoder at every step.
        batch_size: Texts a step, also when features are computed.
        learning_rate: Peak rate of the encoder's AdamW.
        head_learning_rate: Peak rate of the heads in stages that train the encoder.
        weight_decay: Decoupled weight decay; biases and norms have none.
        warmup_ratio: Share of the steps with a rising rate; it falls linearly after.
        max_length: Longest input in tokens, special tokens included; None for the encoder's own limit.
        feature_epochs: Passes over stored features in stages where the encoder is frozen.
        feature_learning_rate: Peak rate of the heads in those stages (cosine to zero).
        feature_batch_size: Rows a step in those stages.
        seed: Seeds head initialisation, order and dropout.
        precision: ``fp32``, or ``bf16`` for autocast (weights stay fp32).
        checkpoint_steps: Steps between checkpoints.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: str
    regime: str = "joint"
    regime_options: dict[str, JsonValue] = {}
    exit_layers: tuple[Annotated[int, Field(ge=1)], ...] | None = None
    head: str = "linear"
    head_options: dict[str, JsonValue] = {}
    pooling: str = "mean"
    epochs: int = Field(default=1, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: Positive = 5e-5
    head_learning_rate: Positive = 1e-3
    weight_decay: float = Field(default=0.01, ge=0)
    warmup_ratio: Share = 0.1
    max_length: int | None = Field(default=None, ge=4)
    feature_epochs: int = Field(default=30, ge=1)
    feature_learning_rate: Positive = 1e-2
    feature_batch_size: int = Field(default=256, ge=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    precision: Literal["fp32", "bf16"] = "fp32"
    checkpoint_steps: int = Field(default=100, ge=1)

    @field_validator("regime_options", "head_options", mode="before")
    @classmethod
    def _numbers(cls, options: Any) -> Any:
        return _with_numbers(options)

    @field_validator("exit_layers")
    @classmethod
    def _layers_rise(cls, layers: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if layers is not None and (not layers or list(layers) != sorted(set(layers))):
            raise ValueError("expected layers that rise without repeats, e.g. [2, 4, 6]")
        return layers

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> TrainSpec:
        """Check a mapping, as read from YAML.

        Raises:
            ConfigError: A missing, unknown or impossible setting; the message names every one.
        """
        return validate(cls, settings, "training settings")

    @classmethod
    def from_yaml(cls, path: Path) -> TrainSpec:
        """Read and check a YAML file.

        Raises:
            ConfigError: The file is missing, is not YAML, or holds a bad setting.
        """
        try:
            settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise ConfigError(f"cannot read training settings from {path}: {error}") from error
        if not isinstance(settings, dict):
            raise ConfigError(f"{path}: expected a mapping of settings, got {type(settings).__name__}")
        return cls.parse(settings)
