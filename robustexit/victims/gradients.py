"""Gradients of a deployed system: any score of what it returns, in the embeddings of its input tokens.

For white-box attacks. The forward takes the same steps as the deployed one (layers, heads, post-hoc module, policy),
with the exit taken held fixed: leaving earlier or later is a jump, and a jump has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from robustexit.data.types import Fields
from robustexit.errors import ConfigError
from robustexit.exits import ExitOutput, ExitPolicy
from robustexit.exits.replay import require_finite
from robustexit.modules import ExitModule
from robustexit.modules.base import READ_ROWS
from robustexit.victims.base import FloatArray, Victim
from robustexit.victims.encoding import Batch
from robustexit.victims.live import LiveVictim
from robustexit.victims.model_victim import DeployedModel, ModelVictim

FASTEST: Final = READ_ROWS
"""Texts differentiated at once at most: what a post-hoc module reads in one go."""


@dataclass(frozen=True)
class DifferentiableTrace:
    """What a victim computed on one text, as tensors that know where they came from (see `Trace`).

    Attributes:
        logits: Logits of the exits computed, shape [depth, C]; a post-hoc module's in the place of the heads' own.
        probabilities: What the policy returns at the exit taken, shape [C]. Where the policy returns numbers that do
            not depend on the logits continuously at all, these numbers carry the gradient of that exit's softmax.
            Vote shares with a tie-breaking softmax (`voting`) have their true, small gradient.
        exit: The exit taken, 1-based.
        layers: Encoder layers run to compute the `depth` exits.
    """

    logits: torch.Tensor
    probabilities: torch.Tensor
    exit: int
    layers: int

    @property
    def answer(self) -> int:
        """The deployed answer."""
        return int(self.probabilities.argmax())


class Span(NamedTuple):
    """Where a token stands in a text.

    Attributes:
        field: Position of the field in the text.
        start: First character.
        end: Character after the last.
    """

    field: int
    start: int
    end: int


@dataclass(frozen=True)
class Gradient:
    """A score's gradient in the input embeddings of one text.

    Attributes:
        ids: Token ids, special tokens included, padding excluded, shape [T].
        spans: Where each token stands in the text; None for special tokens.
        values: d score / d embedding of each token, shape [T, E], float32. Zero where the score does not depend on
            the text continuously.
        score: The score itself.
        layers: Encoder layers run.
    """

    ids: NDArray[np.int64]
    spans: tuple[Span | None, ...]
    values: FloatArray
    score: float
    layers: int


Objective = Callable[[DifferentiableTrace], torch.Tensor]
"""From what a victim computed on a text to a scalar, in differentiable operations."""


def differentiable(victim: Victim) -> ModelVictim:
    """Return the deployed model inside a victim; of one that learns, under the arm it would choose now.

    Raises:
        ConfigError: The victim shows no gradients, or its tokenizer not where its tokens stand.
    """
    if isinstance(victim, LiveVictim):
        arm = victim.policy.arms(victim.num_exits)[victim.bandit.choose()]
        victim = ModelVictim(victim.deployed, victim.policy.under(arm))
    if not isinstance(victim, ModelVictim):
        raise ConfigError(
            f"white-box attacks need gradients, which a {type(victim).__name__} does not show: expected a Hugging Face "
            "model; attack it with another recipe in the view 'scores'"
        )
    if not victim.deployed.tokenizer.is_fast:
        raise ConfigError(
            f"white-box attacks need a tokenizer that says where its tokens stand, which "
            f"{type(victim.deployed.tokenizer).__name__} does not; save the model with its fast tokenizer"
        )
    return victim


def embedding_table(deployed: DeployedModel) -> torch.Tensor:
    """Return the input embedding of every token id, shape [V, E], float32, on the CPU."""
    layer = deployed.model.get_input_embeddings()
    with torch.no_grad():
        if type(layer) is torch.nn.Embedding:
            return layer.weight.detach().float().cpu()
        # Asked of the layer, for some families scale what they look up.
        table: torch.Tensor = layer(torch.arange(layer.num_embeddings, device=deployed.device))
    return table.float().cpu()


def gradients(victim: Victim, texts: Sequence[Fields], objective: Objective, min_depth: int = 1) -> list[Gradient]:
    """Differentiate a score of every text in the input embeddings of that text.

    Nothing of the model is changed: it stays in evaluation mode, and its parameters get no gradients. With several
    exits the batches are filled up as `Victim.trace` fills them, so that every bit of the logits, and with them the
    exit taken, is the trace's; with one exit, where nothing hangs on the last bit, the filling is spared.

    Args:
        victim: The deployed system.
        texts: Inputs, each field name -> text.
        objective: The score.
        min_depth: Exits to compute at least, also for texts whose policy stopped earlier.

    Returns:
        One gradient a text, in order.

    Raises:
        ConfigError: See `differentiable`.
        ModelError: The model returned a logit that is not finite.
    """
    if not texts:
        return []
    model = differentiable(victim)
    found: dict[int, Gradient] = {}
    with torch.inference_mode(False), torch.enable_grad():  # whatever the caller is in
        encoded = model.deployed.encode(texts)
        for batch in model.deployed.batches(encoded, at_most=FASTEST):
            embeddings, traces = _forward(model, batch, min_depth)
            scores = [objective(trace) for trace in traces]
            values = _differentiate(scores, embeddings)
            for row, position in enumerate(batch.positions):
                ids = np.asarray(encoded[position].inputs["input_ids"], dtype=np.int64)
                spans = token_spans(model.deployed, texts[position])
                score, layers = float(scores[row].detach()), traces[row].layers
                found[position] = Gradient(ids, spans, values[row, : len(ids)].copy(), score, layers)
    return [found[position] for position in range(len(texts))]


def token_spans(deployed: DeployedModel, text: Fields) -> tuple[Span | None, ...]:
    """Return where each token of a text stands in it, truncated as the model truncates it; None for special tokens."""
    encoding = deployed.tokenizer(*text.values(), truncation=True, max_length=deployed.max_length).encodings[0]
    return tuple(
        None if field is None else Span(field, start, end)
        for field, (start, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    )


def _differentiate(scores: Sequence[torch.Tensor], embeddings: torch.Tensor) -> FloatArray:
    """Return the gradient of each row's score in that row of the embeddings, shape [rows, tokens, E]."""
    moving = [score for score in scores if score.requires_grad]
    if not moving:
        return np.zeros(tuple(embeddings.shape), np.float32)
    # Of the embeddings alone: parameters are not asked for theirs, so nothing is left to add up between calls.
    (values,) = torch.autograd.grad(torch.stack(moving).sum(), embeddings, allow_unused=True)
    values = torch.zeros_like(embeddings) if values is None else values
    require_finite(values, "a gradient")
    gradient: FloatArray = values.float().cpu().numpy()
    return gradient


