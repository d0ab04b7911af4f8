"""A seeded sample of attacked texts, so that a reader sees what the numbers are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from robustexit.measures.attempts import Attempts
from robustexit.reports.context import CellGroup, Context
from robustexit.reports.diffs import word_diff
from robustexit.reports.model import Segment, ShownExample, Side, Step

LIMIT: Final = 40
SEED: Final = 7
KINDS: Final[Mapping[str, str]] = {
    "harmed": "flipped, while exit K of the same weights stays right",
    "rescued": "still right, while exit K of the same weights is fooled",
    "kept, later": "answer kept, but the text leaves later",
    "flipped": "answer flipped",
    "withstood": "answer kept, exit not later",
    "wrong before": "wrong already on the original",
}
"""Kinds of examples and their meaning, in the order in which the sample takes them in turn."""


def sample_examples(context: Context, limit: int = LIMIT) -> tuple[ShownExample, ...]:
    """Draw examples in turn from every kind, cells shuffled by a fixed seed.

    Attempts that were skipped are left out, and so are victims whose results are withheld; full-depth
    victims are shown only where no victim leaves early.
    """
    shown = [cell for cell in context.cells if (cell.dataset, cell.victim.name) not in context.withheld]
    cells = [cell for cell in shown if cell.early] or shown
    generator = np.random.default_rng(SEED)
    pools: dict[str, list[tuple[CellGroup, int]]] = {kind: [] for kind in KINDS}
    for cell in cells:
        for row in np.flatnonzero(~cell.attempts.skipped):
            pools[_kind(cell.attempts, int(row))].append((cell, int(row)))
    queues = [[pool[i] for i in generator.permutation(len(pool))] for pool in pools.values()]
    turns = [
        (kind, queue[i]) for i in range(limit) for kind, queue in zip(KINDS, queues, strict=True) if i < len(queue)
    ]
    chosen = sorted(turns[:limit], key=lambda turn: list(KINDS).index(turn[0]))
    return tuple(_example(context, cell, row, kind) for kind, (cell, row) in chosen)


def _kind(attempts: Attempts, row: int) -> str:
    known = bool(attempts.has_probs[row])
    last_right = bool(attempts.right_by_exit_attacked[row, -1])
    if not attempts.right_clean[row]:
        return "wrong before"
    if not attempts.right_attacked[row]:
        return "harmed" if known and last_right else "flipped"
    if known and not last_right:
        return "rescued"
    return "kept, later" if attempts.shift[row] > 0 else "withstood"


def _example(context: Context, cell: CellGroup, row: int, kind: str) -> ShownExample:
    record = cell.attempts.frame.iloc[row]
    original = fields(record.get("text"))
    final = fields(record.get("text_attacked")) or original
    return ShownExample(
        kind=kind,
        dataset=cell.dataset,
        example_id=str(record["example_id"]),
        victim=cell.victim.name,
        attack=cell.attack,
        label=context.answer_name(cell.dataset, int(record["label"])),
        outcome=str(record["outcome"]),
        num_exits=cell.attempts.num_exits,
        diff={name: _diff(text, final.get(name, "")) for name, text in original.items()},
        before=_side(context, cell, row, "clean"),
        after=_side(context, cell, row, "attacked"),
    )


def _diff(original: str, final: str) -> tuple[Segment, ...]:
    return word_diff(original, final)


def fields(value: Any) -> dict[str, str]:
    """Return a map column's value as a dict; Parquet gives pairs, others give mappings."""
    if isinstance(value, Mapping):
        return {str(key): str(text) for key, text in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return {str(key): str(text) for key, text in value}
    return {}


def _side(context: Context, cell: CellGroup, row: int, side: str) -> Side:
    attempts = cell.attempts
    answer = int(attempts.number(f"pred_{side}")[row])
    taken = int(attempts.number(f"exit_{side}")[row])
    label = int(attempts.label[row])
    probabilities = {"clean": attempts.probs_clean, "attacked": attempts.probs_attacked}[side][row]
    steps: tuple[Step, ...] = ()
    if not np.isnan(probabilities).any():
        steps = tuple(
            Step(
                exit=i,
                layer=layer,
                answer=context.answer_name(cell.dataset, int(p.argmax())),
                confidence=float(p.max()),
                right=int(p.argmax()) == label,
                taken=i == taken,
                reached=i <= taken,
            )
            for i, (layer, p) in enumerate(zip(attempts.layers, probabilities, strict=True), start=1)
        )
    confidence = float(attempts.number(f"confidence_{side}")[row])
    return Side(context.answer_name(cell.dataset, answer), answer == label, taken, confidence, steps)
