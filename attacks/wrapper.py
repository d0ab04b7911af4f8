"""A victim as TextAttack sees a model: texts in, traces out, with an account of what was run."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from robustexit.attacks.limits import LimitReached
from robustexit.attacks.textattack_api import ModelWrapper
from robustexit.errors import ModelError
from robustexit.victims.base import Trace, Victim
from robustexit.victims.gradients import Gradient, Objective, differentiable, gradients
from robustexit.victims.live import LearningVictim


class VictimWrapper(ModelWrapper):  # type: ignore[misc]  # TextAttack is untyped
    """Queries a victim and remembers its traces for the length of one attempt (never those of a learning victim).

    Args:
        victim: The deployed system.
        field_names: Names of the text fields, in tokenizer order.
        min_depth: Exits that traces must hold at least.

    Attributes:
        learns: The victim learns from what it is asked, so that every text is run, a repeated one again.
        forwards: Distinct texts run since `begin`; every text where the victim learns. A gradient counts as one more,
            for the pass that it needs beside the query; its way back, of about the same cost, is not counted.
        layer_forwards: Encoder layers run for them.
        objective: What `gradients` differentiates: the goal's score, set where a white-box attack is built.
    """

    objective: Objective | None = None

    def __init__(self, victim: Victim, field_names: Sequence[str], min_depth: int) -> None:
        self.model = victim
        self.learns = isinstance(victim, LearningVictim)
        self.field_names = tuple(field_names)
        self.num_exits = victim.num_exits
        self.min_depth = min_depth
        self.begin()

    def begin(self, deadline: float | None = None) -> None:
        """Start a new attempt: forget every trace, count from zero.

        Args:
            deadline: Value of ``time.monotonic()`` from which on a call ends the attempt.
        """
        self._traces: dict[tuple[str, ...], Trace] = {}
        self._gradients: dict[tuple[str, ...], Gradient] = {}
        self._deadline = deadline
        self.forwards = 0
        self.layer_forwards = 0

    def __call__(self, text_input_list: Sequence[str | tuple[str, ...]]) -> list[Trace]:
        """Return one trace a text, in order; texts known from this attempt are not run again.

        Args:
            text_input_list: TextAttack's tokenizer inputs: a string for one field, a tuple for several.

        Raises:
            LimitReached: The deadline has passed.
            ModelError: The victim's output breaks its contract.
        """
        self._look_at_clock()
        texts = _as_tuples(text_input_list)
        if self.learns:
            return self._run(texts)
        new = [text for text in dict.fromkeys(texts) if text not in self._traces]
        self._traces.update(zip(new, self._run(new), strict=True))
        return [self._traces[text] for text in texts]

    def _run(self, texts: list[tuple[str, ...]]) -> list[Trace]:
        if not texts:
            return []
        traces = self.model.trace([self._fields(text) for text in texts], self.min_depth)
        if len(traces) != len(texts):
            raise ModelError(f"the victim returned {len(traces)} traces for {len(texts)} texts; expected one each")
        for trace in traces:
            _check(trace, self.min_depth)
            self.forwards += 1
            self.layer_forwards += trace.layers
        return traces

    def gradients(self, text_input_list: Sequence[str | tuple[str, ...]]) -> list[Gradient]:
        """Return the objective's gradient at each text, in order; those known from this attempt are not taken again.

        They are no queries. A learning victim is differentiated as it stands, and learns nothing from it.

        Args:
            text_input_list: TextAttack's tokenizer inputs.

        Raises:
            LimitReached: The deadline has passed.
            ConfigError: The victim shows no gradients.
            ModelError: A logit or a gradient is not finite.
        """
        assert self.objective is not None, "no objective: this attack was not built as a white-box attack"
        self._look_at_clock()
        texts = _as_tuples(text_input_list)
        known = {} if self.learns else self._gradients
        new = [text for text in dict.fromkeys(texts) if text not in known]
        taken = gradients(self.model, [self._fields(text) for text in new], self.objective, self.min_depth)
        self.forwards += len(taken)
        self.layer_forwards += sum(gradient.layers for gradient in taken)
        known.update(zip(new, taken, strict=True))
        return [known[text] for text in texts]

    @property
    def max_length(self) -> int:
        """The victim's token limit, which TextAttack's white-box recipe A2T asks for.

        Raises:
            ConfigError: The victim shows no gradients.
        """
        return differentiable(self.model).deployed.max_length

    def _fields(self, text: tuple[str, ...]) -> dict[str, str]:
        return dict(zip(self.field_names, text, strict=True))

    def _look_at_clock(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise LimitReached("timeout")


def _as_tuples(text_input_list: Sequence[str | tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(text,) if isinstance(text, str) else tuple(text) for text in text_input_list]


def _check(trace: Trace, min_depth: int) -> None:
    if trace.depth < max(min_depth, trace.exit):
        raise ModelError(
            f"the victim's trace holds {trace.depth} exits and leaves at {trace.exit}; "
            f"expected at least {max(min_depth, trace.exit)}"
        )
    if np.isnan(trace.logits).any() or np.isnan(trace.probabilities).any():
        raise ModelError("the victim returned NaN; check its weights and precision")
