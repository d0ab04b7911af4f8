from __future__ import annotations

import math

import pytest

from robustexit.measures import Estimate
from robustexit.reports.formats import number, p_value, show, signed
from robustexit.reports.model import Change, Label, Withheld


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.625, "%", "62.5"),
        (-0.085, "points", "−8.5"),
        (-0.0001, "points", "0.0"),
        (2.0, "x", "2.00×"),
        (1234.0, "count", "1,234"),
        (12.5, "count", "12.5"),
        (1.25e9, "MACs", "1.25 G"),
        (0.0, "MACs", "0"),
        (math.nan, "%", "–"),
        (math.inf, "x", "–"),
    ],
)
def test_number(value, unit, text):
    assert number(value, unit) == text


def test_signed():
    assert (signed(0.01, "points"), signed(0.0, "points"), signed(-0.01, "points")) == ("+1.0", "0.0", "−1.0")


@pytest.mark.parametrize(("p", "text"), [(0.0001, "< .001"), (0.0312, ".031"), (1.0, "1"), (math.nan, "–")])
def test_p_value(p, text):
    assert p_value(p) == text


def test_show():
    assert show(Estimate(0.5, 0.4, 0.6, 9, (0.3, 0.7)), "%").interval == "[40.0, 60.0]"
    assert show(Estimate(0.5, 0.4, 0.6, 9, (0.3, 0.7)), "%").remark == "30.0 to 70.0 with errors"
    assert show(Change(Estimate(2.0), Estimate(1.5)), "x").main == "2.00× → 1.50×"
    assert show(Withheld("because")).main == "withheld: because"
    assert show(Label("a", "b")).remark == "b"
    assert show(None).main == "–"
