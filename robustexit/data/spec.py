"""What a campaign file says about one dataset."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from robustexit.data.reviews import LEVELS
from robustexit.errors import unknown_name

Count: TypeAlias = Annotated[int, Field(strict=True, ge=1)]

_SOURCES: Final = ("path", "hub", "builtin")
_ONLY_WITH: Final = {
    "config": ("hub",),
    "revision": ("hub",),
    "n": ("builtin",),
    "difficulty": ("builtin",),
    "fields": ("path", "hub"),
    "label": ("path", "hub"),
    "id": ("path", "hub"),
    "labels": ("path", "hub"),
    "duplicates": ("path", "hub"),
}


class DataSpec(BaseModel):
    """One dataset of a campaign: where it is, which columns hold what, and how much of it is used.

    Exactly one of `path`, `hub` and `builtin` is given.

    Attributes:
        path: A CSV, TSV, JSONL, JSON or Parquet file, or a folder written by ``datasets.save_to_disk``.
        hub: Id of a dataset on the Hugging Face Hub, or a local folder laid out like one.
        builtin: ``"reviews"``, the generated corpus.
        config: Configuration of the Hub dataset (``"sst2"`` of ``"glue"``).
        revision: Commit, branch or tag of the Hub dataset.
        split: Split of a Hub dataset or saved folder (slices such as ``"train[:10%]"`` work with `hub`);
            ``"train"`` or ``"test"`` of the built-in corpus.
        n: Number of generated texts (`builtin` only; 1,000 if left out).
        difficulty: Difficulty levels of the generated texts (`builtin` only; all if left out).
        fields: One or two text columns, or a mapping of field name to column. If left out, found by the usual
            names.
        label: Column of the labels.
        id: Column of the ids; if left out, the column ``id`` where there is one. ``False``, or no such
            column: ids are a hash of the texts.
        labels: Names of the labels in index order, or a mapping of the file's values to names (several values
            may share a name; names are numbered as they first appear).
        duplicates: ``"error"`` refuses rows that repeat an earlier row's texts where no id column tells them
            apart; ``"drop"`` keeps the first of such rows, always, and says how many went.
        sample: Size of a seeded, stratified sample; everything if left out.
        seed: Seed of the sample, and of the built-in corpus.
        language: ISO 639-1 code of the texts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = None
    hub: str | None = None
    builtin: Literal["reviews"] | None = None
    config: str | None = None
    revision: str | None = None
    split: str | None = None
    n: Count | None = None
    difficulty: tuple[str, ...] | None = None
    fields: str | tuple[str, ...] | dict[str, str] | None = None
    label: str = "label"
    id: str | Literal[False] | None = None
    labels: tuple[str, ...] | dict[str | int | bool, str] | None = None
    duplicates: Literal["error", "drop"] = "error"
    sample: Count | None = None
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    language: str = Field(default="en", min_length=2)

    @field_validator("fields")
    @classmethod
    def _one_or_two_fields(
        cls, value: str | tuple[str, ...] | dict[str, str] | None
    ) -> tuple[str, ...] | dict[str, str] | None:
        fields = (value,) if isinstance(value, str) else value
        if fields is not None:
            columns = list(fields.values() if isinstance(fields, dict) else fields)
            if not 1 <= len(columns) <= 2 or len(set(columns)) < len(columns):
                raise ValueError(f"expected one or two different text columns, got {columns}")
        return fields

    @field_validator("labels")
    @classmethod
    def _two_names(
        cls, value: tuple[str, ...] | dict[str | int | bool, str] | None
    ) -> tuple[str, ...] | dict[str | int | bool, str] | None:
        if value is not None:
            names = list(dict.fromkeys(value.values())) if isinstance(value, dict) else list(value)
            if len(names) < 2 or len(set(names)) < len(names):
                raise ValueError(f"expected at least two different label names, got {names}")
        return value

    @field_validator("difficulty")
    @classmethod
    def _known_levels(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value == ():
            raise ValueError(f"expected at least one difficulty level of {', '.join(LEVELS)}, got none")
        for level in value or ():
            if level not in LEVELS:
                raise ValueError(unknown_name("difficulty level", level, LEVELS))
        return value

    @model_validator(mode="after")
    def _one_source(self) -> DataSpec:
        given = [name for name in _SOURCES if getattr(self, name) is not None]
        if len(given) != 1:
            got = " and ".join(given) if given else "none of them"
            raise ValueError(f"expected exactly one of path, hub and builtin, got {got}")
        for name, sources in _ONLY_WITH.items():
            changed = getattr(self, name) != type(self).model_fields[name].default
            if changed and given[0] not in sources:
                raise ValueError(f"{name!r} belongs to {' or '.join(sources)}, not to {given[0]}; remove it")
        return self
