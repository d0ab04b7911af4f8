"""Goals as TextAttack's goal functions: the model's output is a trace, and stays one through its cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from robustexit.attacks.goals import Goal
from robustexit.attacks.goals.answers import InputReduction
from robustexit.attacks.limits import LimitReached, Limits
from robustexit.attacks.textattack_api import GoalFunction, GoalFunctionResult, GoalFunctionResultStatus
from robustexit.attacks.views import VIEWS, Seen, View
from robustexit.attacks.wrapper import VictimWrapper
from robustexit.victims.base import Trace

_WHOLE_LIST = 2**31
"""Batch size that hands every list of candidates over in one call: victims batch on their own."""
_TIMED = 256
"""Batch size under a time limit, so that it is looked at between calls."""


class TraceResult(GoalFunctionResult):  # type: ignore[misc]  # TextAttack is untyped
    """A result whose raw output is a `Trace`; printing needs no colours."""

    def get_text_color_input(self) -> str:
        """Return TextAttack's colour of changed words in the original."""
        return "red"

    def get_text_color_perturbed(self) -> str:
        """Return TextAttack's colour of changed words in the final text."""
        return "green"

    def get_colored_output(self, color_method: str | None = None) -> str:
        """Return answer, confidence and exit as text."""
        trace: Trace = self.raw_output
        return f"{trace.answer} ({trace.probabilities.max():.0%}, exit {trace.exit})"


class TraceGoalFunction(GoalFunction):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's goal function over a `Goal`.

    Args:
        wrapper: The victim.
        goal: The goal.
        limits: Limits on one attempt.
        view: What the attacker sees; goal and search are told nothing else.

    Attributes:
        start: What the attacker saw of the original text of the current attempt.
        best: The best result so far among the search's own candidates (not the texts it only ranks words by).
    """

    def __init__(
        self, wrapper: VictimWrapper, goal: Goal, limits: Limits | None = None, view: View = VIEWS["scores"]
    ) -> None:
        limits = limits or Limits()
        super().__init__(
            wrapper,
            maximizable=goal.maximizable,
            use_cache=not wrapper.learns,
            model_batch_size=_WHOLE_LIST if limits.seconds is None else _TIMED,
        )
        self.goal = goal
        self.view = view
        self.max_queries: int | None = None
        self.num_queries = 0
        self.start: Seen | None = None
        self.best: Any = None

    def begin(self, max_queries: int | None = None) -> None:
        """Forget the previous attempt.

        Args:
            max_queries: Queries after which this one ends.
        """
        self.clear_cache()
        self.max_queries = max_queries
        self.num_queries = 0
        self.start = None
        self.best = None

    def init_attack_example(self, attacked_text: Any, ground_truth_output: int) -> Any:
        """Record the trace that the goal measures from, then start as TextAttack does.

        TextAttack asks for the original again: the cache answers, or where there is none (the victim learns) that
        query is the only one, and `_call_model` keeps its trace.
        """
        self.start = self.see(self._call_model([attacked_text])[0]) if self.use_cache else None
        result, search_over = super().init_attack_example(attacked_text, ground_truth_output)
        self.best = result
        return result, search_over

    def _call_model(self, attacked_text_list: Sequence[Any]) -> list[Trace]:
        """Query the victim; the first answer of an attempt is the one to its original text."""
        traces: list[Trace] = super()._call_model(attacked_text_list)
        if self.start is None and traces:
            self.start = self.see(traces[0])
        return traces

    def see(self, trace: Trace) -> Seen:
        """Return what the attacker sees of a trace."""
        return self.view.show(trace, self.model.num_exits)

    def get_results(self, attacked_text_list: Sequence[Any], check_skip: bool = False) -> Any:
        """Query the victim as TextAttack does, keeping the best candidate and the query budget.

        Raises:
            LimitReached: The budget does not cover the whole list; what it covers was queried first.
        """
        covered = len(attacked_text_list)
        if self.max_queries is not None:
            covered = max(0, min(covered, self.max_queries - self.num_queries))
        results, search_over = super().get_results(attacked_text_list[:covered], check_skip)
        for result in results:
            self._keep_if_better(result)
        if covered < len(attacked_text_list):
            raise LimitReached("budget")
        return results, search_over

    def _keep_if_better(self, result: Any) -> None:
        if self.best is None or "last_transformation" not in result.attacked_text.attack_attrs:
            return
        done = GoalFunctionResultStatus.SUCCEEDED
        rank, best = (result.goal_status == done, result.score), (self.best.goal_status == done, self.best.score)
        if rank > best:
            self.best = result

    def goal_met(self, result: Any) -> bool:
        """Whether the goal's own condition holds on a result's text."""
        return bool(self._is_goal_complete(result.raw_output, result.attacked_text))

    def _is_goal_complete(self, model_output: Trace, attacked_text: Any) -> bool:
        assert self.start is not None
        return self.goal.met(self.see(model_output), self.ground_truth_output, self.start)

    def _should_skip(self, model_output: Trace, attacked_text: Any) -> bool:
        return self.goal.skips(self.see(model_output), self.ground_truth_output)

    def _get_score(self, model_output: Trace, attacked_text: Any) -> float:
        assert self.start is not None
        # A plain float, as TextAttack makes of its own scores: searches mix them with other floats.
        return float(self.goal.score(self.see(model_output), self.ground_truth_output, self.start))

    def _get_displayed_output(self, raw_output: Trace) -> int:
        return raw_output.answer

    def _goal_function_result_type(self) -> type[TraceResult]:
        return TraceResult

    def _process_model_outputs(self, inputs: Sequence[Any], outputs: list[Trace]) -> list[Trace]:
        return outputs


class ReductionGoalFunction(TraceGoalFunction):
    """Input reduction as in TextAttack: share of words removed, the answer's probability breaking ties.

    Its condition is the right answer from a single word.
    """

    def _is_goal_complete(self, model_output: Trace, attacked_text: Any) -> bool:
        return super()._is_goal_complete(model_output, attacked_text) and attacked_text.num_words <= 1

    def _get_score(self, model_output: Trace, attacked_text: Any) -> float:
        assert self.start is not None
        seen = self.see(model_output)
        if not self.goal.met(seen, self.ground_truth_output, self.start):
            return 0.0
        words = self.initial_attacked_text.num_words
        removed = max((words - attacked_text.num_words) / max(words, 1), 0)
        score = np.float32(float(self.goal.score(seen, self.ground_truth_output, self.start)))
        return min(float(np.float32(removed) + score / np.float32(max(words, 1))), 1.0)


def make_goal_function(
    wrapper: VictimWrapper, goal: Goal, limits: Limits | None = None, view: View = VIEWS["scores"]
) -> TraceGoalFunction:
    """Return the goal function that fits a goal."""
    kind = ReductionGoalFunction if isinstance(goal, InputReduction) else TraceGoalFunction
    return kind(wrapper, goal, limits, view)
