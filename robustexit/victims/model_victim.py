"""A Hugging Face model with an exit policy, deployed as a victim."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from robustexit.data.types import Fields
from robustexit.errors import ModelError
from robustexit.exits import ExitOutput, ExitPolicy, LayerwiseRun, RowResult, make_policy, run_policy
from robustexit.exits.policy import require_deployable
from robustexit.models import LoadedModel, MacCounter, MultiExitForSequenceClassification, weights_hash
from robustexit.modules import ExitModule, FittedOn, load_module, module_folder
from robustexit.victims.base import Trace
from robustexit.victims.encoding import BATCH_ROWS, Batch, Encoded, batches, encode, min_rows

WHOLE_MODEL_ROWS = 16
"""Rows of a plain classifier's batch at least: its head runs inside, and thin products change kernels below 16."""


class _WholeModel:
    """A plain classifier as a forward with one exit."""

    def __init__(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> None:
        self._model = model
        self._inputs = inputs

    def advance(self) -> ExitOutput:
        return ExitOutput(self._model(**self._inputs).logits)

    def keep(self, rows: torch.Tensor) -> None:
        """One exit: nothing comes after it."""


@dataclass(frozen=True)
class Shape:
    """What the victim needs to know of a model: exits, classes, and the layer of each exit."""

    num_exits: int
    num_classes: int
    exit_layers: tuple[int, ...]


def _shape(model: Any) -> Shape:
    if isinstance(model, MultiExitForSequenceClassification):
        return Shape(model.num_exits, model.config.num_labels, tuple(model.exit_layers))
    return Shape(1, model.config.num_labels, (int(model.config.num_hidden_layers),))


class DeployedModel:
    """One set of weights on one device, shared by every victim that deploys it.

    Args:
        loaded: Model and tokenizer.
        max_length: Token limit; the model's own if None.
        modules: Folder of its post-hoc modules; the one beside the weights if None.
    """

    def __init__(self, loaded: LoadedModel, max_length: int | None = None, modules: Path | None = None) -> None:
        self.loaded = loaded
        self.module_folder = module_folder(Path(loaded.path)) if modules is None else modules
        self._modules: dict[str, tuple[ExitModule, FittedOn]] = {}
        self.model = cast(Any, loaded.model).eval()  # Any: Hugging Face models are partly untyped
        self.tokenizer = loaded.tokenizer
        self.shape = _shape(self.model)
        self.limit = _token_limit(loaded)
        self.max_length = min(max_length or self.limit, self.limit)
        self.macs = MacCounter(self.model)
        labels = self.model.config.id2label or {}
        self.label_names = tuple(str(labels.get(i, i)) for i in range(self.shape.num_classes))
        self._pad_values = {
            "input_ids": self.tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(self.tokenizer, "pad_token_type_id", 0),
        }

    @property
    def device(self) -> torch.device:
        """Where the weights are; the victim never moves a user's model."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def module(self, name: str) -> ExitModule:
        """Return one of the model's fitted post-hoc modules, loaded once.

        Raises:
            ModelError: Not fitted, fitted on other weights, or unreadable.
        """
        if name not in self._modules:
            self._modules[name] = load_module(self.module_folder, name, self.loaded.weights_hash)
        return self._modules[name][0]

    def forget_module(self, name: str) -> None:
        """Load a module anew the next time, since another one was saved in its place."""
        self._modules.pop(name, None)

    def modules_fitted_on(self) -> dict[str, str]:
        """Return what each module loaded so far was fitted on, in words."""
        return {name: f"{on.n} texts of {on.data}" for name, (_, on) in sorted(self._modules.items())}

    def encode(self, texts: Sequence[Fields]) -> list[Encoded]:
        """Tokenize texts to this model's limit."""
        return encode(self.tokenizer, texts, self.max_length)

    def batches(self, encoded: Sequence[Encoded], at_most: int = BATCH_ROWS) -> list[Batch]:
        """Pad and group encoded texts into batches of at most `at_most`."""
        return list(
            batches(
                encoded,
                pad_values=self._pad_values,
                limit=self.limit,
                device=self.device,
                at_least=1 if self.loaded.kind == "multi_exit" else WHOLE_MODEL_ROWS,
                at_most=at_most,
            )
        )

    def forward(self, batch: Batch) -> LayerwiseRun:
        """Start a forward pass over a batch."""
        if isinstance(self.model, MultiExitForSequenceClassification):
            run: LayerwiseRun = self.model.layerwise(**batch.inputs)
            return run
        return _WholeModel(self.model, batch.inputs)

    def full_macs(self, tokens: int) -> int:
        """MACs of the full-depth control on a text: every layer, the last head."""
        return self.macs.full_depth(tokens)

    def exit_macs(self, tokens: int, policy: ExitPolicy) -> np.ndarray[Any, np.dtype[np.int64]]:
        """MACs of leaving at each exit under a policy, its module included (unread heads are free), shape [K]."""
        num_exits = self.shape.num_exits
        read = np.array([policy.reads(exit, num_exits) for exit in range(1, num_exits + 1)])
        costs = self.macs.leaving(tokens, read)
        if policy.module is not None:
            costs = costs + np.cumsum(self.module(policy.module).macs())
        return costs


def _token_limit(loaded: LoadedModel) -> int:
    """Positions the model has for tokens: the smaller of what the tokenizer and the embeddings allow."""
    config = loaded.model.config
    encoder = getattr(config, "encoder", config)
    if isinstance(encoder, dict):
        raise ModelError("expected the encoder's configuration as a config object, got a dict")
    positions = int(getattr(encoder, "max_position_embeddings", 512) or 512)
    if encoder.model_type in {"roberta", "xlm-roberta"}:
        positions -= int(encoder.pad_token_id or 0) + 1  # their positions start after the padding id
    stated = getattr(config, "max_length", None) if encoder is not config else None
    return min(positions, int(min(loaded.tokenizer.model_max_length, 1 << 20)), int(stated or positions))


class ModelVictim:
    """A deployed model with an exit policy. See `robustexit.victims.base.Victim`.

    Args:
        deployed: The weights; several victims may share them.
        policy: The exit policy; full depth if None.

    Raises:
        ConfigError: The policy cannot work on a model of this shape, or reads the true label.
        ModelError: The policy's post-hoc module is not fitted for these weights.
    """

    def __init__(self, deployed: DeployedModel, policy: ExitPolicy | None = None) -> None:
        self.deployed = deployed
        self.policy = policy or make_policy("fixed")
        require_deployable(self.policy)
        self.module = None if self.policy.module is None else deployed.module(self.policy.module)
        shape = deployed.shape
        self.policy.start(1, shape.num_exits, shape.num_classes)
        self.num_exits = shape.num_exits
        self.num_classes = shape.num_classes
        self.exit_layers = shape.exit_layers
        # A constant exit, K or another, leaves an attacker no savings to take.
        self.full_depth = self.policy.constant or shape.num_exits == 1
        answers_depend_on = [
            deployed.loaded.weights_hash,
            self.policy.name,
            self.policy.parameters,
            deployed.max_length,
        ]
        if self.module is not None:
            answers_depend_on.append(weights_hash(self.module))
        self.fingerprint = hashlib.sha256(json.dumps(answers_depend_on).encode()).hexdigest()

    def trace(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        """Run the deployed system on texts; see `Victim.trace`.

        Raises:
            ModelError: The model returned a logit that is not finite.
        """
        if not texts:
            return []
        encoded = self.deployed.encode(texts)
        rows: dict[int, RowResult] = {}
        with torch.inference_mode():
            for batch in self.deployed.batches(encoded):
                results = run_policy(
                    self.deployed.forward(batch),
                    self.policy,
                    rows=len(batch.positions),
                    batch_rows=batch.rows,
                    shape=(self.num_exits, self.num_classes),
                    min_depth=min_depth,
                    min_rows=min_rows(batch.length),
                    reader=self.module,
                )
                rows.update(zip(batch.positions, results, strict=True))
        return [self._trace(one, rows[i]) for i, one in enumerate(encoded)]

    def _trace(self, encoded: Encoded, row: RowResult) -> Trace:
        return Trace(
            logits=row.logits,
            exit=row.exit,
            probabilities=row.probabilities,
            tokens=encoded.tokens,
            macs=int(self.deployed.exit_macs(encoded.tokens, self.policy)[row.exit - 1]),
            full_macs=self.deployed.full_macs(encoded.tokens),
            layers=self.exit_layers[len(row.logits) - 1],
            truncated=encoded.truncated,
            scalars=row.scalars,
        )
