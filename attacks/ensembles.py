"""Attempts made of several: one attack for each exit (max-average), or a set until one succeeds (worst case).

Each member runs with the seed it would have in a cell of its own, so that it makes the very texts it makes there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from robustexit.attacks.attempt import Attacker, AttemptResult
from robustexit.attacks.goals import Goal, make_goal
from robustexit.attacks.goals.answers import Average, Deployed, MaxAverage, OneExit
from robustexit.attacks.limits import Limits
from robustexit.attacks.recipes import Recipe, check_combination, make_recipe
from robustexit.attacks.views import View, get_view
from robustexit.data.types import Example
from robustexit.errors import ConfigError
from robustexit.victims.base import Victim
from robustexit.victims.live import judged


class AnyAttacker(Protocol):
    """What attacks examples one at a time; see `robustexit.attacks.attempt.Attacker`."""

    effective_name: str

    def attempt(
        self, example: Example, *, dataset: str, seed: int, protected_fields: tuple[str, ...] = ()
    ) -> AttemptResult:
        """Attack one example."""
        ...


def make_attacker(
    victim: Victim,
    recipe: Recipe | str,
    goal: Goal | str | None = None,
    *,
    goal_parameters: Mapping[str, Any] | None = None,
    field_names: Sequence[str] | None = None,
    limits: Limits | None = None,
    view: View | str = "scores",
) -> AnyAttacker:
    """Return what attacks examples with a recipe and a goal; arguments as for `Attacker`."""
    recipe = make_recipe(recipe) if isinstance(recipe, str) else recipe
    goal = goal or recipe.own_goal or "deployed"
    goal = make_goal(goal, **(goal_parameters or {})) if isinstance(goal, str) else goal
    if isinstance(goal, MaxAverage):
        return MaxAverageAttacker(victim, recipe, goal, field_names=field_names, limits=limits, view=view)
    return Attacker(victim, recipe, goal, field_names=field_names, limits=limits, view=view)


@dataclass(frozen=True)
class Member:
    """One attack of a worst case.

    Attributes:
        recipe: The recipe.
        goal: Its goal.
    """

    recipe: Recipe
    goal: Goal

    @property
    def label(self) -> str:
        """Recipe and goal, as in the column `broken_by`."""
        return f"{self.recipe.label} / {self.goal.label}"


def cheapest_first(members: Sequence[Member]) -> list[Member]:
    """Order attacks by what their searches usually cost; equally dear ones stay in the order given."""
    return sorted(members, key=lambda member: member.recipe.effort)


class _Spending:
    """What the members of one attempt have cost so far, and what its limits leave."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._started = time.perf_counter()
        self.results: list[AttemptResult] = []

    def left(self) -> Limits | None:
        """Limits for the next member, or None if nothing is left."""
        spent = {
            "queries": sum(result.queries for result in self.results),
            "candidates": sum(result.candidates for result in self.results),
            "seconds": time.perf_counter() - self._started,
        }
        left = {
            name: None if (limit := getattr(self._limits, name)) is None else limit - used
            for name, used in spent.items()
        }
        return None if any(value is not None and value <= 0 for value in left.values()) else Limits(**left)

    @property
    def cut_short(self) -> str | None:
        """How a limit ended one of the members, if one did."""
        return next((result.outcome for result in self.results if result.outcome in {"timeout", "budget"}), None)

    def whole(self, chosen: AttemptResult, **changes: Any) -> AttemptResult:
        """Return the chosen member's result with what all of them cost."""
        counts = ("queries", "forwards", "layer_forwards", "candidates", "candidates_kept")
        sums = {name: sum(getattr(result, name) for result in self.results) for name in counts}
        return replace(chosen, seconds=time.perf_counter() - self._started, **sums, **changes)


def _guarded(example: Example, attempt: Callable[[_Spending], AttemptResult], spending: _Spending) -> AttemptResult:
    """Return what came of an attempt; what the victim does wrong between its members is a row with its error."""
    try:
        return attempt(spending)
    except ConfigError:
        raise
    except Exception as error:
        failed = AttemptResult("error", None, dict(example.fields), 0, 0, 0, 0, 0, 0.0)
        return spending.whole(failed, error=f"{type(error).__name__}: {error}")


