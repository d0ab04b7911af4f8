"""What a report is, before any rendering: sentences, tables, figures, examples and definitions as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from robustexit.measures import Estimate, Flag

REPORT_SCHEMA: Final = "robustexit.report"
REPORT_VERSION: Final = 1


@dataclass(frozen=True)
class Label:
    """A name with a quieter second line."""

    main: str
    detail: str = ""


@dataclass(frozen=True)
class Change:
    """A measure before and after the attack."""

    before: Estimate
    after: Estimate


@dataclass(frozen=True)
class Withheld:
    """A result that must not be shown, and why."""

    reason: str


Value: TypeAlias = str | Label | Estimate | Change | Withheld | None


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        key: Key in JSON.
        title: Heading.
        unit: Unit of its estimates, in the words of `robustexit.measures`; empty for text.
        definition: Name of the measure (or other definition) behind it; empty for text.
        note: What this column takes of that definition (a part of the attempts), if not all.
    """

    key: str
    title: str
    unit: str = ""
    definition: str = ""
    note: str = ""


@dataclass(frozen=True)
class Row:
    """One row: its values in column order, and the heading it stands under."""

    values: tuple[Value, ...]
    group: str = ""


@dataclass(frozen=True)
class Table:
    """One table, rendered the same way everywhere.

    Attributes:
        key: Key in JSON and anchor in HTML.
        title: Heading.
        intro: One or two sentences on how to read it.
        columns: The columns; the first names the row.
        rows: The rows, those of one group together.
        notes: What a reader must know beside the numbers.
        empty: What to say where there is no row.
    """

    key: str
    title: str
    intro: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    empty: str = "Nothing to show in this run."


@dataclass(frozen=True)
class Panel:
    """One small picture of a figure.

    Attributes:
        title: What it shows, e.g. the victim and the attack.
        svg: The picture; colours of text and axes follow the page.
        alt: The same in words, with the numbers.
    """

    title: str
    svg: str
    alt: str


@dataclass(frozen=True)
class Figure:
    """Small multiples of one kind."""

    key: str
    title: str
    intro: str
    panels: tuple[Panel, ...]


Mark: TypeAlias = Literal["equal", "insert", "delete", "gap"]


@dataclass(frozen=True)
class Segment:
    """A stretch of a word diff.

    Attributes:
        mark: In both texts, only in the final one, only in the original, or a gap that says how much is left out.
        text: The characters; for a hidden character its code point, e.g. ``U+200B``.
        hidden: `text` stands for a character that cannot be seen.
        name: Unicode name of a look-alike letter, empty for others.
    """

    mark: Mark
    text: str
    hidden: bool = False
    name: str = ""


@dataclass(frozen=True)
class Step:
    """One exit's answer on one text: exit, layer, answer, its probability, whether right, taken and reached."""

    exit: int
    layer: int
    answer: str
    confidence: float
    right: bool
    taken: bool
    reached: bool


@dataclass(frozen=True)
class Side:
    """What the deployed system did with one text."""

    answer: str
    right: bool
    exit: int
    confidence: float
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class ShownExample:
    """One example of the browser."""

    kind: str
    dataset: str
    example_id: str
    victim: str
    attack: str
    label: str
    outcome: str
    num_exits: int
    diff: Mapping[str, tuple[Segment, ...]]
    before: Side
    after: Side


@dataclass(frozen=True)
class Definition:
    """One footnote: a measure's key, title, unit, better direction and definition."""

    key: str
    title: str
    unit: str
    direction: str
    text: str


@dataclass(frozen=True)
class Report:
    """Everything a report says, built once and rendered many times.

    Attributes:
        title: Title of the page.
        answer: One sentence: does early exit make it weaker, and by how much?
        details: The same per dataset and victim, where there is more than one.
        banners: What must be read before anything else (synthetic data).
        summary: What was run, as (name, value) pairs.
        tables: The tables, by key.
        figures: The figures, by key.
        examples: The seeded sample of attacked texts.
        examples_note: How the sample was drawn.
        flags: What the self-checks found.
        definitions: Every definition that a column refers to, and all other measures.
        provenance: The manifest as it was given.
    """

    title: str
    answer: str
    details: tuple[str, ...]
    banners: tuple[str, ...]
    summary: tuple[tuple[str, str], ...]
    tables: Mapping[str, Table]
    figures: Mapping[str, Figure]
    examples: tuple[ShownExample, ...]
    examples_note: str
    flags: tuple[Flag, ...]
    definitions: tuple[Definition, ...]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def without_texts(self) -> Report:
        """Return the report without any text of the data, for sharing where the data must not be."""
        return replace(self, examples=(), examples_note="Left out: this report holds no text of the data.")
