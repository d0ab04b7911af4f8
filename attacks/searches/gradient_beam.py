"""SAME's search: a beam over the candidates that the gradient proposes."""

from __future__ import annotations

from typing import Any

from robustexit.attacks.textattack_api import GoalFunctionResultStatus, SearchMethod


class GradientBeam(SearchMethod):  # type: ignore[misc]  # TextAttack is untyped
    """Beam search with a limited number of rounds (SAME, Chen et al. 2023, arXiv 2305.12228).

    In each round the transformation proposes candidates for every text of the beam, from the gradient there, and the
    best-scoring ones are the next beam. Unlike the authors' code it ends when the goal is met, returns the best text of
    all rounds and not of the last, and asks for a candidate that two texts of the beam share once.

    Args:
        beam_width: Texts kept from round to round.
        per_size: Rounds.
    """

    def __init__(self, beam_width: int, per_size: int) -> None:
        self.beam_width = beam_width
        self.per_size = per_size

    def perform_search(self, initial_result: Any) -> Any:
        """Return the best result."""
        best, beam = initial_result, [initial_result]
        for _ in range(self.per_size):
            candidates = self._candidates([result.attacked_text for result in beam], initial_result.attacked_text)
            if not candidates:
                break
            results, search_over = self.get_goal_results(candidates)
            beam = sorted(results, key=_rank, reverse=True)[: self.beam_width]
            best = max(best, *beam, key=_rank)
            if search_over or best.goal_status == GoalFunctionResultStatus.SUCCEEDED:
                break
        return best

    def _candidates(self, texts: list[Any], original: Any) -> list[Any]:
        """Return what the transformation proposes for the texts of the beam, each candidate once, in order."""
        if not self.goal_function.model.learns:
            # All at once: the transformation finds the gradients it asks for already there.
            self.goal_function.model.gradients([text.tokenizer_input for text in texts])
        found: dict[Any, Any] = {}
        for text in texts:
            for candidate in self.get_transformations(text, original_text=original):
                found.setdefault(candidate.tokenizer_input, candidate)
        return list(found.values())

    @property
    def is_black_box(self) -> bool:
        """It takes gradients."""
        return False

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack shows of it."""
        return ["beam_width", "per_size"]


def _rank(result: Any) -> tuple[bool, float]:
    return result.goal_status == GoalFunctionResultStatus.SUCCEEDED, result.score
