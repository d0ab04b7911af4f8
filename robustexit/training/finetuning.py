"""Stages that run the encoder: Hugging Face's Trainer with a regime's objective.

Its own loop, schedules and checkpoints; what is ours is the loss and its gradients, an order of the texts that a
resumed run can repeat, and when to evaluate and save.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.utils.import_utils import is_torch_bf16_gpu_available

from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.arguments import TrainSpec
from robustexit.training.encoding import Encoded, EncodedTexts, LengthGrouped
from robustexit.training.features import check_loss
from robustexit.training.objectives import Batch, Objective, Step, run_model
from robustexit.training.results import EpochRecord, count_correct

CORRECT = "robustexit_exit_correct"
"""Key of the per-exit counts in the Trainer's log history, which its checkpoints carry."""

OBJECTIVE_FILE = "objective.pt"
"""An objective's own state in a checkpoint; read back as tensors and numbers only."""

NOT_INPUTS = ("labels", "rows")
"""What a batch holds beside the model's inputs."""


class NumberedTexts(Dataset[Encoded]):
    """Some rows of a dataset, each text with its row number.

    Attributes:
        lengths: Tokens of each text.

    Args:
        texts: The dataset.
        rows: Which of its rows, in order.
    """

    def __init__(self, texts: EncodedTexts, rows: Sequence[int]) -> None:
        self.texts = texts
        self.rows = list(rows)
        self.lengths = [texts.lengths[row] for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Encoded:
        row = self.rows[index]
        return {**self.texts[row], "rows": row}


class SecondBatches:
    """Batches of a second stream of texts; which one comes is a function of the step alone.

    Args:
        texts: The texts.
        batch_size: Texts a batch; fewer texts make a smaller one.
        seed: Seeds the order.
    """

    def __init__(self, texts: NumberedTexts, batch_size: int, seed: int) -> None:
        self._texts = texts
        self._size = min(batch_size, len(texts))
        self._sampler = LengthGrouped(texts.lengths, self._size, seed)
        self._collate = DataCollatorWithPadding(texts.texts.tokenizer)
        self._order: tuple[int, list[int]] | None = None

    def at(self, step: int) -> dict[str, torch.Tensor]:
        """Return the batch of a step (0-based); an incomplete last batch of a pass is left out."""
        epoch, place = divmod(step, len(self._texts) // self._size)
        if self._order is None or self._order[0] != epoch:
            self._sampler.set_epoch(epoch)
            self._order = (epoch, list(self._sampler))
        rows = self._order[1][place * self._size : (place + 1) * self._size]
        return dict(self._collate([self._texts[row] for row in rows]))


def training_arguments(spec: TrainSpec, folder: Path) -> TrainingArguments:
    """Return the Trainer's settings for a run.

    Args:
        spec: The run.
        folder: Where its checkpoints go.
    """
    bf16 = spec.precision == "bf16"
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=spec.epochs,
        per_device_train_batch_size=spec.batch_size,
        learning_rate=spec.learning_rate,
        warmup_ratio=spec.warmup_ratio,
        lr_scheduler_type="linear",
        bf16=bf16,
        use_cpu=bf16 and not is_torch_bf16_gpu_available(),
        seed=spec.seed,
        # Every step's loss goes into the log history, so that an epoch's mean survives a resume.
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        # StageCallback decides when to save and evaluate.
        save_strategy="no",
        eval_strategy="no",
        save_total_limit=1,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        label_names=["labels"],
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # One device: the Trainer would otherwise multiply batch_size by the GPUs it sees.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


def optimizer_for(
    model: MultiExitForSequenceClassification, objective: Objective, spec: TrainSpec
) -> torch.optim.AdamW:
    """Return AdamW over the parameters with gradients on: two rates, no decay on biases and norms."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    named += [("objective", parameter) for parameter in objective.learned()]
    for name, parameter in named:
        rate = spec.learning_rate if name.startswith("encoder.") else spec.head_learning_rate
        decay = spec.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    )


class ExitTrainer(Trainer):
    """Hugging Face's Trainer with an objective over all exits and a repeatable length-grouped order.

    Args:
        model: The multi-exit model.
        objective: What the stage minimises, started.
        texts: The training texts.
        second: The second stream, or None.
        train_encoder: False keeps the encoder's dropout off.
        spec: The run.
        arguments: From `training_arguments`.
        callback: When to evaluate and save.
    """

    def __init__(
        self,
        model: MultiExitForSequenceClassification,
        objective: Objective,
        texts: NumberedTexts,
        second: SecondBatches | None,
        train_encoder: bool,
        spec: TrainSpec,
        arguments: TrainingArguments,
        callback: StageCallback,
    ) -> None:
        self._exits = model
        self._objective = objective
        self._texts = texts
        self._second = second
        self._train_encoder = train_encoder
        self._peaks = (spec.learning_rate, spec.head_learning_rate)
        device = arguments.device
        self._autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=spec.precision == "bf16")
        self._step: Step | None = None
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=texts,
            data_collator=DataCollatorWithPadding(texts.texts.tokenizer),
            optimizers=(optimizer_for(model, objective, spec), None),
            callbacks=[_AfterStep(self.after_step), callback],
        )
        self.remove_callback(PrinterCallback)  # type: ignore[no-untyped-call]

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: torch.Tensor | int | None = None
    ) -> torch.Tensor:
        """Run the forward and put the objective's gradients in place.

        Returns:
            The loss, detached.

        Raises:
            ModelError: The loss is not finite.
        """
        del num_items_in_batch  # one batch a step: nothing to spread over
        self._objective.train()
        self._objective.set_modes(self._exits)
        if not self._train_encoder:
            self._exits.encoder.eval()  # type: ignore[no-untyped-call]
        self._exits.cut_gradients = self._objective.cut_gradients
        try:
            self._step = self._forward(model, inputs)
            self._objective.zero_grad()
            loss = self._objective.gradients(self._step)
        finally:
            self._exits.cut_gradients = False
        check_loss(loss, f"step {self.state.global_step + 1}", "learning_rate or head_learning_rate")
        return loss

    def _forward(self, model: torch.nn.Module, inputs: dict[str, Any]) -> Step:
        number = self.state.global_step
        batch = self._batch(inputs)
        second = None if self._second is None else self._batch(self._second.at(number))
        logits, pooled = run_model(model, batch.inputs, self._autocast)
        share = self._rate_share()
        return Step(
            model=self._exits,
            number=number,
            total=self.state.max_steps,
            batch=batch,
            logits=logits,
            pooled=pooled,
            second=second,
            encoder_rate=share * self._peaks[0],
            head_rate=share * self._peaks[1],
            autocast=self._autocast,
        )

    def _batch(self, inputs: dict[str, Any]) -> Batch:
        on_device: dict[str, torch.Tensor] = self._prepare_inputs(inputs)
        texts = {name: value for name, value in on_device.items() if name not in NOT_INPUTS}
        return Batch(texts, on_device["labels"], on_device["rows"])

    def _rate_share(self) -> float:
        """Return the schedule's share of the peak rates in this step."""
        assert self.optimizer is not None
        group = self.optimizer.param_groups[0]
        return float(group["lr"] / group["initial_lr"])

    def after_step(self) -> None:
        """Let the objective act on the new weights."""
        assert self._step is not None
        self._objective.after_step(self._step)
        self._step = None

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        # With the optimiser's files, and so before the state file that marks a checkpoint as complete.
        super()._save_optimizer_and_scheduler(output_dir)  # type: ignore[no-untyped-call]
        if self._objective.has_state:
            torch.save(self._objective.state_dict(), Path(output_dir) / OBJECTIVE_FILE)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[no-untyped-call]
        if checkpoint is not None and self._objective.has_state:
            device = self.args.device
            state = torch.load(Path(checkpoint) / OBJECTIVE_FILE, map_location=device, weights_only=True)
            self._objective.load_state_dict(state)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, texts of like length together, in an order set by seed and epoch."""
        batch_size = self.args.per_device_train_batch_size
        loader = DataLoader(
            self._texts,
            batch_size=batch_size,
            sampler=LengthGrouped(self._texts.lengths, batch_size, self.args.seed),
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared


@dataclass
class _AfterStep(TrainerCallback):
    """Calls `act` after every step, before its checkpoint and evaluation."""

    act: Callable[[], None]

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.act()


@dataclass
class StageCallback(TrainerCallback):
    """Says when to save, evaluates after each epoch, and reports progress.

    Attributes:
        checkpoint_steps: Steps between checkpoints within an epoch; one more ends each epoch.
        evaluate: Counts right answers of each exit on held-out data, or None.
        advance: Told (steps done, steps in all, last loss).
        note_seconds: Called at each checkpoint, so that a resumed run reports all of its time.
    """

    checkpoint_steps: int
    evaluate: Callable[[], tuple[int, ...]] | None
    advance: Callable[[int, int, float | None], None]
    note_seconds: Callable[[], object]

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show where the run stands."""
        self.advance(state.global_step, state.max_steps, None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Ask for a checkpoint every `checkpoint_steps`, but not twice at the end of an epoch."""
        steps_per_epoch = state.max_steps // state.num_train_epochs
        if state.global_step % self.checkpoint_steps == 0 and state.global_step % steps_per_epoch != 0:
            control.should_save = True

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Show the last step's loss."""
        self.advance(state.global_step, state.max_steps, state.log_history[-1].get("loss"))

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Evaluate every exit, then ask for a checkpoint that carries the result."""
        if self.evaluate is not None:
            correct = list(self.evaluate())
            log: list[dict[str, Any]] = state.log_history
            log.append({"epoch": state.epoch, "step": state.global_step, CORRECT: correct})
        control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Note the time spent."""
        self.note_seconds()


def exit_logits(
    model: MultiExitForSequenceClassification, texts: EncodedTexts, batch_size: int, bf16: bool
) -> NDArray[np.float32]:
    """Return every exit's logits, shape [N, K, C], in the texts' order.

    Args:
        model: The multi-exit model; left in evaluation mode.
        texts: What to run it on.
        batch_size: Texts a batch; texts of like length share one.
        bf16: Run under bfloat16 autocast.
    """
    model.eval()  # type: ignore[no-untyped-call]
    device = next(model.parameters()).device
    collate = DataCollatorWithPadding(texts.tokenizer)
    order = sorted(range(len(texts)), key=lambda row: texts.lengths[row])
    found: list[NDArray[np.float32]] = []
    with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for start in range(0, len(order), batch_size):
            batch = collate([texts[row] for row in order[start : start + batch_size]])
            inputs = {name: value.to(device) for name, value in batch.items() if name != "labels"}
            found.append(model(**inputs).logits.float().cpu().numpy())
    logits = np.concatenate(found)
    return np.asarray(logits[np.argsort(order)], dtype=np.float32)


def count_exits(
    model: MultiExitForSequenceClassification, texts: EncodedTexts, batch_size: int, bf16: bool
) -> tuple[int, ...]:
    """Return how many texts each exit answers right (arguments as for `exit_logits`)."""
    logits = exit_logits(model, texts, batch_size, bf16)
    return count_correct(logits, np.asarray(texts.labels, dtype=np.int64))


def epoch_records(
    log: list[dict[str, Any]], stage: str, trained_exits: tuple[int, ...], epochs: int
) -> list[EpochRecord]:
    """Read each epoch's mean loss and per-exit counts from the Trainer's log history.

    Args:
        log: The history: one entry a step, one an evaluation.
        stage: Name of the stage.
        trained_exits: Exits whose heads learned in it.
        epochs: Its number of epochs.
    """
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    counts = [tuple(entry[CORRECT]) for entry in log if CORRECT in entry]
    per_epoch = len(losses) // epochs
    steps = sorted(losses)
    records = []
    for epoch in range(epochs):
        mine = [losses[step] for step in steps[epoch * per_epoch : (epoch + 1) * per_epoch]]
        correct = counts[epoch] if counts else None
        records.append(EpochRecord(stage, epoch + 1, float(np.mean(mine)), trained_exits, correct))
    return records
