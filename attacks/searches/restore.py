"""The search for attackers who see little: random words until the goal is met, then the words put back.

The first two steps of Maheshwary et al. 2021 ("Generating Natural Language Attacks in a Hard Label Black Box
Setting", AAAI, arXiv:2012.14956), on any recipe's transformation and constraints.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from robustexit.attacks.fields import field_texts
from robustexit.attacks.limits import LimitReached
from robustexit.attacks.searches.words import parts_of, require_word_edits
from robustexit.attacks.textattack_api import (
    GoalFunctionResultStatus,
    SearchMethod,
    WordSwapChangeLocation,
    WordSwapContract,
    words_from_text,
)
from robustexit.errors import ConfigError


def make(own: Any) -> RestoreSearch:
    """Return the search; it takes nothing from the recipe's own."""
    return RestoreSearch()


class RestoreSearch(SearchMethod):  # type: ignore[misc]  # TextAttack is untyped
    """Random words until the goal is met, then restored one by one while it stays met. Reads no score to get there.

    1. *Random start.* The words are taken in random order; each is replaced by a random one of its candidates, on top
       of those before it, and every text is asked, until one meets the goal. Then a new order, up to `trials`.
    2. *Restoring.* Each changed word is put back alone. Those that the goal can spare are put back together, the text
       most like the original first, until it is lost; and so on until no changed word can be spared.

    Every text that is asked could be reached by an attack of TextAttack step by step: after a word is put back, the
    steps behind it are taken again, each under all constraints; the words put in stay as they were proposed.

    The authors draw the words of a growing set anew for each text, and all words at once after as many texts as there
    are words; here sets keep growing, as in a port of it to TextAttack, with the authors' number of texts.
    Likeness is what the recipe's sentence encoder says if it has one, as theirs, else that of the characters. Their
    third step, a genetic search for likeness with the goal kept, is left out.

    Args:
        trials: Words of random starts that are tried, each a text if it has a candidate (the authors' 2,500 texts).
        stale: Random starts in a row without a new text after which there is nothing left to try.

    Attributes:
        sees_neighbours: The transformation has to be shown all words at once, since it joins or replaces several.
    """

    def __init__(self, trials: int = 2500, stale: int = 25) -> None:
        self.trials = trials
        self.stale = stale
        self.sees_neighbours = False

    @property
    def goal_function(self) -> Any:
        """The goal function, as TextAttack sets it.

        Raises:
            ConfigError: The goal cannot be met, only approached (when it is set, as an attack is built).
        """
        return self._goal_function

    @goal_function.setter
    def goal_function(self, goal_function: Any) -> None:
        if goal_function.maximizable:
            raise ConfigError(
                f"search 'restore' starts from a text that meets the goal, and {goal_function.goal.label!r} has only "
                "better and worse: expected a goal that can be met"
            )
        self._goal_function = goal_function

    def check_transformation_compatibility(self, transformation: Any) -> bool:
        """Whether it can undo what a transformation does; called when an attack is built.

        Raises:
            ConfigError: It cannot.
        """
        require_word_edits("restore", transformation)
        self.sees_neighbours = any(
            isinstance(part, (WordSwapContract, WordSwapChangeLocation)) for part in parts_of(transformation)
        )
        return True

    def perform_search(self, initial_result: Any) -> Any:
        """Return a result that meets the goal, with the fewest changed words found; else the highest score.

        Raises:
            LimitReached: A limit of the attempt, before any text met the goal.
        """
        hunt = _Hunt(self, initial_result)
        try:
            found = hunt.random_start()
            return hunt.best if found is None else hunt.ask([hunt.restore(found)])[0]
        except _QueriesSpent:
            return hunt.best
        except LimitReached:
            if not hunt.met(hunt.best):
                raise
            return hunt.best

    @property
    def is_black_box(self) -> bool:
        """It asks for answers alone."""
        return True

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of this search."""
        return ["trials", "stale"]


class _QueriesSpent(Exception):  # noqa: N818  # the end of a search, no mistake
    """TextAttack says that the search is over."""


@dataclass(frozen=True)
class _Edit:
    """One step of an attack: what it put in the place of some of the original's words.

    Attributes:
        asked: Word of the original that the transformation was asked to change.
        words: Words of the original that were replaced.
        strings: What stands in their places: a word, several, or none.
        by: The transformation.
    """

    asked: int
    words: tuple[int, ...]
    strings: tuple[str, ...]
    by: Any


@dataclass(frozen=True)
class _Chain:
    """Steps from the original to a text.

    Attributes:
        texts: The texts on the way, the original first.
        edits: The steps between them.
    """

    texts: tuple[Any, ...]
    edits: tuple[_Edit, ...] = ()

    @property
    def text(self) -> Any:
        """The last text."""
        return self.texts[-1]

    @property
    def changed(self) -> set[int]:
        """Words of the original that were replaced."""
        return {word for edit in self.edits for word in edit.words}

    def position(self, word: int) -> int:
        """Return where a word of the original (or what stands in its place) begins in the last text."""
        return word + sum(
            len(words_from_text(string)) - 1
            for edit in self.edits
            for other, string in zip(edit.words, edit.strings, strict=True)
            if other < word
        )

    def unchanged_between(self, first: int, last: int) -> tuple[int, ...]:
        """Return the original's words that stand from a position up to another; none if one of them is changed."""
        unchanged = {self.position(word): word for word in range(len(self.texts[0].words)) if word not in self.changed}
        found = [unchanged.get(position) for position in range(first, last)]
        return () if None in found else tuple(word for word in found if word is not None)

    def with_step(self, edit: _Edit, text: Any) -> _Chain:
        """Return the chain with one more step."""
        return _Chain((*self.texts, text), (*self.edits, edit))


