"""Exact searches over finite perturbation sets: by enumeration, and by branch and bound where a bound exists.

What is exact when:

* ``exhaustive`` asks the victim for every text of the set, fewest edits first, and ends at the first success. A failed
  attempt (no limit reached, a deterministic victim) is a proof that no text of the set reaches the goal, and its text
  the one with the highest score. ``exhaustive-best`` goes on after a success and returns the success with the highest
  score.
* ``branch-and-bound`` gives the same answer without asking for texts that cannot matter. For that it needs an upper
  bound of the score over all completions of a partial choice. A black box has none: an additive estimate from
  single edits, say, is no bound. So it takes victims that bound their own logits
  (`robustexit.attacks.sets.bounds.BoundedVictim`) and the goals whose score and condition follow from such bounds, and
  refuses all else by name. Its answers are exact up to the rounding of the victim's own arithmetic, `SLACK`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np

from robustexit.attacks.components.set_edits import GreedyOnSet, SetEdits
from robustexit.attacks.goals import Goal
from robustexit.attacks.sets import Choice, Space
from robustexit.attacks.sets.bounds import BoundedVictim, Margins, open_text
from robustexit.attacks.textattack_api import GoalFunctionResultStatus, SearchMethod
from robustexit.attacks.views import SCORES
from robustexit.errors import ConfigError

SLACK: Final = 1e-5
"""How far a victim's single-precision logits and scores may lie above bounds taken in double precision."""

_BATCH: Final = 256
"""Texts that the enumeration asks for at once: it ends between batches."""
_FEW: Final = 8
"""Texts that branch and bound asks for at once: the fewer, the fewer in vain."""


class ExactSearch(SearchMethod):  # type: ignore[misc]  # TextAttack is untyped
    """A search that knows when nothing in the set is left.

    Args:
        own: The greedy search of the recipe, which holds the set.

    Attributes:
        complete: The last attempt's set was searched whole: no text left that could be better.
        asked: Texts that the last attempt asked the victim for, the original aside.
    """

    get_goal_results: Any
    filter_transformations: Any

    def __init__(self, own: GreedyOnSet) -> None:
        self.edits: SetEdits = own.edits
        self.max_texts = own.max_texts
        self.complete = False
        self.asked = 0

    def _ask(self, choices: Sequence[Choice], initial_result: Any) -> list[Any]:
        """Return the results of new texts; choices that make a text again are passed over."""
        original = initial_result.attacked_text
        new = []
        for choice in choices:
            text = self.edits.text_of(choice, original)
            if text.text not in self._seen:
                self._seen.add(text.text)
                new.append(text)
        kept = self.filter_transformations(new, original, original)
        results: list[Any] = self.get_goal_results(kept)[0] if kept else []
        self.asked += len(kept)
        return results

    def _begin(self, initial_result: Any) -> None:
        self.complete, self.asked, self._seen = False, 0, {initial_result.attacked_text.text}

    @property
    def is_black_box(self) -> bool:
        """Whether it needs no gradients: always."""
        return True


