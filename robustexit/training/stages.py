"""The stages of a run, in order: each is fine-tuned or fitted, or taken over from an earlier session."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from transformers import set_seed

from robustexit.errors import ModelError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.arguments import TrainSpec
from robustexit.training.encoding import EncodedTexts
from robustexit.training.features import Features, FitOptions, fit_heads, store_features, stored_logits
from robustexit.training.finetuning import (
    ExitTrainer,
    NumberedTexts,
    SecondBatches,
    StageCallback,
    count_exits,
    epoch_records,
    training_arguments,
)
from robustexit.training.folder import RunFolder
from robustexit.training.objectives import Objective, SecondStream, Setting, as_objective
from robustexit.training.regimes import Regime, Stage
from robustexit.training.results import EpochRecord, count_correct

Report: TypeAlias = Callable[[str, int, int], None]
"""Told what is going on, units done, units in all."""


@dataclass(frozen=True)
class StageRunner:
    """Runs a regime's stages on one model.

    Attributes:
        spec: The run.
        regime: Its regime.
        model: The model, changed in place.
        texts: The training texts.
        held_out: The held-out texts, or None.
        target: The texts of the domain to adapt to, or None.
        folder: Where checkpoints and stored states go.
        report: Shows progress.
        started: `time.monotonic()` at the start of this session.
        seconds_before: What earlier sessions spent.
    """

    spec: TrainSpec
    regime: Regime
    model: MultiExitForSequenceClassification
    texts: EncodedTexts
    held_out: EncodedTexts | None
    target: EncodedTexts | None
    folder: RunFolder
    report: Report
    started: float
    seconds_before: float

    @property
    def _bf16(self) -> bool:
        return self.spec.precision == "bf16"

    def note_seconds(self) -> float:
        """Write down and return the time spent so far, over all sessions."""
        seconds = self.seconds_before + time.monotonic() - self.started
        self.folder.add_seconds(seconds)
        return seconds

    def run(self) -> tuple[list[EpochRecord], dict[str, Any]]:
        """Run every stage that is not finished yet.

        Returns:
            The whole history, and what each stage's objective learned beside the weights, earlier sessions
            included.

        Raises:
            ModelError: A loss, state or weight is not finite.
        """
        history: list[EpochRecord] = []
        learned: dict[str, Any] = {}
        for number, stage in enumerate(self.regime.stages, start=1):
            kept = self.folder.load_stage(number, self.model)
            if kept is not None:
                history += [EpochRecord.from_json(epoch) for epoch in kept[0]]
                learned.update(kept[1])
                continue
            set_seed(self.spec.seed)
            choose_trained(self.model, stage)
            objective = self._start(stage, number)
            reads_texts = self.model.heads_read_tokens or objective.second is not SecondStream.NONE
            runs_encoder = stage.train_encoder or reads_texts
            records = (self._fine_tune if runs_encoder else self._fit)(stage, number, objective)
            check_weights(self.model)
            history += records
            facts = {stage.name: objective.facts()} if objective.facts() else {}
            learned.update(facts)
            # The last stage's weights go straight into the finished folder.
            if number < len(self.regime.stages):
                self.folder.finish_stage(number, self.model, [asdict(record) for record in records], facts)
                self.note_seconds()
        return history, learned

    def _start(self, stage: Stage, number: int) -> Objective:
        """Move the model to its device and prepare the stage's objective for it."""
        device = training_arguments(self.spec, self.folder.stage(number)).device
        model: torch.nn.Module = self.model
        model.to(device)
        objective = as_objective(stage.loss)
        setting = Setting(
            model=self.model,
            labels=np.asarray(self.texts.labels, dtype=np.int64),
            seed=self.spec.seed,
            states=lambda: self._features(stage, number, self.texts, "training").pooled,
        )
        objective.start(setting)
        objective.to(device)
        return objective

    def _rows(self, objective: Objective) -> tuple[list[int], list[int]]:
        """Return the rows of the training batches and those of the second split."""
        everything = list(range(len(self.texts)))
        if objective.second is not SecondStream.SHARE:
            return everything, []
        # Both splits hold at least one text.
        size = min(max(1, round(objective.share * len(everything))), len(everything) - 1)
        shuffled = np.random.default_rng(self.spec.seed).permutation(len(everything)).tolist()
        return sorted(shuffled[size:]), sorted(shuffled[:size])

    def _second(self, objective: Objective) -> SecondBatches | None:
        if objective.second is SecondStream.NONE:
            return None
        if objective.second is SecondStream.TARGET:
            assert self.target is not None
            texts = NumberedTexts(self.target, range(len(self.target)))
        else:
            texts = NumberedTexts(self.texts, self._rows(objective)[1])
        return SecondBatches(texts, self.spec.batch_size, self.spec.seed)

    def _fine_tune(self, stage: Stage, number: int, objective: Objective) -> list[EpochRecord]:
        def advance(done: int, total: int, loss: float | None) -> None:
            self.report(f"{stage.name}: training" + ("" if loss is None else f", loss {loss:.3f}"), done, total)

        evaluate = None
        if self.held_out is not None:
            evaluate = partial(count_exits, self.model, self.held_out, self.spec.batch_size, self._bf16)
        callback = StageCallback(self.spec.checkpoint_steps, evaluate, advance, self.note_seconds)
        spec = self.spec
        if stage.learning_rate is not None:
            spec = spec.model_copy(update={"learning_rate": stage.learning_rate})
        arguments = training_arguments(spec, self.folder.stage(number))
        texts = NumberedTexts(self.texts, self._rows(objective)[0])
        second = self._second(objective)
        trainer = ExitTrainer(self.model, objective, texts, second, stage.train_encoder, spec, arguments, callback)
        checkpoint = self.folder.latest_checkpoint(number)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        trained = stage.heads(self.model.num_exits)
        return epoch_records(trainer.state.log_history, stage.name, trained, self.spec.epochs)

    def _features(self, stage: Stage, number: int, texts: EncodedTexts, what: str) -> Features:
        done = 0

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            self.report(f"{stage.name}: states of the {what} texts", done, len(texts))

        path = self.folder.stage(number) / f"{what}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        return store_features(
            self.model, texts, path, batch_size=self.spec.batch_size, bf16=self._bf16, advance=advance
        )

    def _fit(self, stage: Stage, number: int, objective: Objective) -> list[EpochRecord]:
        spec = self.spec
        features = self._features(stage, number, self.texts, "training")
        held_out = None if self.held_out is None else self._features(stage, number, self.held_out, "held-out")
        options = FitOptions(
            epochs=spec.feature_epochs,
            learning_rate=spec.feature_learning_rate,
            weight_decay=spec.weight_decay,
            batch_size=spec.feature_batch_size,
            seed=spec.seed,
        )
        trained = stage.heads(self.model.num_exits)
        records = []
        for epoch, loss in enumerate(fit_heads(self.model, features, objective, options), start=1):
            correct = None
            if held_out is not None:
                logits = stored_logits(self.model, held_out, spec.feature_batch_size)
                correct = count_correct(logits, held_out.labels)
            records.append(EpochRecord(stage.name, epoch, loss, trained, correct))
            self.report(f"{stage.name}: fitting heads, loss {loss:.3f}", epoch, spec.feature_epochs)
        return records


def choose_trained(model: MultiExitForSequenceClassification, stage: Stage) -> None:
    """Switch gradients on for what a stage trains and off for everything else."""
    model.requires_grad_(stage.train_encoder)
    model.heads.requires_grad_(False)
    # In a second pass, since exits may share a head.
    for exit_ in stage.heads(model.num_exits):
        exit_head = model.heads[exit_ - 1]
        # A norm in front of the head is part of the stored state, so it learns only along with the encoder.
        (exit_head if stage.train_encoder else exit_head.head).requires_grad_(True)


def check_weights(model: torch.nn.Module) -> None:
    """Refuse a model that diverged.

    Raises:
        ModelError: A weight is not finite.
    """
    for name, parameter in model.named_parameters():
        if not bool(torch.isfinite(parameter).all()):
            raise ModelError(
                f"expected finite weights after training, got NaN or infinity in {name}; lower "
                "learning_rate, head_learning_rate or feature_learning_rate, or use precision fp32"
            )