class _Hunt:
    """One attempt of the search.

    Attributes:
        best: The result that meets the goal with the fewest changed words, else the one with the highest score.
    """

    def __init__(self, search: RestoreSearch, initial_result: Any) -> None:
        self.search = search
        self.original = initial_result.attacked_text
        self.best = initial_result
        self._changed = 0
        self._known = {field_texts(self.original): initial_result}

    @staticmethod
    def met(result: Any) -> bool:
        """Whether a result meets the goal."""
        return bool(result.goal_status == GoalFunctionResultStatus.SUCCEEDED)

    def ask(self, chains: Sequence[_Chain]) -> list[Any]:
        """Return the results of chains' last texts; texts known from this attempt are not asked again.

        Raises:
            _QueriesSpent: The search is over.
            LimitReached: A limit of the attempt.
        """
        new = {field_texts(chain.text): chain for chain in chains if field_texts(chain.text) not in self._known}
        if new:
            results, over = self.search.get_goal_results([chain.text for chain in new.values()])
            for chain, result in zip(new.values(), results, strict=False):  # fewer where the queries are spent
                self._known[field_texts(chain.text)] = result
                self._keep(result, len(chain.changed))
            if over:
                raise _QueriesSpent
        return [self._known[field_texts(chain.text)] for chain in chains]

    def _keep(self, result: Any, changed: int) -> None:
        def rank(result: Any, changed: int) -> tuple[bool, float]:
            return (True, -changed) if self.met(result) else (False, result.score)

        if rank(result, changed) > rank(self.best, self._changed):
            self.best, self._changed = result, changed

    def random_start(self) -> _Chain | None:
        """Return a chain of random steps whose text meets the goal, or None."""
        order = sorted(self.search.get_indices_to_order(self.original)[1])
        tried = stale = 0
        while stale < self.search.stale:
            np.random.shuffle(order)
            chain, known = _Chain((self.original,)), len(self._known)
            for word in order:
                if tried == self.search.trials:
                    return None
                if chain.position(word) not in self.search.get_indices_to_order(chain.text)[1]:
                    continue  # said before a transformation is made, which is what takes long
                tried, longer = tried + 1, self.random_step(chain, word)
                if longer is not None and self.met(self.ask([longer])[0]):
                    return longer
                chain = longer or chain
            stale = 0 if len(self._known) > known else stale + 1
        return None

    def random_step(self, chain: _Chain, word: int) -> _Chain | None:
        """Return the chain with a random change of one more word, or None if it has no candidate."""
        if word in chain.changed:
            return None
        where = {} if self.search.sees_neighbours else {"indices_to_modify": [chain.position(word)]}
        candidates = self.search.get_transformations(chain.text, original_text=self.original, **where)
        while candidates:
            text = candidates.pop(np.random.randint(len(candidates)))
            edit = _edit_between(chain, word, text)
            if edit is not None and word in edit.words:
                return chain.with_step(edit, text)
        return None

    def restore(self, chain: _Chain) -> _Chain:
        """Return a chain that meets the goal, and none of whose words can be put back alone."""
        while True:
            shorter = [(edit, self.without(chain, edit)) for edit in chain.edits]
            possible = [(edit, other) for edit, other in shorter if other is not None]
            results = self.ask([other for _, other in possible])
            spare = [
                (self._likeness(result), edit)
                for (edit, _), result in zip(possible, results, strict=True)
                if self.met(result)
            ]
            if not spare:
                return chain
            chain = self._without_many(chain, [edit for _, edit in sorted(spare, key=lambda found: -found[0])])

    def _without_many(self, chain: _Chain, edits: Iterable[_Edit]) -> _Chain:
        """Return the chain with steps undone one after another, as long as the goal stays met."""
        for edit in edits:
            shorter = self.without(chain, edit)
            if shorter is None or not self.met(self.ask([shorter])[0]):
                break
            chain = shorter
        return chain

    def without(self, chain: _Chain, edit: _Edit) -> _Chain | None:
        """Return the chain with one step undone and the later ones taken again, or None if a constraint forbids it."""
        done = chain.edits.index(edit)
        shorter = _Chain(chain.texts[: done + 1], chain.edits[:done])
        for later in chain.edits[done + 1 :]:
            text = _replaced(shorter, later)
            allowed = self.search.get_indices_to_order(shorter.text)[1]
            if text is None or shorter.position(later.asked) not in allowed:
                return None
            text.attack_attrs["last_transformation"] = later.by
            if not self.search.filter_transformations([text], shorter.text, original_text=self.original):
                return None
            shorter = shorter.with_step(later, text)
        return shorter

    def _likeness(self, result: Any) -> float:
        """Return how like the original a result's text is: by the recipe's sentence encoder, else by characters."""
        text = result.attacked_text
        by_characters = Levenshtein.normalized_similarity(self.original.text, text.text)
        return float(text.attack_attrs.get("similarity_score", by_characters))