class MaxAverageAttacker:
    """One attack for each exit; the text with the largest average score is kept (Triple Wins, Hu et al. 2020).

    The attempt succeeds where that text's deployed answer is wrong. Its limits hold for all exits together.

    Args:
        victim: The deployed system.
        recipe: Recipe.
        goal: The goal.
        field_names: Fields that every example must have.
        limits: Limits on each attempt.
        view: What the attacker sees.

    Raises:
        ConfigError: Recipe, goal and view do not go together.
        ResourceError: The recipe's resources are missing.
    """

    def __init__(
        self,
        victim: Victim,
        recipe: Recipe,
        goal: MaxAverage,
        *,
        field_names: Sequence[str] | None = None,
        limits: Limits | None = None,
        view: View | str = "scores",
    ) -> None:
        self.victim = victim
        self.view = get_view(view) if isinstance(view, str) else view
        self.limits = limits or Limits()
        check_combination(recipe, goal, self.view)
        goals = [Deployed(), *(OneExit(k) for k in range(1, victim.num_exits + 1))]
        self._first, *self._members = (
            Attacker(victim, recipe, one, field_names=field_names, limits=self.limits, view=self.view) for one in goals
        )
        self.effective_name = self._first.effective_name

    def attempt(
        self, example: Example, *, dataset: str, seed: int, protected_fields: tuple[str, ...] = ()
    ) -> AttemptResult:
        """Attack one example; see `Attacker.attempt`. An original answered wrongly is skipped."""
        key = {"dataset": dataset, "seed": seed, "protected_fields": protected_fields}
        return _guarded(example, lambda spending: self._attempt(spending, example, key), _Spending(self.limits))

    def _attempt(self, spending: _Spending, example: Example, key: Mapping[str, Any]) -> AttemptResult:
        first = self._first.attempt(example, **key, limits=Limits(queries=1))  # the one query says whether to go on
        if first.outcome in {"skipped", "error"}:
            return first
        best: tuple[float, AttemptResult] | None = None
        for member in self._members:
            left = spending.left()
            if left is None:
                break
            result = member.attempt(example, **key, limits=left)
            spending.results.append(result)
            if result.outcome == "error":
                return spending.whole(result)
            score = self._score(example, result)
            if best is None or score > best[0]:
                best = score, result
        assert best is not None
        return self._verdict(spending, example, best[1])

    def _score(self, example: Example, result: AttemptResult) -> float:
        trace = judged(self.victim, [result.text_attacked], min_depth=self.victim.num_exits)[0]
        seen = self.view.show(trace, self.victim.num_exits)
        return float(Average().score(seen, example.label, seen))

    def _verdict(self, spending: _Spending, example: Example, chosen: AttemptResult) -> AttemptResult:
        met = judged(self.victim, [chosen.text_attacked])[0].answer != example.label
        unfinished = "budget" if len(spending.results) < len(self._members) else None
        outcome = "succeeded" if met else spending.cut_short or unfinished or "failed"
        return spending.whole(chosen, goal_met=met, outcome=outcome)


class WorstCaseAttacker:
    """A set of attacks, cheapest first, later ones only on examples still standing (as AutoAttack does).

    The example is broken where the deployed answer is wrong, whatever the goal of the attack that broke it. Where
    none breaks it, the text with the largest deployed score is kept; if one of them ended in an error, so does the
    attempt, for that one might have broken it.

    Args:
        victim: The deployed system.
        name: Name of the set.
        members: The attacks; those whose goal cannot apply to the victim are left out.
        field_names: Fields that every example must have.
        limits: Limits on each member's attempt.
        view: What the attacker sees.

    Raises:
        ConfigError: A member's recipe, goal and view do not go together, or none can apply.
        ResourceError: A member's resources are missing.
    """

    def __init__(
        self,
        victim: Victim,
        name: str,
        members: Sequence[Member],
        *,
        field_names: Sequence[str] | None = None,
        limits: Limits | None = None,
        view: View | str = "scores",
    ) -> None:
        self.victim = victim
        usable = [member for member in cheapest_first(members) if member.goal.refuses(victim) is None]
        if not usable:
            raise ConfigError(f"worst case {name!r}: none of its {len(members)} attacks can apply to the victim")
        self._members = [
            (m.label, make_attacker(victim, m.recipe, m.goal, field_names=field_names, limits=limits, view=view))
            for m in usable
        ]
        substitutes = {
            substitute: None for _, attacker in self._members for substitute in attacker.effective_name.split("+")[1:]
        }
        self.effective_name = "+".join([worst_case_label(name), *substitutes])

    def attempt(
        self, example: Example, *, dataset: str, seed: int, protected_fields: tuple[str, ...] = ()
    ) -> AttemptResult:
        """Attack one example with each member until one breaks it; see `Attacker.attempt`."""
        key = {"dataset": dataset, "seed": seed, "protected_fields": protected_fields}
        return _guarded(example, lambda spending: self._attempt(spending, example, key), _Spending(Limits()))

    def _attempt(self, spending: _Spending, example: Example, key: Mapping[str, Any]) -> AttemptResult:
        best: tuple[float, AttemptResult] | None = None
        for label, attacker in self._members:
            result = attacker.attempt(example, **key)
            spending.results.append(result)
            if result.outcome == "error":
                continue  # the others may break it all the same
            final = judged(self.victim, [result.text_attacked])[0]
            if final.answer != example.label:
                untouched = result.text_attacked == dict(example.fields)
                outcome, by = ("skipped", None) if untouched else ("succeeded", label)
                return spending.whole(result, outcome=outcome, goal_met=True, broken_by=by)
            score = float(1 - final.probabilities[example.label])
            if best is None or score > best[0]:
                best = score, result
        failed = next((result for result in spending.results if result.outcome == "error"), None)
        if failed is not None or best is None:
            return spending.whole(failed or spending.results[0])
        return spending.whole(best[1], outcome=spending.cut_short or "failed", goal_met=False)


def worst_case_label(name: str) -> str:
    """Return the name of a worst case in the column `recipe`."""
    return f"worst-case({name})"
