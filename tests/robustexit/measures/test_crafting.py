"""Crafting matrices by hand, and who broke what."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustexit.measures import Attempts, measure_named
from robustexit.measures.crafting import crafted_exit


def test_goals_that_attack_one_exit():
    assert [crafted_exit(goal) for goal in ("exit(k=3)", "exit(k=12)", "deployed", "exit<=2")] == [3, 12, None, None]


def matrix(*frames):
    table = measure_named("crafting_matrix")(Attempts.of(pd.concat(frames, ignore_index=True)))
    return table.set_index(["crafted", "exit"])


def test_crafting_matrix_by_hand(cell):
    # Label 1. Both exits right on every original but the last, whose exit 2 is wrong.
    first = cell([(1, [1, 1], 1, [0, 0], 1), (1, [1, 1], 1, [0, 1], 1), (1, [1, 0], 1, [0, 0], 1)], goal="exit(k=1)")
    second = cell([(1, [1, 1], 1, [1, 0], 1), (1, [1, 1], 1, [1, 1], 1), (1, [1, 0], 1, [1, 0], 1)], goal="exit(k=2)")
    other = cell([(1, [1, 1], 1, [0, 0], 1)], goal="deployed")
    found = matrix(second, other, first)
    assert list(found.index) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert found.loc[(1, 1), "accuracy"].value == 0
    assert found.loc[(1, 2), "accuracy"].value == pytest.approx(1 / 3)
    assert found.loc[(2, 1), "accuracy"].value == 1
    # Of the two examples that both exits get right and whose texts break exit 1, one breaks exit 2.
    assert (found.loc[(1, 2), "transfer"].value, found.loc[(1, 2), "transfer"].n) == (0.5, 2)
    assert found.loc[(2, 1), "transfer"].value == 0
    assert found.loc[(1, 1), "transfer"].value == found.loc[(2, 2), "transfer"].value == 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1), *[st.integers(0, 1)] * 6), min_size=1, max_size=12))
def test_the_diagonal_transfers_wholly_and_all_lies_in_the_unit_interval(cell, rows):
    made = [(label, clean, 1, attacked, 1) for label, *bits in rows for clean, attacked in [(bits[:3], bits[3:])]]
    found = matrix(*(cell(made, goal=f"exit(k={k})") for k in (1, 2, 3)))
    for (i, j), row in found.iterrows():
        for estimate in (row["accuracy"], row["transfer"]):
            assert not estimate.defined or 0 <= estimate.low <= estimate.value <= estimate.high <= 1
        if i == j and row["transfer"].defined:
            assert row["transfer"].value == 1


def test_who_broke_what(cell):
    rows = [(1, [1, 1], 1, [0, 0], 1)] * 3 + [(1, [1, 1], 1, [1, 1], 1)]
    frame = cell(rows, recipe="worst-case(all)", goal="worst-case").assign(broken_by=["a / x", "b / y", "a / x", None])
    found = measure_named("broken_by")(Attempts.of(frame)).set_index("attack")["broken"]
    assert {name: one.value for name, one in found.items()} == {"a / x": 0.5, "b / y": 0.25}