def _replaced(chain: _Chain, edit: _Edit) -> Any | None:
    """Return a chain's text after one more step, or None where its words are no longer told apart as they were."""
    positions = [chain.position(word) for word in edit.words]
    found, original = chain.text.words, chain.texts[0].words
    if any(at >= len(found) or found[at] != original[word] for at, word in zip(positions, edit.words, strict=True)):
        return None
    return chain.text.replace_words_at_indices(positions, list(edit.strings))


def _edit_between(chain: _Chain, asked: int, after: Any) -> _Edit | None:
    """Return the step from a chain's text to one that a transformation made of it, or None if it cannot be told.

    The word that was asked for is tried first, then the words that differ (one or several neighbours).
    """
    before = chain.text
    same = _same_at_start(before.words, after.words)
    most = min(len(before.words), len(after.words)) - same
    end = len(before.words) - _same_at_start(before.words[::-1], after.words[::-1], most)
    for words in ((asked,), chain.unchanged_between(same, end)):
        if not words:
            continue
        head = before.text_until_word_index(chain.position(words[0]))
        tail = before.text_after_word_index(chain.position(words[-1]))
        string = after.text[len(head) : max(len(head), len(after.text) - len(tail))]
        strings = (string, *[""] * (len(words) - 1))
        edit = _Edit(asked, words, strings, after.attack_attrs["last_transformation"])
        text = _replaced(chain, edit)
        if text is not None and field_texts(text) == field_texts(after):
            return edit
    return None


def _same_at_start(one: Sequence[str], other: Sequence[str], most: int | None = None) -> int:
    """Return how many words two lists share from their starts on, `most` at most."""
    count = 0
    for a, b in zip(one[:most], other[:most], strict=False):
        if a != b:
            break
        count += 1
    return count
