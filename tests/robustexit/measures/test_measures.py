from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustexit.errors import ConfigError, DataError
from robustexit.measures import MEASURES, Attempts, Estimate, document, measure_named
from robustexit.measures.statistics import holm, mcnemar, wilson

ROOT = Path(__file__).parents[3]

# label, answers by exit on x, exit taken, answers by exit on x', exit taken
FOUR = [
    (1, [1, 1, 1], 1, [0, 1, 1], 1),  # flipped early, exit K right: harmed
    (1, [1, 1, 1], 1, [0, 1, 0], 2),  # kept, later, exit K wrong: rescued
    (0, [0, 0, 0], 2, [0, 0, 0], 2),  # kept, same
    (0, [1, 1, 0], 2, [1, 1, 0], 2),  # wrong before: skipped
]

ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.lists(st.integers(0, 1), min_size=4, max_size=4),
        st.integers(1, 4),
        st.lists(st.integers(0, 1), min_size=4, max_size=4),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=12,
)
QUICK = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def value(name: str, frame: pd.DataFrame) -> float:
    return measure_named(name)(frame).value


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("evaluated", 4),
        ("skipped", 1),
        ("errors", 0),
        ("clean_accuracy", 3 / 4),
        ("robust_accuracy", 2 / 4),
        ("goal_success", 1 / 3),
        ("answer_success", 1 / 3),
        ("queries_mean", 20),
        ("queries_median", 20),
        ("forwards_mean", 5),
        ("layer_forwards_mean", 20),
        ("words_changed", 1 / 4),
        ("char_edits", 3),
        ("similarity", 0.5),
        ("exit_clean", 1.5),
        ("exit_attacked", 1.75),
        ("shift_mean", 0.25),
        ("shift_median", 0),
        ("later", 1 / 4),
        ("earlier", 0),
        ("at_last_exit", 0),
        ("wasserstein", 0.25),
        ("confidence_clean", 0.9),
        ("confidence_attacked", 0.9),
        ("calibration_error_clean", 0.15),
        ("calibration_error_attacked", 0.4),
        ("speedup_clean", 2),
        ("speedup_attacked", 12 / 7),
        ("efficiency_lost", (2 - 12 / 7) / 1),
        ("macs_clean", 900),
        ("macs_attacked", 1225),
        ("cost_inflation", 1225 / 900),
        ("inflation_depth", 7 / 6),
        ("inflation_length", 7 / 6),
        ("efficacy_clean", 1 - (1.5 - 0.5) / 3),
        ("efficacy_attacked", 1 - (1.75 - 0.5) / 3),
        ("rescued", 1 / 4),
        ("harmed", 2 / 4),
        ("net_rescued", -1 / 4),
        ("transfer_to_last", 0),
        ("transfer_to_deployed", 0),
        ("wasteful_clean", 3 / 4),
        ("wasteful_attacked", 2 / 4),
        ("destructive_clean", 0),
        ("destructive_attacked", 1 / 4),
    ],
)
def test_hand_computed(cell, name, expected):
    assert value(name, cell(FOUR)) == pytest.approx(expected, rel=1e-6)


def test_every_measure_has_a_hand_computed_case():
    marks = test_hand_computed.pytestmark[0].args[1]
    assert {name for name, _ in marks} == {measure.name for measure in MEASURES}


def test_wasserstein_counts_layers(cell):
    moved = Attempts.of(cell(FOUR), exit_layers=[4, 8, 12])
    assert measure_named("wasserstein")(moved).value == pytest.approx(1.0)


def test_tables(cell):
    frame = cell(FOUR)
    matrix = measure_named("transitions")(frame)
    assert matrix.loc[1, 1] == matrix.loc[1, 2] == 0.25
    assert matrix.loc[2, 2] == 0.5
    shares = measure_named("exit_shares")(frame)
    assert shares["attacked"].tolist() == [0.25, 0.75, 0.0]
    accuracy = measure_named("accuracy_by_exit")(frame)
    assert [e.value for e in accuracy["clean"]] == [0.75, 0.75, 1.0]
    assert [e.value for e in accuracy["attacked"]] == [0.25, 0.75, 0.75]
    table = measure_named("quadrants")(frame).set_index(["answer", "exit"])["count"]
    assert table.to_dict() == {
        ("kept", "earlier"): 0,
        ("kept", "same"): 1,
        ("kept", "later"): 1,
        ("flipped", "earlier"): 0,
        ("flipped", "same"): 1,
        ("flipped", "later"): 0,
    }


@QUICK
@given(rows=ROWS)
def test_identities_hold_for_any_cell(cell, rows):
    frame = cell(rows)
    attempts = Attempts.of(frame)
    assert measure_named("transitions")(attempts).to_numpy().sum() == pytest.approx(1)
    assert attempts.right_attacked.mean() - attempts.right_by_exit_attacked[:, -1].mean() == pytest.approx(
        value("rescued", frame) - value("harmed", frame)
    )
    whole = value("inflation_depth", frame) * value("inflation_length", frame)
    assert value("cost_inflation", frame) == pytest.approx(whole)
    for side in ("clean", "attacked"):
        expected = 1 - (value(f"exit_{side}", frame) - 0.5) / 4
        assert value(f"efficacy_{side}", frame) == pytest.approx(expected)
    quadrants = measure_named("quadrants")(attempts)
    if attempts.right_clean.any():
        assert sum(e.value for e in quadrants["share"]) == pytest.approx(1)
    parts = attempts.by_outcome()
    assert sum(len(part) for name, part in parts.items() if name != "all") == len(attempts)


