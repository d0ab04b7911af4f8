"""A neutral sentence appended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from robustexit.attacks.sets.base import Edit, PerturbationSet, perturbation_sets
from robustexit.attacks.sets.words import TOKENISED

SENTENCES: Final = (
    "This text ends here.",
    "A week has seven days.",
    "This is the last sentence.",
    "June comes after May.",
    "Two and two make four.",
    "A square has four sides.",
    "There are twelve months in a year.",
    "The next line is empty.",
    "An hour has sixty minutes.",
    "This sentence has five words.",
)
"""Statements that hold for every text, value nothing and belong to no subject of the news."""

_ENDS: Final = tuple(".!?…:;")
_QUOTES: Final = "\"'”’)]»"


@perturbation_sets.register("neutral-sentence")
@dataclass(frozen=True)
class NeutralSentence(PerturbationSet):
    """One of ten neutral sentences at the end, after a full stop where the text has none.

    In lower case where the whole text is, with its full stop apart where the text's punctuation stands apart.
    """

    name: ClassVar[str] = "neutral-sentence"
    source: ClassVar[str] = "after CheckList's invariance tests, Ribeiro et al. 2020, ACL, arXiv 2005.04118"
    sound_for: ClassVar[tuple[str, ...]] = ("sentiment", "topic")
    why: ClassVar[str] = (
        "the sentences value nothing and belong to no subject; what follows from a text, or says the same, they change"
    )

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield the sentences, all at the text's end."""
        kept = text.rstrip()
        if not kept:
            return
        apart, lower = bool(TOKENISED.search(text)), text == text.lower()
        ended = kept.rstrip(_QUOTES + " ").endswith(_ENDS)
        joint = " " if ended else (" . " if apart else ". ")
        for sentence in SENTENCES:
            added = sentence.lower() if lower else sentence
            yield len(kept), len(text), joint + (added[:-1] + " ." if apart else added)
