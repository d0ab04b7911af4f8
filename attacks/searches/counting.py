"""TextAttack's attack, with an account of its candidates and limits on them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from robustexit.attacks.limits import LimitReached
from robustexit.attacks.textattack_api import Attack


class CountingAttack(Attack):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's attack, counting the candidates that enter and leave its constraints.

    Attributes:
        candidates: Candidates that transformations proposed in this attempt.
        candidates_kept: Those that every constraint let through.
    """

    candidates: int = 0
    candidates_kept: int = 0
    _max_candidates: int | None = None
    _deadline: float | None = None

    def begin(self, max_candidates: int | None = None, deadline: float | None = None) -> None:
        """Start a new attempt with empty caches and counts.

        Args:
            max_candidates: Candidates after which the attempt ends.
            deadline: Value of ``time.monotonic()`` from which on it ends.
        """
        self.clear_cache()
        self.candidates = 0
        self.candidates_kept = 0
        self._max_candidates = max_candidates
        self._deadline = deadline
        for part in getattr(self.transformation, "transformations", [self.transformation]):
            if hasattr(part, "watch"):  # one that may take long tells how far it is
                part.watch = self._watch

    def get_transformations(self, current_text: Any, original_text: Any = None, **kwargs: Any) -> list[Any]:
        """Transform and filter as TextAttack does, looking at the clock before and in between.

        Raises:
            LimitReached: A limit of the attempt.
        """
        self._look_at_clock()
        found: list[Any] = super().get_transformations(current_text, original_text, **kwargs)
        return found

    def filter_transformations(
        self, transformed_texts: Sequence[Any], current_text: Any, original_text: Any = None
    ) -> list[Any]:
        """Filter as TextAttack does, and count.

        Raises:
            LimitReached: A limit of the attempt; no candidate beyond it is filtered.
        """
        self._look_at_clock()
        proposed = self.candidates + len(transformed_texts)
        if self._max_candidates is not None and proposed > self._max_candidates:
            raise LimitReached("budget")
        kept: list[Any] = super().filter_transformations(transformed_texts, current_text, original_text)
        self.candidates = proposed
        self.candidates_kept += len(kept)
        return kept

    def _watch(self, made: int) -> None:
        """Look at the limits while a transformation works that has made so many candidates in this call."""
        self._look_at_clock()
        if self._max_candidates is not None and self.candidates + made > self._max_candidates:
            raise LimitReached("budget")

    def _look_at_clock(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise LimitReached("timeout")
