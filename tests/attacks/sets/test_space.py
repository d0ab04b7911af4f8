"""Counting, enumerating, recognising and undoing, on sets made up by hypothesis: overlaps, insertions, two fields."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks.sets import Site, Space, revert

LETTERS = st.text("ab ", max_size=3)


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    fields = {name: draw(st.text("ab .", max_size=8)) for name in draw(st.sampled_from([("t",), ("p", "h")]))}
    sites = []
    for name, text in fields.items():
        places = st.tuples(st.integers(0, len(text)), st.integers(0, len(text))).map(sorted)
        for start, end in sorted({tuple(place) for place in draw(st.lists(places, max_size=4))}, key=lambda p: p[::-1]):
            options = draw(st.lists(LETTERS.filter(lambda new: new != text[start:end]), max_size=3, unique=True))  # noqa: B023
            if options:
                sites.append(Site(name, start, end, tuple(options)))
    return Space(fields, tuple(sites), draw(st.integers(1, 3)))


def by_hand(space: Space) -> list[tuple]:
    """Every choice, by trying all subsets of edits and keeping those that do not overlap."""
    from itertools import combinations

    singles = [(s, r) for s, site in enumerate(space.sites) for r in range(len(site.replacements))]
    kept = []
    for number in range(space.edits + 1):
        for chosen in combinations(singles, number):
            sites = [space.sites[s] for s, _ in chosen]
            pairs = [(a, b) for i, a in enumerate(sites) for b in sites[i + 1 :]]
            if all(apart(a, b) for a, b in pairs):
                kept.append(chosen)
    return kept


def apart(a: Site, b: Site) -> bool:
    if a.field != b.field:
        return True
    if (a.start, a.end) == (b.start, b.end):
        return False  # one place, edited once
    return a.end <= b.start or b.end <= a.start


@settings(max_examples=150, deadline=None)
@given(spaces())
def test_counted_is_enumerated_is_what_it_should_be(space):
    choices = list(space.choices())
    assert space.size == len(choices) == len(set(choices))
    assert sorted(choices) == sorted(by_hand(space))
    assert [len(choice) for choice in choices] == sorted(len(choice) for choice in choices)
    assert choices[0] == () and space.text(()) == space.fields


@settings(max_examples=150, deadline=None)
@given(spaces())
def test_every_text_reverts_and_differs_at_few_sites(space):
    for choice in space.choices():
        text, replaced = space.edited(choice)
        assert len(replaced) == len(choice) <= space.edits
        assert [text[r.field][r.start : r.end] for r in replaced] == [space.sites[s].replacements[o] for s, o in choice]
        assert revert(text, replaced) == space.fields
        assert text in space
        found = space.choice_of(text)
        assert space.text(found) == text and len(found) <= len(choice)


@settings(max_examples=150, deadline=None)
@given(spaces(), st.text("ab .", max_size=9))
def test_only_its_texts_are_in_a_set(space, other):
    texts = [space.text(choice) for choice in space.choices()]
    name = next(iter(space.fields))
    tried = {**space.fields, name: other}
    assert (tried in space) == (tried in texts)
    assert {"another field": other} not in space


def test_a_set_counted_without_going_through_it():
    text = " ".join(["ab"] * 40)
    sites = tuple(Site("t", 3 * i, 3 * i + 2, tuple("xyz")) for i in range(40))
    assert Space({"t": text}, sites, 1).size == 1 + 40 * 3
    assert Space({"t": text}, sites, 2).size == 1 + 120 + 9 * 40 * 39 // 2
    assert Space({"t": text}, sites, 40).size == 4**40


def test_overlapping_sites_are_never_edited_together():
    space = Space({"t": "it is not"}, (Site("t", 0, 5, ("it's",)), Site("t", 3, 9, ("isn't",))), 2)
    assert [space.text(choice)["t"] for choice in space.choices()] == ["it is not", "it's not", "it isn't"]


@pytest.mark.parametrize(
    "site",
    [Site("t", 0, 1, ()), Site("t", 0, 1, ("b", "b")), Site("t", 0, 1, ("a",))],
    ids=["nothing", "twice", "itself"],
)
def test_a_site_must_offer_other_things(site):
    with pytest.raises(ValueError, match="must offer replacements"):
        Space({"t": "a"}, (site,), 1)


def test_sites_come_in_order():
    first, second = Site("t", 0, 1, ("x",)), Site("t", 2, 3, ("x",))
    with pytest.raises(ValueError, match="in the order"):
        Space({"t": "a b"}, (second, first), 1)
