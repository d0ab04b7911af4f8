"""Texts as the trainer reads them: checked, tokenised once, batched with texts of like length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch.utils.data import Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from robustexit.data.types import TextDataset
from robustexit.errors import DataError

Encoded: TypeAlias = dict[str, Any]
"""One text: the tokenizer's lists (``input_ids``, ``attention_mask``, ...) and ``labels``, an int."""

GROUPED_BATCHES = 50
"""Batches' worth of shuffled texts that are sorted by length together, as in Hugging Face's own order."""


def check_training_data(data: TextDataset) -> None:
    """Refuse data that no classifier can be trained on.

    Raises:
        DataError: Empty, a label outside the label names, uneven fields, or a single class.
    """
    check_data(data)
    found = sorted(set(data.labels))
    if len(found) < 2:
        raise DataError(
            f"{data.name}: expected training examples of at least two classes, got only "
            f"{data.label_names[found[0]]!r}; shuffle before taking a sample, or sample by class"
        )


def check_data(data: TextDataset, like: TextDataset | None = None) -> None:
    """Refuse data that cannot be encoded or scored.

    Args:
        data: The dataset.
        like: The training data that it must match in fields and labels.

    Raises:
        DataError: Empty, a label outside the label names, uneven fields, or not like the training data.
    """
    if not len(data):
        raise DataError(f"{data.name}: expected examples, got none; check the file, split or filter")
    classes = len(data.label_names)
    for example in data.examples:
        if not 0 <= example.label < classes:
            raise DataError(
                f"{data.name}: example {example.example_id!r} has label {example.label}, expected 0 to "
                f"{classes - 1} ({', '.join(data.label_names)}); drop unlabelled examples or name the label"
            )
        if tuple(example.fields) != data.field_names:
            raise DataError(
                f"{data.name}: example {example.example_id!r} has fields {list(example.fields)}, expected "
                f"{list(data.field_names)} as in the first example"
            )
    if like is not None and (like.field_names, like.label_names) != (data.field_names, data.label_names):
        raise DataError(
            f"{data.name}: expected fields {list(like.field_names)} and labels {list(like.label_names)} as "
            f"in {like.name}, got {list(data.field_names)} and {list(data.label_names)}"
        )


class EncodedTexts(Dataset[Encoded]):
    """A dataset, tokenised once and cut to the longest input.

    Attributes:
        labels: Label of each text.
        lengths: Tokens of each text after the cut, special tokens included.
        truncated: Number of texts that lost tokens.
        tokenizer: What encoded them.

    Args:
        data: One or two text fields an example.
        tokenizer: A fast or slow tokenizer.
        max_length: Longest input in tokens, special tokens included.
    """

    def __init__(self, data: TextDataset, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        columns = [[text[name] for text in data.texts] for name in data.field_names]
        self.tokenizer = tokenizer
        self.labels = data.labels
        # Not cut here, to count what is cut below; the tokenizer's own warning would be beside the point.
        whole = tokenizer(*columns, truncation=False, verbose=False)["input_ids"]
        self._encoding = tokenizer(*columns, truncation=True, max_length=max_length)
        self.lengths = [len(ids) for ids in self._encoding["input_ids"]]
        self.truncated = sum(len(full) > cut for full, cut in zip(whole, self.lengths, strict=True))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> Encoded:
        encoded = {name: values[row] for name, values in self._encoding.items()}
        return {**encoded, "labels": self.labels[row]}


class LengthGrouped(Sampler[int]):
    """A shuffled order in which each batch holds texts of like length, so that there is little padding.

    The order is a function of the seed and the epoch alone: a resumed run sees the batches that an
    uninterrupted run would have seen. The batches are shuffled too. Hugging Face's length-grouped order does neither:
    it draws from the global state, and sweeps from long texts to short ones again and again, so that the last
    steps see the shortest texts only.

    Args:
        lengths: Tokens of each text.
        batch_size: Texts a batch.
        seed: Seeds the shuffle.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch (0-based) that the next iteration belongs to."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self._seed << 20) + self._epoch)
        shuffled = torch.randperm(len(self._lengths), generator=generator).tolist()
        # The incomplete batch comes last, since the loader cuts the order into batches from its start.
        whole = len(shuffled) - len(shuffled) % self._batch_size
        batches: list[list[int]] = []
        for start in range(0, whole, GROUPED_BATCHES * self._batch_size):
            group = shuffled[start : min(start + GROUPED_BATCHES * self._batch_size, whole)]
            group.sort(key=lambda row: self._lengths[row])
            batches += [group[at : at + self._batch_size] for at in range(0, len(group), self._batch_size)]
        for number in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[number]
        yield from shuffled[whole:]
