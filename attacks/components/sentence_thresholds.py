"""Thresholds on the Universal Sentence Encoder, as thresholds on the packaged MiniLM.

The two do not share a scale. Each use of a recipe was translated by equipercentile linking: MiniLM's threshold accepts
the same share of pairs (text before, text after changes as that recipe makes them) as the recipe's own threshold does
on the Universal Sentence Encoder, over 600 pairs from SST-2's training texts and 600 from AG News', texts of 15 words
or more, changes from the table of counter-fitted neighbours. Measured by benchmarks/calibrate_sentence_thresholds.py
(seed 0) with USE Lite (the transformer with 8k word pieces, which npm carries); TextAttack loads USE 3 (the deep
averaging network), a model of the same family that was not at hand. The two encoders rank pairs alike
(rank correlations .75 to .87) and decide alike on the shares below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Use:
    """One use of the Universal Sentence Encoder in a recipe.

    Attributes:
        recipe: The recipe.
        metric: ``cosine`` or ``angular``.
        threshold: The recipe's threshold.
        window: Words compared, or None for the whole text.
        minilm: The threshold on MiniLM.
        interval: Its 95 % bootstrap interval, or None where it was not translated.
        accepted: Share of the pairs that USE Lite accepts at `threshold`, and MiniLM at `minilm`.
        untranslated: Share that MiniLM would accept at `threshold`.
        alike: Share of the pairs on which both decide alike, or None where it was not translated.
    """

    recipe: str
    metric: str
    threshold: float
    window: int | None
    minilm: float
    interval: tuple[float, float] | None
    accepted: float
    untranslated: float
    alike: float | None


USES: Final = (
    Use("textfooler", "angular", 0.840845057, 15, 0.8229, (0.814, 0.832), 0.938, 0.897, 0.943),
    Use("textbugger", "angular", 0.8, None, 0.7563, (0.749, 0.761), 0.834, 0.660, 0.890),
    Use("bae", "cosine", 0.936338023, 15, 0.9167, (0.912, 0.922), 0.728, 0.627, 0.833),
    Use("clare", "cosine", 0.7, 15, 0.6457, (0.628, 0.666), 0.868, 0.804, 0.905),
    # USE Lite rejected none of the pairs, which says nothing of where MiniLM's threshold lies: it stays.
    Use("bert-attack", "cosine", 0.2, None, 0.2, None, 1.0, 0.999, None),
)

_MINILM: Final = {(use.metric, use.threshold, use.window): use.minilm for use in USES}


def minilm_threshold(metric: str, threshold: float, window: int | None) -> float:
    """Return the threshold on MiniLM for a use of the Universal Sentence Encoder; a use not in `USES` keeps its own.

    Args:
        metric: ``cosine`` or ``angular``.
        threshold: On the Universal Sentence Encoder.
        window: Words compared, or None for the whole text.
    """
    return _MINILM.get((metric, threshold, window), threshold)
