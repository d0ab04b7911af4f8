"""What searches that go word by word ask of a transformation."""

from __future__ import annotations

from typing import Any

from robustexit.attacks.textattack_api import CompositeTransformation, WordDeletion, WordInsertion, WordSwap
from robustexit.errors import ConfigError


def parts_of(transformation: Any) -> list[Any]:
    """Return the transformations that a TextAttack transformation is made of."""
    if isinstance(transformation, CompositeTransformation):
        return [part for inner in transformation.transformations for part in parts_of(inner)]
    return [transformation]


def require_word_edits(search: str, transformation: Any) -> None:
    """Refuse a transformation that does more than to swap, insert or delete words.

    Args:
        search: Name of the search.
        transformation: TextAttack's transformation.

    Raises:
        ConfigError: It merges or moves words, changes whole sentences, or only perturbs for differential evolution.
    """
    for part in parts_of(transformation):
        if not isinstance(part, (WordSwap, WordDeletion, WordInsertion)) or _evolves_only(part):
            raise ConfigError(
                f"search {search!r} goes word by word: expected a recipe that swaps, inserts or deletes words, "
                f"got one with {type(part).__name__}"
            )


def _evolves_only(transformation: Any) -> bool:
    """Whether a word swap has no candidates of its own, but perturbs for differential evolution."""
    kind = type(transformation)
    return isinstance(transformation, WordSwap) and (
        kind.__call__ is WordSwap.__call__
        and kind._get_transformations is WordSwap._get_transformations
        and kind._get_replacement_words is WordSwap._get_replacement_words
    )