class Exhaustive(ExactSearch):
    """Every text of the set, fewest edits first.

    Args:
        own: The greedy search of the recipe, which holds the set.
        whole: Go on after the first success.
    """

    def __init__(self, own: GreedyOnSet, whole: bool) -> None:
        super().__init__(own)
        self.whole = whole

    def perform_search(self, initial_result: Any) -> Any:
        """Return the first success (the highest score among the texts asked for with it), else the highest score.

        Raises:
            ConfigError: The set has more texts than allowed.
        """
        self._begin(initial_result)
        space = self.edits.space
        if space.size > self.max_texts:
            raise ConfigError(
                f"the set holds {space.size} texts ({len(space.sites)} sites, edits={space.edits}), more than the "
                f"{self.max_texts} allowed; take fewer edits or shorter texts, or raise max_texts"
            )
        best, choices = initial_result, space.choices()
        while batch := list(islice(choices, _BATCH)):
            best = max([best, *self._ask(batch, initial_result)], key=_rank)
            if best.goal_status == GoalFunctionResultStatus.SUCCEEDED and not self.whole:
                return best
        self.complete = True
        return best

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of this search."""
        return ["whole", "max_texts"]


@dataclass(frozen=True)
class Bound:
    """What the completions of a partial choice can reach.

    Attributes:
        can_meet: One of them may reach the goal.
        score: None of them scores higher.
    """

    can_meet: bool
    score: float


@dataclass(order=True)
class _Node:
    """Completions of a choice at the sites from `undecided` on; the most promising first."""

    order: tuple[bool, float, int]
    choice: Choice = field(compare=False)
    undecided: int = field(compare=False)
    asked: bool = field(compare=False)
    bound: Bound = field(compare=False)


class BranchAndBound(ExactSearch):
    """Best first over the sites in order: each stays or takes one of its replacements.

    A branch is given up once none of its completions can reach the goal nor score higher than the best text so far.

    Args:
        own: The greedy search of the recipe, which holds the set.
        victim: The victim, which bounds its logits.
        bound: From its bounds and the label to what the goal can reach.
    """

    def __init__(self, own: GreedyOnSet, victim: BoundedVictim, bound: Callable[[Margins, int], Bound]) -> None:
        super().__init__(own)
        self._victim = victim
        self._bound = bound

    def bound(self, space: Space, choice: Choice, undecided: int, label: int) -> Bound:
        """Return what the completions of a partial choice can reach.

        Args:
            space: The set around the original.
            choice: What is edited, at sites before `undecided`.
            undecided: Number of the first site that is not decided yet.
            label: True label.
        """
        return self._bound(self._victim.margin_bounds(open_text(space, choice, undecided), label), label)

    def perform_search(self, initial_result: Any) -> Any:
        """Return the first success, else the highest score.

        Raises:
            ConfigError: More texts than allowed could not be ruled out.
        """
        self._begin(initial_result)
        space, best = self.edits.space, initial_result
        queue = [self._node(space, (), 0, 0, asked=True)]
        number = 1
        while queue:
            waiting: list[_Node] = []
            while queue and len(waiting) < _FEW and self._may_matter(queue[0].bound, best):
                node = heapq.heappop(queue)
                if not node.asked:
                    waiting.append(node)
                for choice, undecided in _children(space, node) if node.asked else ():
                    heapq.heappush(queue, self._node(space, choice, undecided, number, asked=choice == node.choice))
                    number += 1
            if not waiting:
                break
            if self.asked + len(waiting) > self.max_texts:
                raise ConfigError(
                    f"branch and bound could not rule out {self.max_texts} texts of the set's {space.size}; take fewer "
                    f"edits or shorter texts, or raise max_texts"
                )
            best = max([best, *self._ask([node.choice for node in waiting], initial_result)], key=_rank)
            if best.goal_status == GoalFunctionResultStatus.SUCCEEDED:
                return best
            for node in waiting:
                if len(node.choice) < space.edits:
                    heapq.heappush(queue, self._node(space, node.choice, node.undecided, number, asked=True))
                    number += 1
        self.complete = True
        return best

    def _node(self, space: Space, choice: Choice, undecided: int, number: int, asked: bool) -> _Node:
        bound = self.bound(space, choice, undecided, self.goal_function.ground_truth_output)
        return _Node((not bound.can_meet, -bound.score, number), choice, undecided, asked, bound)

    def _may_matter(self, bound: Bound, best: Any) -> bool:
        return bound.can_meet or bound.score > best.score

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of this search."""
        return ["max_texts"]


def _children(space: Space, node: _Node) -> Iterator[tuple[Choice, int]]:
    """Yield the parts that a node's completions, its own text aside, fall into at the first undecided site."""
    site, last = node.undecided, node.choice[-1][0] if node.choice else -1
    if site == len(space.sites) or len(node.choice) == space.edits:
        return
    yield node.choice, site + 1
    if space.follows(site, last):
        for option in range(len(space.sites[site].replacements)):
            yield (*node.choice, (site, option)), site + 1


