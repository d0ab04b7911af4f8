"""Stages that train the encoder: Hugging Face's Trainer with a regime's loss.

Its own loop, schedules and checkpoints; what is ours is the loss, an order of the texts that a resumed run
can repeat, and when to evaluate and save.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
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
from robustexit.training.encoding import EncodedTexts, LengthGrouped
from robustexit.training.features import check_loss
from robustexit.training.regimes import ExitLoss
from robustexit.training.results import EpochRecord, count_correct

CORRECT = "robustexit_exit_correct"
"""Key of the per-exit counts in the Trainer's log history, which its checkpoints carry."""


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


def optimizer_for(model: MultiExitForSequenceClassification, spec: TrainSpec) -> torch.optim.AdamW:
    """Return AdamW over the parameters with gradients on: two rates, no decay on biases and norms."""
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = spec.head_learning_rate if name.startswith("heads.") else spec.learning_rate
            decay = spec.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": params, "lr": rate, "weight_decay": decay} for (rate, decay), params in groups.items()]
    )


class ExitTrainer(Trainer):
    """Hugging Face's Trainer with a loss over all exits and a repeatable length-grouped order.

    Args:
        model: The multi-exit model.
        loss: The stage's loss.
        texts: The training texts.
        spec: The run.
        arguments: From `training_arguments`.
        callback: When to evaluate and save.
    """

    def __init__(
        self,
        model: MultiExitForSequenceClassification,
        loss: ExitLoss,
        texts: EncodedTexts,
        spec: TrainSpec,
        arguments: TrainingArguments,
        callback: StageCallback,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=texts,
            data_collator=DataCollatorWithPadding(texts.tokenizer),
            optimizers=(optimizer_for(model, spec), None),
            callbacks=[callback],
        )
        self.remove_callback(PrinterCallback)  # type: ignore[no-untyped-call]
        self._exit_loss = loss
        self._texts = texts

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the stage's loss on a batch (with the model's output, if asked for).

        Raises:
            ModelError: The loss is not finite.
        """
        del num_items_in_batch  # one batch a step: nothing to spread over
        labels = inputs["labels"]
        outputs = model(**{name: value for name, value in inputs.items() if name != "labels"})
        loss = self._exit_loss(outputs.logits.float(), labels)
        check_loss(loss, f"step {self.state.global_step + 1}", "learning_rate or head_learning_rate")
        return (loss, outputs) if return_outputs else loss

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
