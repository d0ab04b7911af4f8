from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.objectives import Batch, Step, run_model


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def model(backbone) -> MultiExitForSequenceClassification:
    """Three exits, two classes, no dropout, heads that are not near zero."""
    built = MultiExitForSequenceClassification.from_backbone(backbone, label_names=("a", "b"), seed=1)
    generator = torch.Generator().manual_seed(1)
    for head in built.heads.parameters():
        head.data.normal_(std=0.5, generator=generator)
    return built.eval()


def make_batch(rows: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(5, 20, (rows, 7), generator=generator)
    labels = torch.randint(2, (rows,), generator=generator)
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    return Batch(inputs, labels, torch.arange(rows))


def make_step(model, batch: Batch | None = None, number: int = 0, total: int = 10, **others: Any) -> Step:
    """The step that the trainer would hand over, with gradients."""
    chosen = make_batch() if batch is None else batch
    logits, pooled = run_model(model, chosen.inputs, lambda: torch.enable_grad())
    return Step(model, number, total, chosen, logits, pooled, **others)


def bare_step(logits: torch.Tensor, labels: torch.Tensor, number: int = 0, total: int = 10, **others: Any) -> Step:
    """A step without a model."""
    batch = Batch({}, labels, torch.arange(len(labels)))
    pooled = others.pop("pooled", torch.zeros(*logits.shape[:2], 1))
    return Step(None, number, total, batch, logits, pooled, **others)


@pytest.fixture(name="make_batch")
def make_batch_fixture() -> Callable[..., Batch]:
    return make_batch


@pytest.fixture(name="make_step")
def make_step_fixture() -> Callable[..., Step]:
    return make_step


@pytest.fixture(name="bare_step")
def bare_step_fixture() -> Callable[..., Step]:
    return bare_step
