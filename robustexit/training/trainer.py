"""Training a multi-exit classifier: one call that can be killed and called again."""

from __future__ import annotations

import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from robustexit.data.types import TextDataset
from robustexit.errors import ConfigError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.models.loading import load_tokenizer, weights_hash
from robustexit.models.sources import quiet_transformers
from robustexit.permissions import Permissions
from robustexit.training.arguments import TrainSpec
from robustexit.training.encoding import EncodedTexts, check_data, check_training_data
from robustexit.training.finetuning import count_exits
from robustexit.training.folder import RunFolder, identity, writing
from robustexit.training.regimes import Regime, build_regime
from robustexit.training.results import (
    EpochRecord,
    ExitAccuracy,
    Status,
    TrainResult,
    exit_accuracies,
    read_result,
)
from robustexit.training.stages import Report, StageRunner

Datasets: TypeAlias = tuple[TextDataset, TextDataset | None, TextDataset | None]
"""Training, held-out and target data."""

NOTHING = Permissions()
RECORDED_PACKAGES = ("robustexit", "torch", "transformers", "accelerate", "tokenizers", "numpy")


def train(
    spec: TrainSpec,
    train_data: TextDataset,
    eval_data: TextDataset | None,
    output: Path,
    *,
    target_data: TextDataset | None = None,
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
        target_data: Texts of the domain to adapt to, for the regimes that do (``domain-adapted``). They train
            without their labels, which are reported on if there are any; every label -1 means there are none.
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
    check_target(regime, target_data, train_data)
    if spec.exit_layers is not None:
        regime.check_exits(len(spec.exit_layers))
    folder, this = RunFolder(output), identity(spec, train_data, eval_data, target_data)
    with writing(output):
        if folder.finished(this):
            folder.clean()
            return read_result(output)
    with _reporting(progress) as report, _quiet():
        run = _prepare(spec, regime, (train_data, eval_data, target_data), folder, report, permissions)
        initial_weights = weights_hash(run.model)
        with writing(output):
            resumed = folder.begin(this, initial_weights)
            history, learned = run.run()
            this.update(initial_weights=initial_weights)
            data = (train_data, eval_data, target_data)
            return _finish(run, data, this, history, learned, "resumed" if resumed else "trained")


def check_target(regime: Regime, target: TextDataset | None, train_data: TextDataset) -> None:
    """Refuse a regime that adapts to another domain without its texts, and any other regime with them.

    Raises:
        ConfigError: A target dataset is missing, or there is no use for it.
        DataError: It is empty, has other fields than the training data, or has some labels of its own.
    """
    if regime.needs_target and target is None:
        raise ConfigError(
            f"regime {regime.name!r} expected a target dataset (texts of the domain to adapt to, labels not needed), "
            "got none; give target_data, or choose a regime that trains on one dataset"
        )
    if target is None:
        return
    if not regime.needs_target:
        raise ConfigError(
            f"regime {regime.name!r} expected no target dataset, got {target.name!r}; leave it out, or use regime "
            "'domain-adapted'"
        )
    if len(target) and unlabelled(target):
        stand_in = tuple(replace(example, label=0) for example in target.examples)
        check_data(replace(target, examples=stand_in, label_names=train_data.label_names), like=train_data)
    else:
        check_data(target, like=train_data)


def unlabelled(data: TextDataset) -> bool:
    """Return whether every label is -1."""
    return set(data.labels) == {-1}


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
            head_options=spec.head_options,
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
    regime.check_model(model)
    return model


def _prepare(
    spec: TrainSpec,
    regime: Regime,
    data: Datasets,
    folder: RunFolder,
    report: Report,
    permissions: Permissions,
) -> StageRunner:
    started = time.monotonic()
    model = _build_model(spec, regime, data[0], permissions)
    tokenizer = load_tokenizer(
        spec.backbone, allow_network=permissions.network, trust_remote_code=permissions.remote_code
    )
    limit = min(model.config.max_length, tokenizer.model_max_length)
    texts = EncodedTexts(data[0], tokenizer, limit)
    held_out, target = (None if part is None else EncodedTexts(part, tokenizer, limit) for part in data[1:])
    return StageRunner(spec, regime, model, texts, held_out, target, folder, report, started, folder.seconds())


def _target_accuracies(run: StageRunner, target: TextDataset | None) -> tuple[ExitAccuracy, ...]:
    if target is None or run.target is None or unlabelled(target):
        return ()
    correct = count_exits(run.model, run.target, run.spec.batch_size, run.spec.precision == "bf16")
    return exit_accuracies(correct, len(target), tuple(run.model.exit_layers))


def _finish(
    run: StageRunner,
    data: Datasets,
    this: dict[str, Any],
    history: list[EpochRecord],
    learned: dict[str, Any],
    status: Status,
) -> TrainResult:
    train_data, eval_data, target_data = data
    layers = tuple(run.model.exit_layers)
    correct = history[-1].exit_correct
    result = TrainResult(
        output=run.folder.output,
        spec=run.spec,
        exit_layers=layers,
        exits=() if correct is None or eval_data is None else exit_accuracies(correct, len(eval_data), layers),
        history=tuple(history),
        seconds=run.note_seconds(),
        synthetic=any(part is not None and part.synthetic for part in data),
        status=status,
        target_exits=_target_accuracies(run, target_data),
        learned=learned,
    )
    record = {
        **this,
        "spec": run.spec.model_dump(mode="json"),
        "regime_source": run.regime.source,
        "data": {
            "train": _describe(train_data, run.texts),
            "eval": None if eval_data is None or run.held_out is None else _describe(eval_data, run.held_out),
            "target": None if target_data is None or run.target is None else _describe(target_data, run.target),
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
    if target_data is not None:
        run.model.config.training.update(target_data=target_data.name, target_hash=this["target_hash"])
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
