from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.training import encoding
from robustexit.training.encoding import LengthGrouped


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**31)
)
def test_every_text_comes_once_and_the_order_is_the_epochs(lengths, batch_size, epoch, seed):
    sampler = LengthGrouped(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths))) and len(sampler) == len(order)
    again = LengthGrouped(lengths, batch_size, seed)
    again.set_epoch(epoch)
    assert list(again) == order


def test_epochs_and_seeds_differ():
    lengths = list(range(1, 101))
    orders = set()
    for seed in range(3):
        sampler = LengthGrouped(lengths, 8, seed)
        for epoch in range(3):
            sampler.set_epoch(epoch)
            orders.add(tuple(sampler))
    assert len(orders) == 9


def test_batches_hold_like_lengths_in_no_order_of_length(monkeypatch):
    monkeypatch.setattr(encoding, "GROUPED_BATCHES", 25)
    lengths = [1 + row % 40 for row in range(800)]
    order = [lengths[row] for row in LengthGrouped(lengths, 8, 0)]
    batches = [order[at : at + 8] for at in range(0, 800, 8)]
    padding = sum(max(batch) * len(batch) - sum(batch) for batch in batches)
    assert padding < 0.05 * sum(lengths)
    means = [sum(batch) / len(batch) for batch in batches]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3