@contextmanager
def _embeddings_of(model: Any) -> Iterator[list[torch.Tensor]]:
    """Make what the input embedding layer returns the leaf of the graph, and hand it out."""
    seen: list[torch.Tensor] = []

    def cut(layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        leaf = output.detach().requires_grad_()
        seen.append(leaf)
        return leaf

    hook = model.get_input_embeddings().register_forward_hook(cut)
    try:
        yield seen
    finally:
        hook.remove()


def _forward(victim: ModelVictim, batch: Batch, min_depth: int) -> tuple[torch.Tensor, list[DifferentiableTrace]]:
    """Run a batch until every row has left and is deep enough; return its embeddings and a trace for each real row."""
    if victim.num_exits == 1:
        real = {name: values[: len(batch.positions)] for name, values in batch.inputs.items()}
        batch = Batch(real, batch.positions, batch.length)
    fold = _Fold(victim.policy, victim.module, batch.rows, (victim.num_exits, victim.num_classes))
    with _embeddings_of(victim.deployed.model) as seen:
        run = victim.deployed.forward(batch)
        for exit in range(1, victim.num_exits + 1):
            fold.update(exit, run.advance())
            if exit >= min_depth and fold.all_left:
                break
    (embeddings,) = seen
    return embeddings, [fold.trace(row, min_depth, victim.exit_layers) for row in range(len(batch.positions))]


class _Fold:
    """A policy over one batch from which no row leaves, within the graph."""

    def __init__(self, policy: ExitPolicy, module: ExitModule | None, rows: int, shape: tuple[int, int]) -> None:
        self.policy = policy
        self.module = module
        self.num_exits = shape[0]
        self.state = policy.start(rows, *shape)
        self.memory = {} if module is None else module.start(rows)
        self.logits: list[torch.Tensor] = []
        self.exits = [0] * rows
        self.returned: list[torch.Tensor] = [torch.empty(0)] * rows

    @property
    def all_left(self) -> bool:
        return all(self.exits)

    def update(self, exit: int, output: ExitOutput) -> None:
        logits = output.logits.float().cpu()
        scalars: dict[str, torch.Tensor] = {}
        if self.module is not None:
            assert output.pooled is not None
            logits, scalars = self._read(self.module, exit, output.pooled.float().cpu(), logits)
        require_finite(logits)
        self.state, stop, probabilities = self.policy.update(self.state, exit, logits, scalars)
        if not probabilities.requires_grad:
            softmax = logits.softmax(-1)
            probabilities = probabilities + (softmax - softmax.detach())
        self.logits.append(logits)
        for row, stops in enumerate(stop.tolist()):
            if not self.exits[row] and (stops or exit == self.num_exits):
                self.exits[row] = exit
                self.returned[row] = probabilities[row]

    def _read(
        self, module: ExitModule, exit: int, pooled: torch.Tensor, logits: torch.Tensor
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Read one exit as `ExitModule.read_exit` does, a lot of rows filled up with zeros, but in the graph."""
        rows = len(logits)
        memory = {name: _lot(value) for name, value in self.memory.items()}
        reading = module.read(memory, exit, _lot(pooled), _lot(logits))
        self.memory = {name: value[:rows] for name, value in reading.state.items()}
        return reading.logits[:rows].float(), {name: value[:rows].float() for name, value in reading.scalars.items()}

    def trace(self, row: int, min_depth: int, layers: Sequence[int]) -> DifferentiableTrace:
        depth = max(min_depth, self.exits[row])
        logits = torch.stack([exit_logits[row] for exit_logits in self.logits[:depth]])
        return DifferentiableTrace(logits, self.returned[row], self.exits[row], layers[depth - 1])


def _lot(values: torch.Tensor) -> torch.Tensor:
    return torch.cat([values, values.new_zeros(READ_ROWS - len(values), *values.shape[1:])])
