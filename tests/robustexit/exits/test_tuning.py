"""How settings are spread over several parameters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from robustexit.exits.tuning import combinations, thinned


def test_short_axes_are_kept_whole() -> None:
    found = list(combinations(40, [1, 2, 3, 4], list(range(100))))
    assert len(found) == 40
    assert {t for t, _ in found} == {1, 2, 3, 4}
    assert {tau for _, tau in found} == set(thinned(range(100), 10))
    assert found[0] == (1, 0)
    assert found[-1] == (4, 99)
    assert list(combinations(10, [1, 2], [])) == []


@given(st.integers(1, 200), st.lists(st.integers(1, 50), min_size=1, max_size=3))
def test_never_more_than_asked_for_and_both_ends_where_there_is_room(most, lengths) -> None:
    axes = [list(range(n)) for n in lengths]
    found = list(combinations(most, *axes))
    assert 1 <= len(found) <= most
    assert len(set(found)) == len(found)
    if most >= 2 ** len(axes):
        assert tuple(n - 1 for n in lengths) in found
        assert tuple(0 for _ in lengths) in found
