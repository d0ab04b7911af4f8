"""Seeded, stratified choices of examples, the same on every machine and for every order of the rows."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

from robustexit.data.types import Example, TextDataset
from robustexit.errors import DataError


def _key(example: Example, seed: int, purpose: str) -> tuple[bytes, str]:
    # A hash of the id instead of a random stream: a row keeps its rank whatever stands around it.
    digest = hashlib.sha256(f"{purpose}\0{seed}\0{example.example_id}".encode()).digest()
    return digest, example.example_id


def _quotas(sizes: Mapping[int, int], n: int) -> dict[int, int]:
    """Share `n` among labels by their sizes (largest remainder; ties go to the smaller label index)."""
    total = sum(sizes.values())
    quotas = {label: size * n // total for label, size in sizes.items()}
    by_remainder = sorted(sizes, key=lambda label: (-(sizes[label] * n % total), label))
    for label in by_remainder[: n - sum(quotas.values())]:
        quotas[label] += 1
    return quotas


def _chosen_ids(dataset: TextDataset, n: int, seed: int, purpose: str) -> set[str]:
    by_label: dict[int, list[Example]] = defaultdict(list)
    for example in dataset.examples:
        by_label[example.label].append(example)
    quotas = _quotas({label: len(group) for label, group in by_label.items()}, n)
    return {
        example.example_id
        for label, group in by_label.items()
        for example in sorted(group, key=lambda e: _key(e, seed, purpose))[: quotas[label]]
    }


def stratified_sample(dataset: TextDataset, n: int, seed: int = 0) -> TextDataset:
    """Choose `n` examples whose label shares follow the dataset's (largest remainder).

    The choice depends on the examples' ids, labels and `seed` alone, not on their order; the original order
    is kept.

    Args:
        dataset: What to choose from; its ids must be unique.
        n: Number of examples, 1 to ``len(dataset)``.
        seed: Seed of the choice.

    Returns:
        The dataset with `n` examples and a note.

    Raises:
        DataError: `n` below 1 or above the number of examples.
    """
    if not 1 <= n <= len(dataset):
        raise DataError(
            f"{dataset.name}: expected a sample of 1 to {len(dataset)} examples (all there are), got {n}; "
            "ask for fewer, or leave `sample` out to use them all"
        )
    chosen = _chosen_ids(dataset, n, seed, "sample")
    examples = tuple(example for example in dataset.examples if example.example_id in chosen)
    return dataset.with_examples(examples, f"stratified sample of {n} of {len(dataset)}, seed {seed}")


def split_half(dataset: TextDataset, fraction: float = 0.5, seed: int = 0) -> tuple[TextDataset, TextDataset]:
    """Split into two disjoint parts that make up the whole, each with the dataset's label shares.

    Meant for calibrating on one part of a validation set and attacking the other.

    Args:
        dataset: What to split; its ids must be unique.
        fraction: Share of the first part, above 0 and below 1; its size is rounded to the nearest integer.
        seed: Seed of the choice; independent of `stratified_sample` with the same seed.

    Returns:
        The held-out part (``fraction`` of the examples) and the rest, both in the original order.

    Raises:
        DataError: A fraction outside (0, 1), or one of the parts would be empty.
    """
    if not 0 < fraction < 1:
        raise DataError(f"{dataset.name}: expected a fraction between 0 and 1 (both excluded), got {fraction}")
    n = int(fraction * len(dataset) + 0.5)
    if not 0 < n < len(dataset):
        raise DataError(
            f"{dataset.name}: a fraction of {fraction} of {len(dataset)} examples leaves one part empty; "
            "use more examples or a fraction nearer to 0.5"
        )
    chosen = _chosen_ids(dataset, n, seed, "split")
    held_out = tuple(example for example in dataset.examples if example.example_id in chosen)
    rest = tuple(example for example in dataset.examples if example.example_id not in chosen)
    return (
        dataset.with_examples(held_out, f"held-out part: {n} of {len(dataset)}, seed {seed}"),
        dataset.with_examples(rest, f"remaining part: {len(rest)} of {len(dataset)}, seed {seed}"),
    )