@QUICK
@given(rows=ROWS)
def test_shares_and_their_intervals_stay_inside(cell, rows):
    attempts = Attempts.of(cell(rows))
    for measure in MEASURES:
        found = measure(attempts)
        if measure.unit == "%" and measure.name != "efficiency_lost" and found.defined:
            assert 0 <= found.value <= 1 + 1e-9
        if found.low is not None:
            slack = 1e-6 * max(1.0, abs(found.value))
            assert found.low - slack <= found.high + slack
            if measure.unit == "%" and measure.name != "efficiency_lost":
                assert -slack <= found.low and found.high <= 1 + slack


def test_unequal_layer_costs_by_hand(cell):
    frame = cell([(0, [0, 0], 1, [0, 0], 2), (0, [0, 0], 2, [0, 0], 2)])
    frame["cost_clean"] = [0.2, 1.0]
    frame["cost_attacked"] = [1.0, 1.0]
    # F = (1/2, 1) at c = (.2, 1): trapezoids .25 * .2 + .75 * .8
    assert value("efficacy_clean", frame) == pytest.approx(0.25 * 0.2 + 0.75 * 0.8)
    assert value("efficacy_attacked", frame) == pytest.approx(0.5 * 0.8)


def test_errors_leave_the_denominator_and_give_both_bounds(cell):
    frame = cell(FOUR)
    broken = frame.iloc[:1].assign(
        example_id="broken", outcome="error", pred_clean=None, exit_clean=None, num_exits=None
    )
    both = pd.concat([frame, broken], ignore_index=True)
    found = measure_named("robust_accuracy")(both)
    assert (found.value, found.n, found.bounds) == (0.5, 4, (2 / 5, 3 / 5))
    assert value("errors", both) == 1
    nothing = measure_named("robust_accuracy")(broken)
    assert math.isnan(nothing.value) and nothing.low is None and nothing.bounds == (0, 1)


def test_rows_without_an_attacked_text_stand_with_their_original(cell):
    frame = cell(FOUR)
    for name in ("pred", "exit", "probs", "confidence", "cost", "macs"):
        frame[f"{name}_attacked"] = frame[f"{name}_attacked"].astype(object).where(frame["outcome"] != "skipped", None)
    assert value("robust_accuracy", frame) == 0.5
    assert value("exit_attacked", frame) == 1.75
    assert value("harmed", frame) == 0.5


def test_missing_probabilities_leave_the_depth_side(cell):
    frame = cell(FOUR)
    frame["probs_attacked"] = None
    assert math.isnan(value("rescued", frame))
    assert value("robust_accuracy", frame) == 0.5
    frame = cell(FOUR)
    frame.at[3, "probs_clean"] = [[0.5, 0.5]]
    assert measure_named("rescued")(frame).n == 3


def test_missing_similarity_is_undefined(cell):
    assert math.isnan(value("similarity", cell(FOUR, similarity=None)))
    assert math.isnan(value("similarity", cell(FOUR).drop(columns="similarity")))


def test_several_rows_of_an_example_are_drawn_together(many):
    frame = many(40)
    frame.loc[:9, "pred_attacked"] = 1 - frame.loc[:9, "label"]
    twice = pd.concat([frame, frame.assign(seed=1)], ignore_index=True)
    once, pooled = measure_named("shift_mean")(frame), measure_named("shift_mean")(twice)
    assert (once.low, once.high) == (pooled.low, pooled.high)
    one, two = measure_named("robust_accuracy")(frame), measure_named("robust_accuracy")(twice)
    assert one.value == two.value and two.n == 80
    # Doubling the rows must not narrow the interval as 80 independent examples would.
    assert two.high - two.low > 0.9 * (one.high - one.low)


def test_same_records_same_interval(cell):
    first, second = (measure_named("shift_mean")(cell(FOUR * 5)) for _ in range(2))
    assert first == second


def test_records_of_several_victims_are_refused(cell):
    mixed = pd.concat([cell(FOUR), cell([(0, [0, 0], 1, [0, 0], 1)])])
    with pytest.raises(DataError, match=r"victims with \[2, 3\] exits; split by victim"):
        measure_named("robust_accuracy")(mixed)
    with pytest.raises(DataError, match="without exit_clean"):
        measure_named("robust_accuracy")(cell(FOUR).drop(columns="exit_clean"))
    with pytest.raises(DataError, match="run the campaign again"):
        measure_named("robust_accuracy")(cell(FOUR, pred_clean=None))


def test_unknown_measure_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'robust_accuracy'"):
        measure_named("robust_acuracy")


def test_wilson_and_mcnemar_against_known_numbers():
    low, high = wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 8) == mcnemar(8, 1) == pytest.approx(2 * (1 + 9) / 2**9)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_and_keeps_order(p):
    adjusted = holm(p)
    assert all(a >= b and a <= 1 for a, b in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_negative_estimate_swaps_its_ends():
    assert -Estimate(0.2, 0.1, 0.4, 9, (0.0, 0.5)) == Estimate(-0.2, -0.4, -0.1, 9, (-0.5, -0.0))


def test_every_definition_says_over_what():
    for measure in MEASURES:
        words = measure.definition
        assert "Denominator" in words or "ver all of D" in words or measure.unit == "count", measure.name


def test_the_documentation_is_the_definitions():
    page = ROOT / "docs" / "measures.md"
    assert page.read_text(encoding="utf-8") == document(), (
        "write it again: python -c \"from robustexit.measures import document; print(document(), end='')\" "
        "> docs/measures.md"
    )


def test_measures_import_without_heavy_libraries():
    heavy = "{'torch', 'altair', 'transformers', 'textattack', 'datasets', 'vl_convert'}"
    code = f"import sys, robustexit.measures; sys.exit(str({heavy} & set(sys.modules) or ''))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""
