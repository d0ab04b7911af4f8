"""Hand-sized cells for the measure tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import pytest


def _one_hot(answer: int, classes: int) -> list[float]:
    return [0.9 if c == answer else 0.1 / (classes - 1) for c in range(classes)]


@pytest.fixture
def cell() -> Callable[..., pd.DataFrame]:
    """A function that makes a cell from per-exit answers: (label, answers on x, exit, answers on x', exit')."""

    def make(rows: Sequence[tuple[int, Sequence[int], int, Sequence[int], int]], **columns: Any) -> pd.DataFrame:
        made = []
        for i, (label, clean, exit_clean, attacked, exit_attacked) in enumerate(rows):
            exits = len(clean)
            skipped = clean[exit_clean - 1] != label
            flipped = not skipped and attacked[exit_attacked - 1] != label
            made.append(
                {
                    "dataset": "d",
                    "example_id": f"e{i}",
                    "label": label,
                    "victim": "v",
                    "policy": "entropy(t=0.3)",
                    "recipe": "r",
                    "goal": "deployed",
                    "view": "scores",
                    "seed": 0,
                    "outcome": "skipped" if skipped else "succeeded" if flipped else "failed",
                    "goal_met": skipped or flipped,
                    "pred_clean": clean[exit_clean - 1],
                    "pred_attacked": attacked[exit_attacked - 1],
                    "exit_clean": exit_clean,
                    "exit_attacked": exit_attacked,
                    "num_exits": exits,
                    "probs_clean": [_one_hot(answer, 2) for answer in clean],
                    "probs_attacked": [_one_hot(answer, 2) for answer in attacked],
                    "confidence_clean": 0.9,
                    "confidence_attacked": 0.9,
                    "cost_clean": exit_clean / exits,
                    "cost_attacked": exit_attacked / exits,
                    "macs_clean": 600 * exit_clean,
                    "macs_attacked": 700 * exit_attacked,
                    "queries": 10 * (i + 1),
                    "forwards": 5,
                    "layer_forwards": 20,
                    "words_changed": 1,
                    "words_total": 4,
                    "char_edits": 3,
                    "similarity": 0.5,
                }
            )
        return pd.DataFrame(made).assign(**columns)

    return make


@pytest.fixture
def many(cell: Callable[..., pd.DataFrame]) -> Callable[..., pd.DataFrame]:
    """A function that makes n good rows of a 3-exit victim leaving at exits 1 and 2, both answers right."""

    def make(n: int = 60, **columns: Any) -> pd.DataFrame:
        return cell([(i % 2, [i % 2] * 3, 1 + i % 2, [i % 2] * 3, 1 + i % 2) for i in range(n)], **columns)

    return make
