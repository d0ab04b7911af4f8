from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.data import Example, TextDataset, split_half, stratified_sample
from robustexit.errors import DataError


def make(labels: list[int]) -> TextDataset:
    examples = tuple(Example(f"e{i}", {"text": f"text {i}"}, label) for i, label in enumerate(labels))
    return TextDataset("d", examples, ("a", "b", "c"), "made")


def ids(dataset: TextDataset) -> list[str]:
    return [example.example_id for example in dataset.examples]


LABELS = st.lists(st.integers(0, 2), min_size=2, max_size=60)
SEEDS = st.integers(0, 2**31)


@settings(max_examples=60, deadline=None)
@given(LABELS, SEEDS, st.data())
def test_sample(labels, seed, data):
    whole = make(labels)
    n = data.draw(st.integers(1, len(labels)))
    sample = stratified_sample(whole, n, seed)
    assert len(sample) == n
    chosen = set(ids(sample))
    assert ids(sample) == [i for i in ids(whole) if i in chosen]
    for label in range(3):
        share = labels.count(label) * n / len(labels)
        assert abs(sample.labels.count(label) - share) < 1


@settings(max_examples=60, deadline=None)
@given(LABELS, SEEDS, st.randoms(use_true_random=False))
def test_sample_does_not_depend_on_the_order(labels, seed, rng: random.Random):
    whole = make(labels)
    mixed = list(whole.examples)
    rng.shuffle(mixed)
    n = (len(labels) + 1) // 2
    shuffled = stratified_sample(whole.with_examples(tuple(mixed)), n, seed)
    assert set(ids(shuffled)) == set(ids(stratified_sample(whole, n, seed)))


@settings(max_examples=60, deadline=None)
@given(LABELS, SEEDS, st.floats(0.01, 0.99))
def test_split(labels, seed, fraction):
    whole = make(labels)
    n = int(fraction * len(labels) + 0.5)
    if not 0 < n < len(labels):
        with pytest.raises(DataError, match="leaves one part empty"):
            split_half(whole, fraction, seed)
        return
    held_out, rest = split_half(whole, fraction, seed)
    assert len(held_out) == n
    assert not set(ids(held_out)) & set(ids(rest))
    assert sorted(ids(held_out) + ids(rest)) == sorted(ids(whole))
    for label in range(3):
        assert abs(held_out.labels.count(label) - labels.count(label) * n / len(labels)) < 1


def test_pinned_choice():
    # The same on every machine and version, or seeded campaigns could not be compared.
    whole = make([i % 2 for i in range(20)])
    assert ids(stratified_sample(whole, 4, 7)) == ["e8", "e11", "e13", "e14"]
    assert ids(split_half(whole, 0.25, 7)[0]) == ["e4", "e12", "e13", "e18", "e19"]


def test_seeds_differ_and_are_noted():
    whole = make([i % 3 for i in range(60)])
    first, second = stratified_sample(whole, 20, 0), stratified_sample(whole, 20, 1)
    assert ids(first) != ids(second)
    assert first.notes == ("stratified sample of 20 of 60, seed 0",)
    assert split_half(whole)[1].notes == ("remaining part: 30 of 60, seed 0",)


@pytest.mark.parametrize("n", [0, -1, 4])
def test_sample_size_out_of_range(n):
    with pytest.raises(DataError, match=f"d: expected a sample of 1 to 3 examples .*, got {n}"):
        stratified_sample(make([0, 1, 0]), n, 0)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_fraction_out_of_range(fraction):
    with pytest.raises(DataError, match="expected a fraction between 0 and 1"):
        split_half(make([0, 1, 0]), fraction)
