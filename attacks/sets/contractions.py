"""Contractions and expansions: ``is not`` and ``isn't``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from robustexit.attacks.sets.base import ANY_TASK, Edit, PerturbationSet, perturbation_sets
from robustexit.attacks.sets.words import TOKENISED

_WITH_NOT: Final = (
    "is",
    "are",
    "was",
    "were",
    "has",
    "have",
    "had",
    "do",
    "does",
    "did",
    "could",
    "would",
    "should",
    "must",
    "need",
    "might",
)
_IRREGULAR: Final = {"can": "ca", "will": "wo", "shall": "sha"}
_SUBJECTS: Final = {
    "m": ("am", ["i"]),
    "re": ("are", ["we", "you", "they"]),
    "ve": ("have", ["i", "we", "you", "they"]),
    "ll": ("will", ["i", "we", "you", "he", "she", "it", "they", "that", "there"]),
    "s": ("is", ["he", "she", "it", "that", "there", "here", "what", "who", "where", "how"]),
}
_NOT_IS: Final = "been|got|had|become|gone"
"""Words that show 's to be short for has."""


def _words(choices: Iterable[str]) -> str:
    return "|".join(sorted(choices, key=lambda word: (-len(word), word)))


_NEGATED: Final = re.compile(rf"\b({_words([*_WITH_NOT, *_IRREGULAR])})( ?)not\b", re.IGNORECASE)
_NT: Final = re.compile(rf"\b({_words([*_WITH_NOT, *_IRREGULAR.values()])}) ?n['’]t\b", re.IGNORECASE)
_LONG: Final = {
    clitic: re.compile(rf"\b({_words(subjects)}) {verb}\b(?= +\w)", re.IGNORECASE)
    for clitic, (verb, subjects) in _SUBJECTS.items()
    if clitic != "ve"
}
"""Not at the end of a clause; have is left alone, for it may be the main verb (``they have money``)."""
_SHORT: Final = {
    clitic: re.compile(
        rf"\b({_words(subjects)}) ?['’]{clitic}\b" + (rf"(?! +(?:{_NOT_IS})\b)" if clitic == "s" else ""),
        re.IGNORECASE,
    )
    for clitic, (_, subjects) in _SUBJECTS.items()
}
_REGULAR_OF: Final = {short: long for long, short in _IRREGULAR.items()}


@perturbation_sets.register("contractions")
@dataclass(frozen=True)
class Contractions(PerturbationSet):
    """Each contraction written out, and each pair of words contracted that has a usual contraction.

    Left alone is what has two readings: 'd (had, would), and 's before a participle that shows it to be short for has.
    Unlike CheckList, which changes all of a text at once, every place is an edit of its own. In texts whose clitics
    stand apart (SST-2's ``it 's``), they do in the edited texts as well.
    """

    name: ClassVar[str] = "contractions"
    source: ClassVar[str] = "CheckList's invariance tests, Ribeiro et al. 2020, ACL, arXiv 2005.04118"
    sound_for: ClassVar[tuple[str, ...]] = (ANY_TASK,)
    why: ClassVar[str] = "a contraction and its long form are the same words"

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield contractions and expansions, negations first."""
        apart = " " if TOKENISED.search(text) else ""
        for match in _NEGATED.finditer(text):
            verb = match[1].lower()
            if match[2] or verb == "can":  # of these, only cannot is written as one word
                yield _edit(match, _IRREGULAR.get(verb, verb) + apart + "n't")
        for match in _NT.finditer(text):
            verb = match[1].lower()
            yield _edit(match, "cannot" if verb == "ca" else f"{_REGULAR_OF.get(verb, verb)} not")
        for clitic, (verb, _) in _SUBJECTS.items():
            for match in _LONG[clitic].finditer(text) if clitic in _LONG else ():
                yield _edit(match, f"{match[1]}{apart}'{clitic}")
            for match in _SHORT[clitic].finditer(text):
                yield _edit(match, f"{match[1]} {verb}")


def _edit(match: re.Match[str], new: str) -> Edit:
    """Return an edit whose words are in the case of those that they stand for."""
    return match.start(), match.end(), new.upper() if match[0].isupper() else match[0][0] + new[1:]
