"""Numbers swapped for numbers of about their size."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final

from robustexit.attacks.sets.base import Edit, PerturbationSet, perturbation_sets
from robustexit.parameters import require_count

_INTEGER: Final = re.compile(r"(?<![\w.,/:$€£%'-])\d+(?![\w%/:'-]|[.,]\d)")
_RATED_BEFORE: Final = re.compile(
    r"(?:\b(?:out of|rate[ds]?|rating|grade[ds]?|score[ds]?|give[ns]?|gave|number|no\.|top))"
    r"(?: (?:it|this|that|them|of|a|as|at|is|was))*\s*$",
    re.IGNORECASE,
)
_RATED_AFTER: Final = re.compile(r"\s*(?:-\s*)?(?:stars?|points?|thumbs?|out of|of|/|percent|%)(?!\w)", re.IGNORECASE)
_SHORTHAND: Final = ("2", "4")


@perturbation_sets.register("numbers")
@dataclass(frozen=True)
class Numbers(PerturbationSet):
    """Whole numbers in digits, each for others within a fifth of it, never below 1.

    As in CheckList 2 and 4 stay (``this is 4 you``); unlike there, so do numbers that rate (``4 stars``,
    ``8 out of 10``), which would break the soundness. Where more than `options` numbers are near, that many are taken,
    evenly spread; CheckList draws ten.

    Attributes:
        options: Replacements of each number, at most.
    """

    name: ClassVar[str] = "numbers"
    source: ClassVar[str] = "CheckList's invariance tests, Ribeiro et al. 2020, ACL, arXiv 2005.04118"
    sound_for: ClassVar[tuple[str, ...]] = ("sentiment",)
    why: ClassVar[str] = (
        "a number that rates nothing does not change what a text thinks; what follows from it may change"
    )
    options: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count(f"set {self.name!r}", "options", self.options)

    def edits_of(self, text: str) -> Iterator[Edit]:
        """Yield the swaps of every number."""
        for match in _INTEGER.finditer(text):
            rates = _RATED_BEFORE.search(text[: match.start()]) or _RATED_AFTER.match(text, match.end())
            if match[0] in _SHORTHAND or not match[0].isascii() or rates:
                continue
            for new in near(int(match[0]), self.options):
                yield match.start(), match.end(), str(new)


def near(number: int, options: int) -> list[int]:
    """Return up to `options` numbers within a fifth of a number (and one more), evenly spread, never below 1."""
    change = int(number * 0.2) + 1
    others = [n for n in range(max(1, number - change), number + change + 1) if n != number]
    if len(others) <= options:
        return others
    if options == 1:
        return others[:1]
    return [others[round(i * (len(others) - 1) / (options - 1))] for i in range(options)]
