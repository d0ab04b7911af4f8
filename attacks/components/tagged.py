"""TextAttack's texts with word tags from elsewhere than flair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Tag(NamedTuple):
    """A tag as TextAttack reads it from flair: ``value`` and ``score``.

    Attributes:
        value: ``S-PER``, ``B-LOC``, ..., ``O`` for names of people and places.
        score: Confidence in [0, 1].
    """

    value: str
    score: float


class TaggedText:
    """A TextAttack text that answers questions about tags itself and leaves everything else to the text.

    TextAttack asks flair for each word anew, which costs the square of a text's length.

    Args:
        text: TextAttack's text.
        tags: One tag a word: universal part of speech, or `Tag`.
    """

    def __init__(self, text: Any, tags: Sequence[Any]) -> None:
        self._text = text
        self._tags = tags

    def __getattr__(self, name: str) -> Any:
        return getattr(self._text, name)

    def pos_of_word_index(self, desired_word_idx: int) -> Any:
        """Return the part of speech of a word."""
        return self._tags[desired_word_idx]

    def ner_of_word_index(self, desired_word_idx: int, model_name: str = "ner") -> Any:
        """Return the name tag of a word; the model is the one that these tags are from."""
        return self._tags[desired_word_idx]
