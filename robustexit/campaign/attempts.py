"""From one example and one attack to one record, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rapidfuzz.distance import Levenshtein

from robustexit.attacks.attempt import AttemptResult
from robustexit.attacks.ensembles import AnyAttacker
from robustexit.attacks.goals import softmax
from robustexit.campaign.cells import Cell
from robustexit.data.types import Example, Fields
from robustexit.records import COLUMNS
from robustexit.victims.base import Trace, Victim
from robustexit.victims.live import judged, order_seed


def attempt_record(
    cell: Cell, victim: Victim, policy: str, attacker: AnyAttacker, example: Example, protect: tuple[str, ...]
) -> dict[str, Any]:
    """Attack one example and return its record; `similarity` is filled in later, in batches.

    Nothing an example does ends a run: an exception becomes a row with the outcome ``error``.
    """
    row: dict[str, Any] = dict.fromkeys((column.name for column in COLUMNS), None)
    row |= {
        "dataset": cell.dataset,
        "example_id": example.example_id,
        "label": example.label,
        "victim": cell.victim,
        "policy": policy,
        "defense": "none",
        "recipe": attacker.effective_name,
        "goal": cell.attack.goal_label,
        "view": cell.view,
        "seed": cell.seed,
        "order_seed": order_seed(victim),
        "text": dict(example.fields),
        "num_exits": victim.num_exits,
    }
    result = attacker.attempt(example, dataset=cell.dataset, seed=cell.seed, protected_fields=protect)
    row |= _effort(result)
    if result.outcome == "error":
        return row
    try:
        row |= _evaluation(victim, example, result.text_attacked)
    except Exception as error:  # one bad text is a row, never the end of a run
        row |= {"outcome": "error", "error": f"{type(error).__name__}: {error}"}
    return row


def _effort(result: AttemptResult) -> dict[str, Any]:
    return {
        "outcome": result.outcome,
        "goal_met": result.goal_met,
        "text_attacked": dict(result.text_attacked),
        "queries": result.queries,
        "forwards": result.forwards,
        "layer_forwards": result.layer_forwards,
        "candidates": result.candidates,
        "candidates_kept": result.candidates_kept,
        "words_changed": result.words_changed,
        "words_total": result.words_total,
        "seconds": result.seconds,
        "error": result.error,
        "broken_by": result.broken_by,
    }


def _evaluation(victim: Victim, example: Example, attacked: Fields) -> dict[str, Any]:
    """Run every exit on the original and on the final text, and compare; a learning victim does not learn from it."""
    clean, final = judged(victim, [example.fields, attacked], min_depth=victim.num_exits)
    return {
        **side_columns("clean", clean),
        **side_columns("attacked", final),
        "flipped": clean.answer == example.label and final.answer != example.label,
        "slower": final.exit > clean.exit,
        "truncated": clean.truncated or final.truncated,
        "char_edits": sum(Levenshtein.distance(text, attacked[key]) for key, text in example.fields.items()),
    }


def side_columns(side: str, trace: Trace) -> dict[str, Any]:
    """Return the record's columns of one side, ``clean`` or ``attacked``, from a trace of every exit."""
    return {
        f"pred_{side}": trace.answer,
        f"exit_{side}": trace.exit,
        f"probs_{side}": softmax(trace.logits).tolist(),
        f"confidence_{side}": float(trace.probabilities.max()),
        f"cost_{side}": trace.cost,
        f"tokens_{side}": trace.tokens,
        f"macs_{side}": trace.macs,
    }


def fill_similarity(rows: Sequence[dict[str, Any]], encoder: Any) -> None:
    """Fill the similarity of finished rows in place; rows without a final text stay empty."""
    finished = [row for row in rows if row["text_attacked"] is not None and row["outcome"] != "error"]
    if encoder is None or not finished:
        return
    values = encoder.similarity([row["text"] for row in finished], [row["text_attacked"] for row in finished])
    for row, value in zip(finished, values, strict=True):
        row["similarity"] = value
