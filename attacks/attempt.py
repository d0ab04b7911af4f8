"""One attempt: one example attacked once, whatever happens to it."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from rapidfuzz.distance import LCSseq

from robustexit.attacks.fields import field_values
from robustexit.attacks.goal_function import TraceGoalFunction, make_goal_function
from robustexit.attacks.goals import Goal, make_goal
from robustexit.attacks.limits import LimitReached, Limits
from robustexit.attacks.recipes import Recipe, check_combination, make_recipe, require_ready
from robustexit.attacks.searches.counting import CountingAttack
from robustexit.attacks.textattack_api import (
    FailedAttackResult,
    GoalFunctionResultStatus,
    MaximizedAttackResult,
    SkippedAttackResult,
    SuccessfulAttackResult,
    words_from_text,
)
from robustexit.attacks.views import View, get_view
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.data.types import Example, Fields
from robustexit.errors import ConfigError
from robustexit.victims.base import Victim

_OUTCOMES: Final = {
    SuccessfulAttackResult: "succeeded",
    FailedAttackResult: "failed",
    SkippedAttackResult: "skipped",
    MaximizedAttackResult: "maximized",
}


@dataclass(frozen=True)
class AttemptResult:
    """What came of one attempt.

    Attributes:
        outcome: One of `robustexit.records.OUTCOMES`.
        goal_met: The goal's own condition holds on `text_attacked`; None if the original was never evaluated.
        text_attacked: The final text, field -> text, keys and order as in the example: what the search returned,
            the best so far after a limit, the original if skipped or after an error.
        queries: Model queries as TextAttack counts them.
        forwards: Distinct texts run (every text asked where the victim learns), and one for each gradient taken.
        layer_forwards: Encoder layers run for them.
        words_changed: Words of the original that were changed or removed (those outside the longest common
            subsequence of words, field by field).
        words_total: Words of the original.
        seconds: Wall-clock seconds.
        error: ``Type: message`` for the outcome ``error``, else None.
        candidates: Candidates that the transformations proposed.
        candidates_kept: Those that every constraint let through.
        broken_by: Of a worst case: the attack that broke the answer.
    """

    outcome: str
    goal_met: bool | None
    text_attacked: Fields
    queries: int
    forwards: int
    layer_forwards: int
    words_changed: int
    words_total: int
    seconds: float
    error: str | None = None
    candidates: int = 0
    candidates_kept: int = 0
    broken_by: str | None = None


def attempt_seed(dataset: str, example_id: str, recipe: str, seed: int) -> int:
    """Return the seed of one attempt, the same for every victim, policy, defense and goal.

    Args:
        dataset: Name of the dataset.
        example_id: Id of the example.
        recipe: Name of the recipe, without parameters and substitutes.
        seed: Seed of the cell.

    Returns:
        The first 32 bits of a SHA-256 over the four (NumPy takes no more).
    """
    key = json.dumps([dataset, example_id, recipe, seed], ensure_ascii=False).encode()
    return int.from_bytes(hashlib.sha256(key).digest()[:4], "big")


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and PyTorch's global generators, which TextAttack's parts draw from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def count_words(original: Fields, final: Fields) -> tuple[int, int]:
    """Return how many of the original's words were changed or removed, and how many there are.

    Args:
        original: Field -> text.
        final: The same fields.
    """
    changed = total = 0
    for name, text in original.items():
        words = words_from_text(text)
        total += len(words)
        changed += len(words) - LCSseq.similarity(words, words_from_text(final[name]))
    return changed, total


@dataclass(frozen=True)
class _Engine:
    """The TextAttack parts for one set of field names and protected fields."""

    wrapper: VictimWrapper
    goal_function: TraceGoalFunction
    attack: CountingAttack


class Attacker:
    """Attacks examples with one recipe and one goal on one victim. Built once, used for many examples.

    Args:
        victim: The deployed system.
        recipe: Recipe or its name.
        goal: Goal or its name; the recipe's own if None, else ``deployed``.
        goal_parameters: Parameters of a goal given by name.
        field_names: Fields that every example must have, in order; each example's own if None.
        limits: Limits on each attempt; none by default.
        view: What the attacker sees, or its name.

    Raises:
        ConfigError: Unknown names, a recipe, a goal and a view that do not go together, or a goal that cannot apply.
        ResourceError: The recipe's resources are missing.
    """

    def __init__(
        self,
        victim: Victim,
        recipe: Recipe | str,
        goal: Goal | str | None = None,
        *,
        goal_parameters: Mapping[str, Any] | None = None,
        field_names: Sequence[str] | None = None,
        limits: Limits | None = None,
        view: View | str = "scores",
    ) -> None:
        self.victim = victim
        self.recipe = make_recipe(recipe) if isinstance(recipe, str) else recipe
        goal = goal or self.recipe.own_goal or "deployed"
        self.goal = make_goal(goal, **(goal_parameters or {})) if isinstance(goal, str) else goal
        self.field_names = None if field_names is None else tuple(field_names)
        self.limits = limits or Limits()
        self.view = get_view(view) if isinstance(view, str) else view
        check_combination(self.recipe, self.goal, self.view)
        reason = self.goal.refuses(victim)
        if reason is not None:
            raise ConfigError(f"goal {self.goal.label!r} cannot apply: {reason}")
        self.effective_name = require_ready(self.recipe)
        self._engines: dict[tuple[tuple[str, ...], tuple[str, ...]], _Engine] = {}

    def attempt(
        self,
        example: Example,
        *,
        dataset: str,
        seed: int,
        protected_fields: tuple[str, ...] = (),
        limits: Limits | None = None,
    ) -> AttemptResult:
        """Attack one example. Whatever goes wrong with it becomes an outcome, never an exception.

        The result depends on the arguments alone, `seconds` aside: not on earlier attempts, nor on Python's hash
        seed; with a learning victim also on what that was asked before. The global generators are seeded and left as
        the attempt leaves them.

        Args:
            example: The example.
            dataset: Name of its dataset, for the seed.
            seed: Seed of the cell.
            protected_fields: Fields that stay as they are (the premise of a pair).
            limits: Other limits than the attacker's, for this attempt.

        Raises:
            ConfigError: A protected field does not exist, or all are protected.
        """
        engine = self._engine(self.field_names or tuple(example.fields), tuple(protected_fields))
        started = time.perf_counter()
        limits = limits or self.limits
        deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        engine.wrapper.begin(deadline)
        engine.goal_function.begin(limits.queries)
        engine.attack.begin(limits.candidates, deadline)
        seed_everything(attempt_seed(dataset, example.example_id, self.recipe.name, seed))
        outcome, met, text, error = _run(engine, example, protected_fields)
        changed, total = count_words(example.fields, text)
        result = AttemptResult(
            outcome=outcome,
            goal_met=met,
            text_attacked=text,
            queries=engine.goal_function.num_queries,
            forwards=engine.wrapper.forwards,
            layer_forwards=engine.wrapper.layer_forwards,
            words_changed=changed,
            words_total=total,
            seconds=time.perf_counter() - started,
            error=error,
            candidates=engine.attack.candidates,
            candidates_kept=engine.attack.candidates_kept,
        )
        engine.wrapper.begin()  # frees the traces
        return result

    def _engine(self, names: tuple[str, ...], protected: tuple[str, ...]) -> _Engine:
        key = (names, protected)
        if key not in self._engines:
            wrapper = VictimWrapper(self.victim, names, self.goal.min_depth(self.victim.num_exits))
            goal_function = make_goal_function(wrapper, self.goal, self.limits, self.view)
            self._engines[key] = _Engine(wrapper, goal_function, self.recipe.build(goal_function, protected))
        return self._engines[key]


def _run(
    engine: _Engine, example: Example, protected: tuple[str, ...]
) -> tuple[str, bool | None, dict[str, str], str | None]:
    """Return outcome, goal met, final text and error of one attempt."""
    try:
        _check_fields(example.fields, engine.wrapper.field_names)
        try:
            attacked = engine.attack.attack(OrderedDict(example.fields), int(example.label))
            outcome, final = _OUTCOMES[type(attacked)], attacked.perturbed_result
        except LimitReached as limit:
            outcome, final = _cut_short(limit, engine.goal_function)
        if final is None:
            return outcome, None, dict(example.fields), None
        text = field_values(final.attacked_text)
        _check_final(example.fields, text, protected)
        return outcome, engine.goal_function.goal_met(final), text, None
    except Exception as error:  # one bad example is a row with its error, never the end of a run
        return "error", None, dict(example.fields), f"{type(error).__name__}: {error}"


def _cut_short(limit: LimitReached, goal_function: TraceGoalFunction) -> tuple[str, Any]:
    """Return outcome and best result of an attempt that ran into a limit."""
    best = goal_function.best
    if best is not None and best.goal_status == GoalFunctionResultStatus.SUCCEEDED:
        return "succeeded", best
    return limit.outcome, best


def _check_fields(found: Fields, expected: tuple[str, ...]) -> None:
    if tuple(found) != expected:
        raise ValueError(f"the example has the fields {list(found)}, expected {list(expected)}")


def _check_final(original: Fields, final: Mapping[str, str], protected: tuple[str, ...]) -> None:
    _check_fields(final, tuple(original))
    for name in protected:
        if final[name] != original[name]:
            raise ValueError(f"the search changed the protected field {name!r}")
