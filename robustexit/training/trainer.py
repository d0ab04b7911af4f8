"""Training a multi-exit classifier: one call that can be killed and called again."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robustexit.data.types import TextDataset
from robustexit.models import MultiExitForSequenceClassification
from robustexit.models.loading import load_tokenizer, weights_hash
from robustexit.models.sources import quiet_transformers
from robustexit.permissions import Permissions
from robustexit.training.arguments import TrainSpec
from robustexit.training.encoding import EncodedTexts, check_data, check_training_data
from robustexit.training.folder import RunFolder, identity, writing
from robustexit.training.regimes import Regime, build_regime
from robustexit.training.results import EpochRecord, Status, TrainResult, exit_accuracies, read_result
from robustexit.training.stages import Report, StageRunner

NOTHING = Permissions()
RECORDED_PACKAGES = ("robustexit", "torch", "transformers", "accelerate", "tokenizers", "numpy")


def train(
    spec: TrainSpec,
    train_data: TextDataset,
    eval_data: TextDataset | None,
    output: Path,
    *,
    progress: bool = True,
    permissions: Permissions = NOTHING,
) -> TrainResult:
    """Train a multi-exit classifier, continue a killed training, or return a finished one.

    With the same settings, data, machine and thread count the weights are the same, also after kills. The
    global random state is seeded and left advanced.

    Args:
        spec: What to train and how.
        train_data: Training examples, of at least two classes.
        eval_data: Held-out examples for the per-exit accuracies, or None for none.
        output: The model's folder: ``from_pretrained`` reads it once it holds training.json.
        progress: Show progress on standard error.
        permissions: What the user allowed; a training file cannot grant itself anything.

    Returns:
        The per-exit accuracies, the history and where the model lies.

    Raises:
        ConfigError: A setting or combination that cannot work.
        DataError: Data that cannot be trained on.
        ModelError: A backbone that cannot be used, or a loss that is not finite.
        RunError: The folder holds another run or model, or cannot be written.
    """
    check_training_data(train_data)
    if eval_data is not None:
        check_data(eval_data, like=train_data)
    regime = build_regime(spec.regime, spec.regime_options)
    if spec.exit_layers is not None:
        regime.check_exits(len(spec.exit_layers))
    folder, this = RunFolder(output), identity(spec, train_data, eval_data)
    with writing(output):
        if folder.finished(this):
            folder.clean()
            return read_result(output)
    with _reporting(progress) as report, _quiet():
        run = _prepare(spec, regime, train_data, eval_data, folder, report, permissions)
        initial_weights = weights_hash(run.model)
        with writing(output):
            resumed = folder.begin(this, initial_weights)
            history = run.run()
            this["initial_weights"] = initial_weights
            return _finish(run, train_data, eval_data, this, history, "resumed" if resumed else "trained")


@contextmanager
def _quiet() -> Iterator[None]:
    with quiet_transformers(), warnings.catch_warnings():
        # The Trainer's notes on its own checkpoints (file times that are too close, and the like).
        warnings.filterwarnings("ignore", module=r"(transformers|torch|accelerate)\.")
        yield


@contextmanager
def _reporting(progress: bool) -> Iterator[Report]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        task = bar.add_task("preparing", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield report


def _build_model(
    spec: TrainSpec, regime: Regime, data: TextDataset, permissions: Permissions
) -> MultiExitForSequenceClassification:
    def build(exit_layers: tuple[int, ...] | None) -> MultiExitForSequenceClassification:
        return MultiExitForSequenceClassification.from_backbone(
            spec.backbone,
            label_names=data.label_names,
            exit_layers=exit_layers,
            head=spec.head,
            pooling=spec.pooling,
            max_length=spec.max_length,
            field_names=data.field_names,
            seed=spec.seed,
            allow_network=permissions.network,
            trust_remote_code=permissions.remote_code,
        )

    model = build(spec.exit_layers)
    if spec.exit_layers is None and regime.max_exits == 1:
        model = build((model.encoder_layers,))
    regime.check_exits(model.num_exits)
    return model


def _prepare(
    spec: TrainSpec,
    regime: Regime,
    train_data: TextDataset,
    eval_data: TextDataset | None,
    folder: RunFolder,
    report: Report,
    permissions: Permissions,
) -> StageRunner:
    started = time.monotonic()
    model = _build_model(spec, regime, train_data, permissions)
    tokenizer = load_tokenizer(
        spec.backbone, allow_network=permissions.network, trust_remote_code=permissions.remote_code
    )
    limit = min(model.config.max_length, tokenizer.model_max_length)
    texts = EncodedTexts(train_data, tokenizer, limit)
    held_out = None if eval_data is None else EncodedTexts(eval_data, tokenizer, limit)
    return StageRunner(spec, regime, model, texts, held_out, folder, report, started, folder.seconds())


def _finish(
    run: StageRunner,
    train_data: TextDataset,
    eval_data: TextDataset | None,
    this: dict[str, Any],
    history: list[EpochRecord],
    status: Status,
) -> TrainResult:
    layers = tuple(run.model.exit_layers)
    correct = history[-1].exit_correct
    result = TrainResult(
        output=run.folder.output,
        spec=run.spec,
        exit_layers=layers,
        exits=() if correct is None or eval_data is None else exit_accuracies(correct, len(eval_data), layers),
        history=tuple(history),
        seconds=run.note_seconds(),
        synthetic=train_data.synthetic or (eval_data is not None and eval_data.synthetic),
        status=status,
    )
    record = {
        **this,
        "spec": run.spec.model_dump(mode="json"),
        "regime_source": run.regime.source,
        "data": {
            "train": _describe(train_data, run.texts),
            "eval": None if eval_data is None or run.held_out is None else _describe(eval_data, run.held_out),
        },
        **result.as_record(),
        "machine": {
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": str(next(run.model.parameters()).device),
            "threads": torch.get_num_threads(),
            "packages": {package: version(package) for package in RECORDED_PACKAGES},
        },
    }
    run.model.config.training = {
        "regime": run.spec.regime,
        "seed": run.spec.seed,
        "train_data": train_data.name,
        "train_hash": this["train_hash"],
        "synthetic": train_data.synthetic,
    }
    run.folder.finish(lambda staging: _save(run, staging), record)
    return result


def _save(run: StageRunner, staging: Path) -> None:
    run.model.requires_grad_(True)
    run.model.eval()  # type: ignore[no-untyped-call]
    run.model.save_pretrained(staging, safe_serialization=True)
    run.texts.tokenizer.save_pretrained(staging)


def _describe(data: TextDataset, texts: EncodedTexts) -> dict[str, Any]:
    return {
        "name": data.name,
        "source": data.source,
        "hash": data.content_hash(),
        "size": len(data),
        "classes": {name: data.labels.count(index) for index, name in enumerate(data.label_names)},
        "truncated": texts.truncated,
        "synthetic": data.synthetic,
        "notes": list(data.notes),
    }
