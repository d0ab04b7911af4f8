from __future__ import annotations

import math

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robustexit.errors import DataError
from robustexit.measures import adjusted, compare, worst_case

VERDICTS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=15)


def two(many, verdicts, **columns):
    """Two victims with the given (victim, control) verdicts."""
    tables = []
    for side, name in enumerate(("v", "control")):
        frame = many(len(verdicts), victim=name, **columns)
        wrong = [not verdict[side] for verdict in verdicts]
        frame["pred_attacked"] = frame["label"].where(~pd.Series(wrong), 1 - frame["label"])
        tables.append(frame)
    return tables


def test_discordant_counts_by_hand(many):
    found = compare(*two(many, [(True, True)] * 10 + [(True, False)] + [(False, True)] * 8 + [(False, False)] * 2))
    assert (found.both, found.only_victim, found.only_control, found.neither, found.n) == (10, 1, 8, 2, 21)
    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.difference.value == pytest.approx(-7 / 21)
    assert found.difference.excludes_zero()
    assert found.clean_difference.value == 0 and not found.clean_difference.excludes_zero()


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verdicts=VERDICTS)
def test_differences_are_antisymmetric(many, verdicts):
    victim, control = two(many, verdicts)
    there, back = compare(victim, control), compare(control, victim)
    assert there.difference.value == pytest.approx(-back.difference.value)
    assert there.difference.low == pytest.approx(-back.difference.high)
    assert there.p_value == back.p_value
    assert (there.only_victim, there.only_control) == (back.only_control, back.only_victim)
    assert -1 <= there.difference.low <= there.difference.high <= 1


def test_no_discordant_example_still_has_an_interval(many):
    found = compare(*two(many, [(True, True)] * 20))
    assert found.difference.value == 0
    assert found.difference.low == -found.difference.high < 0
    assert found.p_value == 1


def test_worst_case_over_attacks(many):
    first = two(many, [(True, True), (False, True), (True, True)])
    second = two(many, [(False, True), (True, True), (True, True)], recipe="other")
    found = compare(*(pd.concat(tables) for tables in zip(first, second, strict=True)))
    assert len(found.attacks) == 2
    assert (found.both, found.only_control) == (1, 2)
    assert worst_case(pd.concat([first[0], second[0]])).tolist() == [False, False, True]


def test_only_shared_examples_and_attacks_count(many):
    victim, control = two(many, [(True, True)] * 6)
    extra = victim.assign(goal="slowdown-uniform", pred_attacked=1 - victim["label"])
    control.loc[0, "outcome"] = "error"
    found = compare(pd.concat([victim, extra]), control)
    assert (found.n, found.both, found.unmatched) == (5, 5, 1)
    assert [attack[1] for attack in found.attacks] == ["deployed"]


def test_nothing_shared_is_said_not_raised(many):
    victim, control = two(many, [(True, True)] * 3)
    found = compare(victim, control.assign(recipe="other"))
    assert found.n == 0 and found.attacks == () and math.isnan(found.p_value)
    assert not found.difference.defined
    found = compare(victim, control.assign(outcome="error"))
    assert found.n == 0 and found.unmatched == 3


def test_several_victims_at_once_are_refused(many):
    victim, control = two(many, [(True, True)] * 3)
    with pytest.raises(DataError, match="one dataset and victim"):
        compare(pd.concat([victim, control]), control)
    with pytest.raises(DataError, match="expected one dataset"):
        compare(victim, control.assign(dataset="other"))


def test_holm_over_the_family(many):
    strong = compare(*two(many, [(False, True)] * 12 + [(True, True)] * 8))
    weak = compare(*two(many, [(False, True)] * 6 + [(True, True)] * 14))
    nothing = compare(many(3, victim="v"), many(3, victim="control", recipe="other"))
    family = adjusted([weak, nothing, strong])
    assert family[2].p_holm == pytest.approx(2 * strong.p_value)
    assert family[0].p_holm == pytest.approx(max(weak.p_value, 2 * strong.p_value))
    assert math.isnan(family[1].p_holm)
