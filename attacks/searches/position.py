"""Position-driven search: slow a victim down by the exit that it takes, which shows in the time it takes.

After SlowBERT (Zhang et al. 2023, "SlowBERT: Slow-down Attacks on Input-adaptive Multi-exit BERT", Findings of ACL,
pages 9992-10007), whose authors published no code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from robustexit.attacks.goals import Goal
from robustexit.attacks.goals.together import Together
from robustexit.attacks.searches.words import require_word_edits
from robustexit.attacks.textattack_api import GoalFunctionResultStatus, SearchMethod
from robustexit.attacks.views import EXIT, Seen

Rank = tuple[bool, int, int, float]


def make(own: Any) -> PositionSearch:
    """Return the search; it takes nothing from the recipe's own."""
    return PositionSearch()


class PositionSearch(SearchMethod):  # type: ignore[misc]  # TextAttack is untyped
    """Rank words by the exit that the text takes without them, latest first; then substitute one after another.

    Of a word's candidates the text with the latest exit is taken if it is later than the current one, until the goal
    is met. A later exit never makes up for a condition joined to the slowdown (``slowdown-position & keep-answer``)
    that is lost. Ties go to the goal's score, which for ``slowdown-position`` is the uniformity of the exits
    where scores are seen; then to fewer edited characters, then to the seed. With goals that are not after the savings
    it is the score that counts.

    As SlowBERT was rebuilt by Varma et al. 2024 (SaTML, "Understanding, Uncovering, and Mitigating the Causes of
    Inference Slowdown for Language Models"), who rank alike (there the last probabilities' cross-entropy to uniform
    breaks ties) but take the candidate with the latest exit even where it is earlier than before.

    Args:
        ranked: Rank the words; in random order otherwise, as a control.
    """

    def __init__(self, ranked: bool = True) -> None:
        self.ranked = ranked

    def check_transformation_compatibility(self, transformation: Any) -> bool:
        """Whether it can go word by word; called when an attack is built.

        Raises:
            ConfigError: It cannot.
        """
        require_word_edits("position", transformation)
        return True

    def perform_search(self, initial_result: Any) -> Any:
        """Return the result with the latest exit found, the first that meets the goal where one does."""
        current, original = initial_result, initial_result.attacked_text
        order, over = self._order(initial_result)
        for word in order:
            # Words that were split or dropped move those behind them.
            position = int(current.attacked_text.attack_attrs["original_index_map"][word])
            if over or position < 0:
                continue
            texts = self.get_transformations(
                current.attacked_text, original_text=original, indices_to_modify=[position]
            )
            if not texts:
                continue
            results, over = self.get_goal_results(texts)
            for best in self._latest(results, original):
                if self._rank(best) > self._rank(current):
                    current = best
            if current.goal_status == GoalFunctionResultStatus.SUCCEEDED:
                break
        return current

    def _order(self, initial_result: Any) -> tuple[list[int], bool]:
        """Return the words in the order they are tried, and whether the queries are spent."""
        text = initial_result.attacked_text
        words = sorted(self.get_indices_to_order(text)[1])
        np.random.shuffle(words)  # the seed breaks ties
        if not self.ranked or not words:
            return words, False
        results, over = self.get_goal_results([text.delete_word_at_index(word) for word in words])
        ranks = [self._rank(result) for result in results]
        return [words[i] for i in sorted(range(len(ranks)), key=lambda i: ranks[i], reverse=True)], over

    def _latest(self, results: list[Any], original: Any) -> list[Any]:
        """Return the result to take, in a list: the latest exit, then the fewest edits, then any."""
        shuffled = [results[i] for i in np.random.permutation(len(results))]
        edits = {id(result): Levenshtein.distance(original.text, result.attacked_text.text) for result in shuffled}
        return sorted(shuffled, key=lambda result: (*self._rank(result), -edits[id(result)]), reverse=True)[:1]

    def _rank(self, result: Any) -> Rank:
        """Return what makes a result better: the goal met, conditions kept, the exit, the goal's score."""
        function = self.goal_function
        goal: Goal = function.goal
        seen: Seen = function.see(result.raw_output)
        parts = goal.parts if isinstance(goal, Together) else ()
        kept = [
            part for part in parts if not part.slows and part.met(seen, function.ground_truth_output, function.start)
        ]
        late = seen.taken if goal.slows and EXIT in goal.needs else 0
        return (
            result.goal_status == GoalFunctionResultStatus.SUCCEEDED,
            len(kept) if goal.slows else 0,
            late,
            result.score,
        )

    @property
    def is_black_box(self) -> bool:
        """It asks for exits alone."""
        return True

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of this search."""
        return ["ranked"]
