"""Thresholds on the Universal Sentence Encoder, as thresholds on the packaged MiniLM."""

from __future__ import annotations

from typing import Final

MINILM: Final[dict[tuple[str, float, int | None], float]] = {}
"""MiniLM's threshold by metric, threshold on the stock encoder and window; a use that is not listed keeps its own."""


def minilm_threshold(metric: str, threshold: float, window: int | None) -> float:
    """Return the threshold on MiniLM for a use of the Universal Sentence Encoder.

    Args:
        metric: ``cosine`` or ``angular``.
        threshold: On the Universal Sentence Encoder.
        window: Words compared, or None for the whole text.
    """
    return MINILM.get((metric, threshold, window), threshold)
