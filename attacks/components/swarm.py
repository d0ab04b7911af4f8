"""Particle swarms over words: TextAttack's searches, without the texts that they fail on."""

from __future__ import annotations

from typing import Any

from robustexit.attacks.textattack_api import ParticleSwarmOptimization, ParticleSwarmOptimizationLEAP


class _Guarded:
    """What both searches lack; mixed in before TextAttack's class.

    - A text without words is left as it is: theirs draws from an empty list.
    - A candidate with another number of words is no neighbour: theirs ends with an assertion. A Chinese sign anywhere
      makes TextAttack split "co-star" into two.
    """

    get_transformations: Any

    def perform_search(self, initial_result: Any) -> Any:
        """Return the best result."""
        unfiltered, same = self.get_transformations, initial_result.attacked_text.num_words

        def word_for_word(current_text: Any, *args: Any, **kwargs: Any) -> list[Any]:
            return [other for other in unfiltered(current_text, *args, **kwargs) if other.num_words == same]

        if not same:
            return initial_result
        self.get_transformations = word_for_word
        try:
            return super().perform_search(initial_result)  # type: ignore[misc]  # TextAttack's class comes next
        finally:
            self.get_transformations = unfiltered


class Swarm(_Guarded, ParticleSwarmOptimization):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's particle swarm (Zang et al. 2020).

    TextAttack moves a particle by starting from the elite and taking the particle's words where the draw falls below
    the turn probability, so that words far from the elite are those kept; and a move that no constraint lets through
    ends at the elite. The authors start from the particle and take the elite's words.

    Args:
        pop_size: Particles.
        max_iters: Iterations.
        authors_turn: Move as the authors' code does.
    """

    def __init__(self, pop_size: int = 60, max_iters: int = 20, authors_turn: bool = False) -> None:
        super().__init__(pop_size=pop_size, max_iters=max_iters)
        self.authors_turn = authors_turn

    def _turn(self, source_text: Any, target_text: Any, prob: Any, original_text: Any) -> Any:
        if self.authors_turn:
            source_text, target_text = target_text, source_text
        return super()._turn(source_text, target_text, prob, original_text)


class LeapSwarm(_Guarded, ParticleSwarmOptimizationLEAP):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's Levy-flight swarm (Xiao et al. 2023); its authors' code turns as TextAttack does."""
