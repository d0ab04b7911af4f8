"""What a stage of training minimises: a plain function of the logits, or an object that can do more.

An `Objective` may look at pooled states, row numbers and the step; hold parameters, buffers and optimisers of its
own (they are saved with every checkpoint); compute the gradients itself; change weights after the optimiser's
step; and ask for a second stream of texts. Everything else is the trainer's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from robustexit.models import MultiExitForSequenceClassification

ExitLoss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits [B, K, C] in float32 and labels [B] -> scalar loss, a mean over the batch (nats)."""


class SecondStream(Enum):
    """A second stream of texts beside the training batches."""

    NONE = "none"
    SHARE = "a share of the training texts, kept out of the training batches"
    TARGET = "the target dataset, whose labels are not shown"


@dataclass(frozen=True)
class Batch:
    """Some texts.

    Attributes:
        inputs: What the model's forward takes; empty where the states were stored beforehand.
        labels: Class indices, shape [B].
        rows: Their row numbers in the dataset, shape [B].
    """

    inputs: Mapping[str, torch.Tensor]
    labels: torch.Tensor
    rows: torch.Tensor


@dataclass(frozen=True)
class Setting:
    """What an objective learns before its stage begins.

    Attributes:
        model: The model as the stage finds it, on its device.
        labels: Label of every training text, shape [N].
        seed: The run's seed.
        states: Computes (once) the pooled states of all training texts under the model as the stage finds it,
            shape [N, K, D].
    """

    model: MultiExitForSequenceClassification
    labels: NDArray[np.int64]
    seed: int
    states: Callable[[], NDArray[np.float32]]


@dataclass(frozen=True)
class Step:
    """One step of a stage, after the forward.

    Attributes:
        model: The model.
        number: Steps done before this one.
        total: Steps of the stage.
        batch: The training texts.
        logits: Shape [B, K, C], float32.
        pooled: What the heads read, shape [B, K, D], float32.
        second: The second stream's texts, or None.
        encoder_rate: Learning rate of the encoder in this step.
        head_rate: Learning rate of the heads in this step.
        autocast: Makes the context of the run's precision.
    """

    model: MultiExitForSequenceClassification
    number: int
    total: int
    batch: Batch
    logits: torch.Tensor
    pooled: torch.Tensor
    second: Batch | None = None
    encoder_rate: float = 0.0
    head_rate: float = 0.0
    autocast: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)

    @property
    def labels(self) -> torch.Tensor:
        """Class indices of the training texts, shape [B]."""
        return self.batch.labels

    def run(
        self, inputs: Mapping[str, torch.Tensor], model: nn.Module | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run a model on texts.

        Args:
            inputs: The texts, `Batch.inputs`.
            model: What to run; None for the model that is trained.

        Returns:
            Logits [B, K, C] and pooled states [B, K, D], float32.
        """
        return run_model(self.model if model is None else model, inputs, self.autocast)


class Objective(nn.Module):
    """A stage's loss that needs more than logits and labels.

    Parameters, buffers, submodules and `optimizers` make up its state: they are written with every checkpoint
    and read back on resume, so that a resumed stage goes on bit for bit. Whatever can be made again from the
    model as the stage finds it belongs in `start` (keep such modules in a tuple, which PyTorch does not register).

    Attributes:
        second: The second stream it needs.
        share: Share of the training texts that `SecondStream.SHARE` takes.
        cut_gradients: The forward stops gradients between exits.
        optimizers: Optimisers of its own, by name.
    """

    second: ClassVar[SecondStream] = SecondStream.NONE
    cut_gradients: ClassVar[bool] = False
    share: float = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def check(self, model: MultiExitForSequenceClassification) -> None:
        """Refuse a model that this objective cannot train.

        Raises:
            ConfigError: What does not fit.
        """

    def start(self, setting: Setting) -> None:
        """Make what depends on the model and the data; called before every session of the stage."""

    def learned(self) -> list[nn.Parameter]:
        """Return own parameters that the stage's optimiser shall train, at the heads' rate."""
        return []

    def set_modes(self, model: MultiExitForSequenceClassification) -> None:
        """Choose which parts of the model are in training mode during the forward."""
        model.train()

    def loss(self, step: Step) -> torch.Tensor:
        """Return the scalar to minimise, a mean over the batch."""
        raise NotImplementedError

    def gradients(self, step: Step) -> torch.Tensor:
        """Put the gradients where the optimiser looks for them and return the loss, detached."""
        value = self.loss(step)
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    def after_step(self, step: Step) -> None:
        """Act once the optimiser has changed the weights."""

    def facts(self) -> dict[str, Any]:
        """Return what was learned beside the weights, for training.json."""
        return {}

    @property
    def has_state(self) -> bool:
        """Whether a checkpoint has to carry anything."""
        return bool(self.optimizers) or any(isinstance(value, torch.Tensor) for value in self.state_dict().values())

    def get_extra_state(self) -> dict[str, Any]:
        """Return the state of its optimisers (PyTorch puts it into `state_dict`)."""
        return {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Give its optimisers their state back."""
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(state[name])


class PlainLoss(Objective):
    """A function of logits and labels.

    Args:
        function: The loss.
    """

    def __init__(self, function: ExitLoss) -> None:
        super().__init__()
        self.function = function

    def loss(self, step: Step) -> torch.Tensor:
        """Return the function's value."""
        return self.function(step.logits, step.labels)


def as_objective(loss: ExitLoss | Objective) -> Objective:
    """Return the objective of a stage."""
    return loss if isinstance(loss, Objective) else PlainLoss(loss)


def run_model(
    model: nn.Module, inputs: Mapping[str, torch.Tensor], autocast: Callable[[], AbstractContextManager[Any]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a multi-exit model's logits [B, K, C] and pooled states [B, K, D], both float32."""
    with autocast():
        output = model(**inputs)
    return output.logits.float(), output.pooled.float()


def frozen_copy(model: MultiExitForSequenceClassification) -> MultiExitForSequenceClassification:
    """Return a copy in evaluation mode without gradients."""
    twin = copy.deepcopy(model)
    # Accelerate patches `forward` of a model in training, and a copied patch would still run the original.
    for patched in ("forward", "_original_forward"):
        twin.__dict__.pop(patched, None)
    twin.requires_grad_(False)
    twin.eval()  # type: ignore[no-untyped-call]
    return twin