def _rank(result: Any) -> tuple[bool, float]:
    return result.goal_status == GoalFunctionResultStatus.SUCCEEDED, result.score


def _wrong(margins: Margins, label: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return which exits may answer wrongly, shape [K]; a tie may go either way."""
    others: np.ndarray[Any, np.dtype[np.bool_]] = np.delete(margins, label, axis=1).max(axis=1) >= -SLACK
    return others


def _scores(margins: Margins, label: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return upper bounds of 1 - p_y for each exit, shape [K]: the softmax grows with every margin."""
    with np.errstate(over="ignore"):
        rest = np.exp(np.delete(margins, label, axis=1)).sum(axis=1)
        return np.asarray(1 - 1 / (1 + rest) + SLACK, dtype=np.float64)


def _deployed(goal: Goal, margins: Margins, label: int) -> Bound:
    return Bound(bool(_wrong(margins, label).any()), float(_scores(margins, label).max()))


def _final(goal: Goal, margins: Margins, label: int) -> Bound:
    return Bound(bool(_wrong(margins, label)[-1]), float(_scores(margins, label)[-1]))


def _one_exit(goal: Any, margins: Margins, label: int) -> Bound:
    return Bound(bool(_wrong(margins, label)[goal.k - 1]), float(_scores(margins, label)[goal.k - 1]))


def _average(goal: Goal, margins: Margins, label: int) -> Bound:
    return Bound(bool(_wrong(margins, label).any()), float(_scores(margins, label).mean()))


def _all_exits(goal: Goal, margins: Margins, label: int) -> Bound:
    return Bound(bool(_wrong(margins, label).all()), float(_scores(margins, label).mean()))


GOAL_BOUNDS: Final[Mapping[str, Callable[[Any, Margins, int], Bound]]] = {
    "deployed": _deployed,
    "final": _final,
    "exit": _one_exit,
    "average": _average,
    "all-exits": _all_exits,
}
"""What a goal can reach, from bounds of the margins; by the goal's name."""


def exhaustive(own: Any) -> Exhaustive:
    """Return the exhaustive search that ends at the first success.

    Raises:
        ConfigError: The recipe is not one of a finite set.
    """
    return Exhaustive(_on_a_set("exhaustive", own), whole=False)


def exhaustive_best(own: Any) -> Exhaustive:
    """Return the exhaustive search for the success with the highest score.

    Raises:
        ConfigError: The recipe is not one of a finite set.
    """
    return Exhaustive(_on_a_set("exhaustive-best", own), whole=True)


def branch_and_bound(own: Any) -> BranchAndBound:
    """Return the branch-and-bound search.

    Raises:
        ConfigError: The recipe is not one of a finite set, the victim bounds nothing, or no bound is known for the
            goal or the view.
    """
    own = _on_a_set("branch-and-bound", own)
    goal_function = own.edits.goal_function
    victim, goal = goal_function.model.model, goal_function.goal
    if not isinstance(victim, BoundedVictim):
        raise ConfigError(
            f"search 'branch-and-bound' needs a victim that bounds its own logits (margin_bounds), which "
            f"{type(victim).__name__} does not; no bound is known for a black box: take search 'exhaustive'"
        )
    if goal.name not in GOAL_BOUNDS:
        raise ConfigError(
            f"search 'branch-and-bound' knows no bound for goal {goal.label!r}; expected one of: "
            f"{', '.join(sorted(GOAL_BOUNDS))}; or take search 'exhaustive'"
        )
    if SCORES not in goal_function.view.shows:
        raise ConfigError(
            f"search 'branch-and-bound' bounds scores, which the view {goal_function.view.name!r} does not show; "
            f"take search 'exhaustive'"
        )
    known = GOAL_BOUNDS[goal.name]
    return BranchAndBound(own, victim, lambda margins, label: known(goal, margins, label))


def _on_a_set(search: str, own: Any) -> GreedyOnSet:
    if not isinstance(own, GreedyOnSet):
        raise ConfigError(
            f"search {search!r} needs a finite set, which {type(own).__name__} does not search; take a recipe set-NAME"
        )
    return own
