"""The transfer matrix, by hand."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from robustexit.errors import DataError
from robustexit.measures.statistics import wilson
from robustexit.measures.transfer import as_matrix, transfer_matrix, transferred_recipe


def row(example: str, victim: str, clean: int, attacked: int, exits: tuple[int, int] = (1, 1), **changes: Any) -> dict:
    base = {
        "dataset": "d",
        "example_id": example,
        "label": 1,
        "victim": victim,
        "recipe": "pwws",
        "goal": "deployed",
        "view": "scores",
        "seed": 0,
        "outcome": "failed",
        "crafted_on": None,
        "pred_clean": clean,
        "pred_attacked": attacked,
        "exit_clean": exits[0],
        "exit_attacked": exits[1],
    }
    return {**base, **changes}


SOURCE = pd.DataFrame(
    [
        row("a", "s", 1, 0, (1, 3)),  # broken, slower
        row("b", "s", 1, 0, (2, 2)),  # broken
        row("c", "s", 1, 1, (1, 2)),  # withstood, slower
        row("d", "s", 0, 0),  # wrong before
        row("e", "s", 1, 0),  # broken
        row("a", "other", 1, 1),
    ]
)
ON_S = {"recipe": "pwws@s", "crafted_on": "s"}
MOVED = pd.DataFrame(
    [
        row("a", "t", 1, 0, (1, 2), **ON_S),
        row("b", "t", 1, 1, **ON_S),
        row("c", "t", 1, 0, (2, 2), **ON_S),
        row("d", "t", 1, 1, **ON_S),
        row("e", "t", 0, 0, **ON_S),  # the target is wrong already
        *(
            {**one, "recipe": "pwws@s", "crafted_on": None}
            for one in SOURCE[SOURCE["victim"] == "s"].to_dict("records")
        ),
    ]
)


def cell(frame: pd.DataFrame, victim: str) -> dict[str, Any]:
    (found,) = frame[frame["victim"] == victim].to_dict("records")
    return found


def test_by_hand() -> None:
    found = transfer_matrix(MOVED, SOURCE)
    assert list(found["recipe"]) == ["pwws", "pwws"]
    assert list(found["crafted_on"]) == ["s", "s"]
    on_t = cell(found, "t")
    assert on_t["n"] == 5
    assert on_t["accuracy"].value == pytest.approx(2 / 5)
    assert (on_t["accuracy"].low, on_t["accuracy"].high) == pytest.approx(wilson(2, 5))
    assert on_t["transfer_rate"].n == 2  # a and b: right on both originals, broken at the source
    assert on_t["transfer_rate"].value == pytest.approx(1 / 2)
    assert (on_t["transfer_rate"].low, on_t["transfer_rate"].high) == pytest.approx(wilson(1, 2))
    assert on_t["slowdown_rate"].n == 2  # a and c left the source later
    assert on_t["slowdown_rate"].value == pytest.approx(1 / 2)


def test_the_diagonal_is_the_attack_itself() -> None:
    own = cell(transfer_matrix(MOVED, SOURCE), "s")
    assert own["accuracy"].value == pytest.approx(1 / 5)
    assert own["transfer_rate"].value == 1
    assert own["transfer_rate"].n == 3
    assert own["slowdown_rate"].value == 1


def test_errors_are_left_out_and_seeds_pooled() -> None:
    second = [{**one, "seed": 1} for one in MOVED.to_dict("records")]
    source = pd.concat([SOURCE, SOURCE.assign(seed=1)])
    failed = [{**second[0], "seed": 2, "outcome": "error"}]
    found = cell(transfer_matrix(pd.DataFrame([*MOVED.to_dict("records"), *second, *failed]), source), "t")
    assert found["n"] == 10
    assert found["transfer_rate"].n == 4
    assert found["accuracy"].value == pytest.approx(2 / 5)


def test_a_victim_of_another_run_with_the_same_name() -> None:
    named = MOVED[MOVED["victim"] == "t"].assign(victim="s", crafted_on="run/s", recipe="pwws@run/s")
    found = cell(transfer_matrix(named, SOURCE), "s")
    assert found["crafted_on"] == "run/s"
    assert found["transfer_rate"].n == 2


def test_without_the_source_rates_are_undefined() -> None:
    found = cell(transfer_matrix(MOVED, SOURCE.iloc[:0]), "t")
    assert found["accuracy"].defined
    assert not found["transfer_rate"].defined


def test_as_a_matrix() -> None:
    table = as_matrix(transfer_matrix(MOVED, SOURCE))
    assert list(table.index) == ["s"]
    assert list(table.columns) == ["s", "t"]
    assert table.loc["s", "t"].value == pytest.approx(2 / 5)
    two = pd.concat([MOVED, MOVED.assign(goal="final")])
    with pytest.raises(DataError, match="one dataset and attack"):
        as_matrix(transfer_matrix(two, SOURCE))


def test_nothing_to_measure() -> None:
    with pytest.raises(DataError, match="robustexit transfer"):
        transfer_matrix(MOVED.iloc[:0], SOURCE)


def test_the_name_says_whose_texts_they_are_once() -> None:
    assert transferred_recipe("pwws", "s") == "pwws@s"
    assert transferred_recipe("pwws@s", "t") == "pwws@s"
