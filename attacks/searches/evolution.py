"""Differential evolution that ends at the goal and keeps fields apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Any, Final

import numpy as np

from robustexit.attacks.fields import field_texts
from robustexit.attacks.textattack_api import (
    AttackedText,
    DifferentialEvolution,
    GoalFunctionResultStatus,
    WordSwapDifferentialEvolution,
)

_SEPARATOR: Final = "\x1f"
_ISOLATE: Final = "\u2066"


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
        fields = zip(text.column_labels, field_texts(text), strict=True)
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
        changed = OrderedDict(zip(current_text.column_labels, field_texts(current_text), strict=True))
        changed.update(zip(fields, parts, strict=True))
        return AttackedText(changed, attack_attrs={"last_transformation": self.inner})

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of this transformation."""
        return ["inner", "protected_fields"]
