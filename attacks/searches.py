"""What TextAttack's parts need to work here: goals that end a search, fields kept apart, candidates counted."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from robustexit.attacks.textattack_api import (
    Attack,
    AttackedText,
    DifferentialEvolution,
    GoalFunctionResultStatus,
    WordSwapDifferentialEvolution,
    WordSwapHomoglyphSwap,
)

_SEPARATOR: Final = "\x1f"
_ISOLATE: Final = "\u2066"


class CountingAttack(Attack):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's attack, counting the candidates that enter and leave its constraints.

    Attributes:
        candidates: Candidates that transformations proposed in this attempt.
        candidates_kept: Those that every constraint let through.
    """

    candidates: int = 0
    candidates_kept: int = 0

    def begin(self) -> None:
        """Start a new attempt with empty caches and counts."""
        self.clear_cache()
        self.candidates = 0
        self.candidates_kept = 0

    def filter_transformations(
        self, transformed_texts: Sequence[Any], current_text: Any, original_text: Any = None
    ) -> list[Any]:
        """Filter as TextAttack does, and count."""
        kept: list[Any] = super().filter_transformations(transformed_texts, current_text, original_text)
        self.candidates += len(transformed_texts)
        self.candidates_kept += len(kept)
        return kept


class _GoalMet(Exception):  # noqa: N818  # ends a search, no mistake
    def __init__(self, result: Any) -> None:
        super().__init__("goal met")
        self.result = result


class EvolutionUntilMet(DifferentialEvolution):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's differential evolution, ended by the first text that reaches the goal.

    TextAttack's own runs all its generations and returns the highest score, which need not reach the goal even if
    another candidate did, and it fails on a text that offers no place to perturb.
    """

    get_goal_results: Any

    def perform_search(self, initial_result: Any) -> Any:
        """Return the first result that reaches the goal, else the highest score (the original without places)."""
        bounds, _ = self.get_bounds_and_precomputed(initial_result.attacked_text, self.max_perturbs)
        if any(high < 0 for _, high in bounds):
            return initial_result
        query = self.get_goal_results

        def until_met(texts: Sequence[Any]) -> Any:
            results, search_over = query(texts)
            for result in results:
                if result.goal_status == GoalFunctionResultStatus.SUCCEEDED:
                    raise _GoalMet(result)
            return results, search_over

        self.get_goal_results = until_met
        try:
            return super().perform_search(initial_result)
        except _GoalMet as met:
            return met.result
        finally:
            self.get_goal_results = query


class FieldwiseEvolution(WordSwapDifferentialEvolution):  # type: ignore[misc]  # TextAttack is untyped
    """Lets a transformation for differential evolution perturb inputs of several named fields.

    TextAttack's join all fields into one text and lose their names. Here the open fields are joined for the
    transformation and taken apart again; protected fields never reach it.

    Args:
        inner: TextAttack's transformation.
        protected_fields: Names of the fields that stay as they are.
    """

    def __init__(self, inner: Any, protected_fields: Collection[str] = ()) -> None:
        super().__init__()
        self.inner = inner
        self.protected_fields = frozenset(protected_fields)

    def _open_fields(self, text: Any) -> OrderedDict[str, str]:
        fields = zip(text.column_labels, _field_texts(text), strict=True)
        return OrderedDict((name, value) for name, value in fields if name not in self.protected_fields)

    def get_bounds_and_precomputed(self, current_text: Any, max_perturbs: int) -> Any:
        """Return bounds and tables of the inner transformation over the open fields.

        Raises:
            ValueError: A field holds the separator, the control character U+001F.
        """
        values = self._open_fields(current_text).values()
        if any(_SEPARATOR in value for value in values):
            raise ValueError("the text holds the control character U+001F; remove it to attack this example")
        return self.inner.get_bounds_and_precomputed(AttackedText(_SEPARATOR.join(values)), max_perturbs)

    def apply_perturbation(self, current_text: Any, perturbation_vector: Any, precomputed: Any) -> Any:
        """Return the perturbed input; the unchanged one where a perturbation would cross from field to field."""
        fields = self._open_fields(current_text)
        vector = np.array(perturbation_vector)  # a copy: one of TextAttack's transformations writes into it
        if np.isnan(vector).any():  # the optimiser's last polish, where no candidate had a score
            return current_text
        joined = AttackedText(_SEPARATOR.join(fields.values()))
        perturbed = self.inner.apply_perturbation(joined, vector, precomputed).text
        parts = perturbed.split(_SEPARATOR)
        if len(parts) != len(fields) or _ISOLATE + _SEPARATOR in perturbed:
            return current_text
        changed = OrderedDict(zip(current_text.column_labels, _field_texts(current_text), strict=True))
        changed.update(zip(fields, parts, strict=True))
        return AttackedText(changed, attack_attrs={"last_transformation": self.inner})

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of this transformation."""
        return ["inner", "protected_fields"]


def field_values(text: Any) -> dict[str, str]:
    """Return a TextAttack text as field name -> text, in order."""
    return dict(zip(text.column_labels, _field_texts(text), strict=True))


def _field_texts(text: Any) -> tuple[str, ...]:
    values = text.tokenizer_input
    return (values,) if isinstance(values, str) else tuple(values)


class TableHomoglyphs(WordSwapHomoglyphSwap):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's homoglyph swap with a table from anywhere (the stock class fails: its wheel lacks the file).

    Args:
        table: File in the format of Unicode's intentional.txt.
    """

    def __init__(self, table: Path) -> None:
        WordSwapDifferentialEvolution.__init__(self)
        self.random_one = False
        self.homos_intentional = read_homoglyphs(table)
        self.homos = {character: glyphs[0] for character, glyphs in self.homos_intentional.items()}


def read_homoglyphs(table: Path) -> dict[str, list[str]]:
    """Read a table in the format of Unicode's intentional.txt, by the same positions as TextAttack.

    Args:
        table: UTF-8 file of lines ``code ; code # ( character ~ character ) names``.

    Returns:
        Character -> characters that look like it, in the file's order.
    """
    glyphs: dict[str, list[str]] = {}
    for line in table.read_text(encoding="utf-8-sig").splitlines():
        if line.strip() and not line.startswith("#"):
            shown = line.replace("#*", "#").partition("#")[2]
            if len(shown) > 7:
                glyphs.setdefault(shown[3], []).append(shown[7])
    return glyphs
