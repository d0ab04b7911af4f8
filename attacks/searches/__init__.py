"""Searches that can stand in the place of a recipe's own, by name; each is loaded (with TextAttack) when it is used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from robustexit.registry import Registry

OWN: Final = "own"
"""The recipe's own search."""


@dataclass(frozen=True)
class SearchKind:
    """A search by name.

    Attributes:
        name: Name in ``{name: deepwordbug, search: NAME}``.
        source: Where it comes from.
        about: What it does, in one line.
        factory: ``module:function``; the function takes the recipe's own search and returns the one to use, or raises
            a ConfigError that says what it expected.
        made_for: Views it is made for.
    """

    name: str
    source: str
    about: str
    factory: str
    made_for: frozenset[str]

    def make(self, own: Any) -> Any:
        """Return the search method to use.

        Args:
            own: The recipe's own TextAttack search method.

        Raises:
            ConfigError: It cannot stand in the place of `own`.
        """
        module, _, function = self.factory.partition(":")
        return getattr(import_module(module), function)(own)


searches: Registry[SearchKind] = Registry("search", "robustexit.searches")
"""Searches by name."""

_EVERY_VIEW: Final = frozenset({"scores", "label", "label+exit", "gradients"})

for _kind in (
    SearchKind(
        "random-order",
        "Yoo et al. 2020, BlackboxNLP, arXiv 2009.06368",
        "the control for importance-ranked searches: the same greedy search, words in random order",
        "robustexit.attacks.searches.random_order:make",
        frozenset({"scores", "gradients"}),
    ),
    SearchKind(
        "restore",
        "Maheshwary et al. 2021, AAAI, arXiv 2012.14956, without its genetic step",
        "for attackers who see no scores: random words until the goal is met, then the words put back one by one",
        "robustexit.attacks.searches.restore:make",
        frozenset({"label", "label+exit"}),
    ),
    SearchKind(
        "position",
        "SlowBERT, Zhang et al. 2023, Findings of ACL",
        "slowdown by the exit alone: words by what the exit does without them, then the text with the latest exit",
        "robustexit.attacks.searches.position:make",
        frozenset({"label+exit", "scores", "gradients"}),
    ),
    SearchKind(
        "exhaustive",
        "RobustExit: enumeration",
        "for recipes on a finite set: every text, fewest edits first, until the first success; a failure is a proof",
        "robustexit.attacks.searches.exact:exhaustive",
        _EVERY_VIEW,
    ),
    SearchKind(
        "exhaustive-best",
        "RobustExit: enumeration to the end",
        "for recipes on a finite set: every text; of all successes the one with the highest score",
        "robustexit.attacks.searches.exact:exhaustive_best",
        _EVERY_VIEW,
    ),
    SearchKind(
        "branch-and-bound",
        "Land and Doig 1960, Econometrica, with the bounds of additive logits",
        "for recipes on a finite set and victims that bound their logits: exact without asking for every text",
        "robustexit.attacks.searches.exact:branch_and_bound",
        frozenset({"scores", "gradients"}),
    ),
):
    searches.register(_kind.name)(_kind)

__all__ = ["OWN", "SearchKind", "searches"]
