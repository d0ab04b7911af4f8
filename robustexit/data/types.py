"""The one shape of data everything else reads: examples with named text fields."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

Fields: TypeAlias = Mapping[str, str]
"""One input: field name -> text, in the order the tokenizer sees them (one or two fields)."""


@dataclass(frozen=True)
class Example:
    """One labelled input.

    Attributes:
        example_id: Unique within its dataset.
        fields: Field name -> text, in tokenizer order.
        label: Index into the dataset's label names.
    """

    example_id: str
    fields: Fields
    label: int


@dataclass(frozen=True)
class TextDataset:
    """A named, ordered set of examples of one classification task.

    Attributes:
        name: Name used in records and reports.
        examples: The examples, in order.
        label_names: Name of each label index.
        source: Where it came from, for the manifest (path, Hub id, "generated").
        synthetic: True for generated text; stands in every report.
    """

    name: str
    examples: tuple[Example, ...]
    label_names: tuple[str, ...]
    source: str
    synthetic: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the text fields, in tokenizer order."""
        return tuple(self.examples[0].fields)

    @property
    def texts(self) -> list[Fields]:
        """The inputs alone, in order."""
        return [example.fields for example in self.examples]

    @property
    def labels(self) -> list[int]:
        """The labels alone, in order."""
        return [example.label for example in self.examples]

    def __len__(self) -> int:
        return len(self.examples)

    def with_examples(self, examples: tuple[Example, ...], *notes: str) -> TextDataset:
        """Return the same dataset holding other examples (a sample, a split half), with notes added."""
        return replace(self, examples=examples, notes=(*self.notes, *notes))

    def content_hash(self) -> str:
        """Return a SHA-256 over ids, texts, labels and label names, in order."""
        digest = hashlib.sha256(json.dumps(self.label_names).encode())
        for example in self.examples:
            row = [example.example_id, dict(example.fields), example.label]
            digest.update(json.dumps(row, ensure_ascii=False).encode())
        return digest.hexdigest()
