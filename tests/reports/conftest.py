"""Synthetic runs for the report tests: records as a campaign would write them, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest

WORDS = tuple("a gripping and funny film whose second half loses its way but the cast carries it with nerve".split())  # noqa: SIM905


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponent = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return exponent / exponent.sum(axis=-1, keepdims=True)


def _text(generator: np.random.Generator, fields: tuple[str, ...]) -> dict[str, str]:
    return {name: " ".join(generator.choice(WORDS, size=generator.integers(8, 30))) for name in fields}


def _leave(probs: np.ndarray, threshold: float | None) -> int:
    if threshold is None:
        return len(probs)
    sure = np.flatnonzero(probs.max(axis=1) >= threshold)
    return int(sure[0]) + 1 if len(sure) else len(probs)


def _side(probs: np.ndarray, taken: int, tokens: int, exits: int) -> dict[str, Any]:
    macs = tokens * 1_000_000 * taken
    return {
        "pred": int(probs[taken - 1].argmax()),
        "exit": taken,
        "probs": probs.astype(np.float32).tolist(),
        "confidence": float(probs[taken - 1].max()),
        "cost": taken / exits,
        "tokens": tokens,
        "macs": macs,
    }


def _row(
    key: Mapping[str, Any], index: int, exits: int, classes: int, threshold: float | None, strength: float
) -> dict[str, Any]:
    generator = np.random.default_rng([index, key["seed"], sum(map(ord, key["dataset"]))])
    label = int(generator.integers(classes))
    skill = generator.normal(1.3, 0.9)
    scores = generator.normal(0, 0.7, size=(exits, classes))
    scores[:, label] += np.linspace(0.8, 1.6, exits) * skill
    moved = scores + generator.normal(0, 0.8, size=scores.shape)
    moved[:, label] -= strength * generator.gamma(2.0, 0.7)
    text = _text(generator, key["fields"])
    tokens = sum(len(value.split()) for value in text.values()) + 2
    clean, attacked = _softmax(scores), _softmax(moved)
    before = _side(clean, _leave(clean, threshold), tokens, exits)
    after = _side(attacked, _leave(attacked, threshold), tokens + int(generator.integers(0, 4)), exits)
    right = before["pred"] == label
    slowdown = key["goal"].startswith("slowdown")
    met = after["exit"] == exits if slowdown else after["pred"] != label
    skipped = before["exit"] == exits if slowdown else not right
    first = next(iter(text))
    changed = text | {first: " ".join(_swap(generator, word) for word in text[first].split())}
    if skipped:
        after, changed = before, text
    return {
        **{name: key[name] for name in ("dataset", "victim", "policy", "recipe", "goal", "view", "seed")},
        "defense": "none",
        "example_id": f"{key['dataset']}-{index:04d}",
        "label": label,
        "outcome": "skipped" if skipped else "succeeded" if met else "failed",
        "goal_met": bool(met or skipped),
        "flipped": bool(right and after["pred"] != label),
        "slower": after["exit"] > before["exit"],
        "text": text,
        "text_attacked": changed,
        **{f"{name}_clean": value for name, value in before.items()},
        **{f"{name}_attacked": value for name, value in after.items()},
        "num_exits": exits,
        "truncated": False,
        "queries": 1 if skipped else int(generator.integers(20, 200)),
        "forwards": 1 if skipped else int(generator.integers(15, 150)),
        "layer_forwards": 1 if skipped else int(generator.integers(60, 600)),
        "words_changed": sum(a != b for a, b in zip(text[first].split(), changed[first].split(), strict=True)),
        "words_total": sum(len(value.split()) for value in text.values()),
        "char_edits": int(generator.integers(1, 20)),
        "similarity": float(generator.uniform(0.7, 0.99)),
        "seconds": 0.1,
        "error": None,
    }


def _swap(generator: np.random.Generator, word: str) -> str:
    draw = generator.uniform()
    if draw < 0.06:
        return word[:1] + "\u200b" + word[1:]
    if draw < 0.12:
        return word.replace("a", "\u0430").replace("e", "\u0435")
    return word[::-1] if draw < 0.2 else word


@pytest.fixture(scope="session")
def make_cell() -> Callable[..., pd.DataFrame]:
    """A function that makes the records of one cell."""

    def make(
        victim: str = "early",
        policy: str = "max_probability(t=0.8)",
        threshold: float | None = 0.8,
        *,
        n: int = 60,
        exits: int = 6,
        classes: int = 2,
        strength: float = 1.0,
        **key: Any,
    ) -> pd.DataFrame:
        full = {
            "dataset": "reviews",
            "recipe": "textfooler",
            "goal": "deployed",
            "view": "scores",
            "seed": 0,
            "fields": ("text",),
            **key,
            "victim": victim,
            "policy": policy,
        }
        return pd.DataFrame([_row(full, i, exits, classes, threshold, strength) for i in range(n)])

    return make


@pytest.fixture
def manifest() -> dict[str, Any]:
    """A manifest that says everything."""
    return {
        "schema_version": 1,
        "campaign": {"name": "films"},
        "versions": {"robustexit": "0.1.0", "torch": "2.13"},
        "git": {"commit": "abc", "dirty": False},
        "machine": {"cpu": "a processor", "threads": 1},
        "datasets": {
            "reviews": {
                "labels": ["negative", "positive"],
                "synthetic": True,
                "hash": "d" * 64,
                "n": 60,
                "source": "generated",
                "notes": ["made for tests"],
                "majority_rate": 0.5,
            }
        },
        "victims": {
            "early": {
                "model": "tiny",
                "policy": "max_probability(t=0.8)",
                "exit_layers": [2, 4, 6, 8, 10, 12],
                "num_exits": 6,
                "full_depth": False,
                "full_depth_of_same_weights": "full",
                "calibrations": {"reviews": {"target": "2x", "reached_speedup": 2.05, "n": 400}},
            },
            "full": {"model": "tiny", "exit_layers": [2, 4, 6, 8, 10, 12], "num_exits": 6, "full_depth": True},
        },
        "recipes": {"textfooler": {"citation": "Jin et al. 2020", "url": "https://arxiv.org/abs/1907.11932"}},
        "dropped_cells": [
            {
                "dataset": "reviews",
                "victim": "full",
                "goal": "slowdown-uniform",
                "reason": "the victim never leaves early",
            }
        ],
    }


@pytest.fixture
def pair(make_cell: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """An early-exit victim and its control under one attack."""
    return pd.concat([make_cell(), make_cell("full", "fixed(k=6)", None)], ignore_index=True)


@pytest.fixture
def many(make_cell: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    """Three victims, two recipes, two goals."""
    victims = [
        ("early", "max_probability(t=0.8)", 0.8),
        ("entropy", "entropy(t=0.31234567)", 0.7),
        ("full", "fixed(k=6)", None),
    ]
    cells = [
        make_cell(name, policy, threshold, recipe=recipe, goal=goal, n=40, strength=strength)
        for recipe, strength in (("textfooler", 1.0), ("deepwordbug+minilm", 0.6))
        for goal in ("deployed", "slowdown-uniform")
        for name, policy, threshold in victims
        if not (name == "full" and goal.startswith("slowdown"))
    ]
    return pd.concat(cells, ignore_index=True)
