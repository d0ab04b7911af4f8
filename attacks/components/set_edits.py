"""A perturbation set as TextAttack's transformation, so that every search can run on it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from robustexit.attacks.fields import field_values
from robustexit.attacks.sets import Choice, PerturbationSet, Replaced, Site, Space
from robustexit.attacks.sets.words import word_spans
from robustexit.attacks.textattack_api import AttackedText, GreedyWordSwapWIR, WordSwap


class SetEdits(WordSwap):  # type: ignore[misc]  # TextAttack is untyped
    """Every text of a set that is one edit further than the current one.

    The set is that of the attempt's original text, and so are the word numbers that searches ask with, as greedy
    searches mean them: TextAttack's own word swaps take them for the current text's, though edits may have moved
    those. A site belongs to its first word; where something is inserted, to the word before. Words without a site are
    not there to be ranked. A text outside the set has no edits.

    Args:
        perturbation_set: The set.
        goal_function: The goal, which knows the attempt's original text.
        protected_fields: Fields that stay as they are.
    """

    def __init__(
        self, perturbation_set: PerturbationSet, goal_function: Any, protected_fields: Collection[str] = ()
    ) -> None:
        super().__init__()
        self.perturbation_set = perturbation_set
        self.protected_fields = tuple(protected_fields)
        self.goal_function = goal_function
        self._space: Space | None = None

    @property
    def space(self) -> Space:
        """The set around the original of the current attempt."""
        fields = field_values(self.original)
        if self._space is None or self._space.fields != fields:
            self._space = self.perturbation_set.around(fields, self.protected_fields)
            self._words = _Words(fields)
            self._anchors = [self._words.anchor(site) for site in self._space.sites]
        return self._space

    @property
    def original(self) -> Any:
        """TextAttack's original of the current attempt."""
        return self.goal_function.initial_attacked_text

    def __call__(
        self,
        current_text: Any,
        pre_transformation_constraints: Sequence[Any] = (),
        indices_to_modify: Collection[int] | None = None,
        shifted_idxs: bool = False,
        return_indices: bool = False,
    ) -> list[Any]:
        """Return the texts one edit further, at the words asked for, or the numbers of the words that have edits.

        Args:
            current_text: A text of the set.
            pre_transformation_constraints: TextAttack's, which limit the words.
            indices_to_modify: Words of the original, all of them if None.
            shifted_idxs: Has no bearing here.
            return_indices: Return the words instead.
        """
        space = self.space
        choice = space.choice_of(field_values(current_text))
        allowed = self._allowed(current_text, pre_transformation_constraints)
        wanted = set(self._anchors) if indices_to_modify is None else {int(i) for i in indices_to_modify}
        open_sites = [] if choice is None or len(choice) >= space.edits else self._free(choice)
        sites = [
            s for s in open_sites if self._anchors[s] in wanted and (allowed is None or self._anchors[s] in allowed)
        ]
        if return_indices:
            return sorted({self._anchors[site] for site in sites if self._anchors[site] >= 0})
        assert choice is not None or not sites
        return [
            self.text_of(tuple(sorted([*(choice or ()), (site, option)])), current_text)
            for site in sites
            for option in range(len(space.sites[site].replacements))
        ]

    def _get_transformations(self, current_text: Any, indices_to_modify: Collection[int]) -> list[Any]:
        return self(current_text, indices_to_modify=indices_to_modify)

    def _free(self, choice: Choice) -> list[int]:
        """Return the sites that overlap with none of those edited."""
        space, edited = self.space, [site for site, _ in choice]
        return [
            site
            for site in range(len(space.sites))
            if all(site != e and (space.follows(site, e) or space.follows(e, site)) for e in edited)
        ]

    def _allowed(self, current_text: Any, constraints: Sequence[Any]) -> set[int] | None:
        """Return the words of the original that the constraints let be changed, or None for all."""
        if not constraints:
            return None
        now = set(range(current_text.num_words))
        for constraint in constraints:
            now &= constraint(current_text, self)
        positions = current_text.attack_attrs["original_index_map"]
        return {word for word, position in enumerate(positions) if int(position) in now}

    def text_of(self, choice: Choice, previous: Any) -> Any:
        """Return the text of a choice as TextAttack's, with an account of its changed words.

        Args:
            choice: The choice.
            previous: The text that it was made from.
        """
        space = self.space
        fields, replaced = space.edited(choice)
        positions, changed = self._words.moved(space, choice, _Words(fields), replaced)
        attributes = {
            "previous_attacked_text": previous,
            "last_transformation": self,
            "modified_indices": changed,
            "newly_modified_indices": changed - previous.attack_attrs["modified_indices"],
            "original_index_map": positions,
        }
        return AttackedText(OrderedDict(fields), attack_attrs=attributes)

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of this transformation."""
        return ["perturbation_set", "protected_fields"]


class _Words:
    """The words of a text with several fields, numbered through as TextAttack does."""

    def __init__(self, fields: Any) -> None:
        self.spans = [(name, start, end) for name, text in fields.items() for start, end in word_spans(text)]

    def anchor(self, site: Site) -> int:
        """Return the word that a site belongs to, -1 where the field has no word before or in it."""
        inside = [
            i for i, (name, s, e) in enumerate(self.spans) if name == site.field and s < site.end and e > site.start
        ]
        before = [i for i, (name, s, _) in enumerate(self.spans) if name == site.field and s < max(site.start, 1)]
        return inside[0] if inside else before[-1] if before else -1

    def moved(self, space: Space, choice: Choice, edited: _Words, replaced: Sequence[Replaced]) -> tuple[Any, set[int]]:
        """Return where this text's words are in an edited one (-1 where gone), and the words changed there."""
        at = {(name, start): number for number, (name, start, _) in enumerate(edited.spans)}
        inside = [
            [i for i, (name, s, e) in enumerate(edited.spans) if name == r.field and s < r.end and e > r.start]
            for r in replaced
        ]
        positions = np.full(len(self.spans), -1)
        for word, (name, start, end) in enumerate(self.spans):
            shift, gone = 0, False
            for number, ((site_number, _), edit) in enumerate(zip(choice, replaced, strict=True)):
                site = space.sites[site_number]
                if site.field != name:
                    continue
                if start < site.end and end > site.start:
                    gone = True
                    if inside[number] and self.anchor(site) == word:
                        positions[word] = inside[number][0]
                elif site.end <= start:
                    shift += (edit.end - edit.start) - (site.end - site.start)
            if not gone:
                positions[word] = at.get((name, start + shift), -1)
        return positions, {word for words in inside for word in words}


class GreedyOnSet(GreedyWordSwapWIR):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's greedy search over importance-ranked words, on a set; other searches find the set here.

    Args:
        edits: The set as a transformation.
        max_texts: Choices above which an exact search refuses a text.
    """

    def __init__(self, edits: SetEdits, max_texts: int) -> None:
        super().__init__()
        self.edits = edits
        self.max_texts = max_texts
