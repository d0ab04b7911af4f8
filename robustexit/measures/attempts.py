"""One cell's evaluated attempts as arrays: the only place where record columns are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from robustexit.errors import DataError
from robustexit.records import OUTCOMES

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

SIDES: Final = ("pred", "exit", "probs", "confidence", "cost", "tokens", "macs")
NEEDED: Final = (
    "example_id",
    "label",
    "outcome",
    "pred_clean",
    "pred_attacked",
    "exit_clean",
    "exit_attacked",
)


@dataclass(frozen=True, eq=False)
class Attempts:
    """The evaluated examples D of one cell: every attempt but those that ended in an error.

    A row without an attacked text (skipped, or stopped before the first candidate) stands with its original.

    Attributes:
        frame: Records of D, index 0..n-1.
        errors: Attempts left out because they ended in an error.
        layers: Encoder layer of each exit, length K; 1..K where the layers are not known.
    """

    frame: pd.DataFrame
    errors: int
    layers: tuple[int, ...]

    @staticmethod
    def of(records: pd.DataFrame, exit_layers: Sequence[int] = ()) -> Attempts:
        """Read one cell's records.

        Args:
            records: Rows of one cell (several seeds may be pooled; an example's rows then stay together).
            exit_layers: Encoder layer of each exit, from the run's manifest.

        Raises:
            DataError: A needed column is missing, the rows mix numbers of exits, or a row that is no error
                lacks its original answer.
        """
        missing = [name for name in NEEDED if name not in records.columns]
        if missing:
            raise DataError(
                f"expected records with the columns of robustexit.records, got a table without "
                f"{', '.join(missing)}; "
                "read a run folder written by `robustexit run`"
            )
        failed = (records["outcome"] == "error").to_numpy(dtype=bool)
        frame = _of_unknown_depth(records.loc[~failed].reset_index(drop=True))
        if frame["pred_clean"].isna().any() or frame["exit_clean"].isna().any():
            raise DataError(
                "expected an original answer and exit in every row whose outcome is not `error`, got empty "
                "ones; "
                "the records are damaged: run the campaign again"
            )
        exits = _num_exits(records)
        layers = tuple(exit_layers) if len(exit_layers) == exits else tuple(range(1, exits + 1))
        return Attempts(_with_originals(frame), int(failed.sum()), layers)

    def where(self, rows: BoolArray) -> Attempts:
        """Return the attempts at which `rows` (shape [n]) is true; a split has no error rows of its own."""
        return Attempts(self.frame.loc[rows].reset_index(drop=True), 0, self.layers)

    def by_outcome(self) -> dict[str, Attempts]:
        """Return ``all`` and one part per outcome that occurs, in the order of the record's outcomes."""
        outcome = self.frame["outcome"].to_numpy()
        present = [name for name in OUTCOMES if (outcome == name).any()]
        return {"all": self} | {name: self.where(outcome == name) for name in present}

    def __len__(self) -> int:
        return len(self.frame)

    def _numbers(self, name: str) -> FloatArray:
        if name not in self.frame.columns:
            return np.full(len(self), np.nan)
        return pd.to_numeric(self.frame[name]).to_numpy(dtype=np.float64, na_value=np.nan)

    def _codes(self, name: str) -> IntArray:
        return self._numbers(name).astype(np.int64)

    @property
    def num_exits(self) -> int:
        """K."""
        return len(self.layers)

    @cached_property
    def units(self) -> IntArray:
        """Index of each row's example, 0..examples-1: rows with the same number are drawn together."""
        return pd.factorize(self.frame["example_id"])[0].astype(np.int64)

    @cached_property
    def label(self) -> IntArray:
        """True label."""
        return self._codes("label")

    @cached_property
    def right_clean(self) -> BoolArray:
        """The deployed answer on the original is the label."""
        return np.asarray(self._codes("pred_clean") == self.label)

    @cached_property
    def right_attacked(self) -> BoolArray:
        """The deployed answer on the final text is the label."""
        return np.asarray(self._codes("pred_attacked") == self.label)

    @cached_property
    def exit_clean(self) -> IntArray:
        """Exit taken on the original, 1-based."""
        return self._codes("exit_clean")

    @cached_property
    def exit_attacked(self) -> IntArray:
        """Exit taken on the final text, 1-based."""
        return self._codes("exit_attacked")

    @property
    def shift(self) -> IntArray:
        """Exit on the final text less exit on the original."""
        return self.exit_attacked - self.exit_clean

    @cached_property
    def skipped(self) -> BoolArray:
        """The goal held on the original, so nothing was attacked."""
        return (self.frame["outcome"] == "skipped").to_numpy(dtype=bool)

    @cached_property
    def goal_met(self) -> BoolArray:
        """The goal's own condition holds on the final text."""
        if "goal_met" not in self.frame.columns:
            return (self.frame["outcome"] == "succeeded").to_numpy(dtype=bool)
        return np.array([value is not None and value is not pd.NA and value == 1 for value in self.frame["goal_met"]])

    def number(self, name: str) -> FloatArray:
        """Return one numeric column, shape [n], NaN where empty."""
        return self._numbers(name)

    @cached_property
    def probs_clean(self) -> FloatArray:
        """Probabilities of every exit on the original, shape [n, K, C]; NaN where not all K were recorded."""
        return self._probabilities("probs_clean")

    @cached_property
    def probs_attacked(self) -> FloatArray:
        """The same on the final text."""
        return self._probabilities("probs_attacked")

    def _probabilities(self, name: str) -> FloatArray:
        values = self.frame[name] if name in self.frame.columns else [None] * len(self)
        rows = [_matrix(value, self.num_exits) for value in values]
        classes = max((row.shape[1] for row in rows if row is not None), default=1)
        blank = np.full((self.num_exits, classes), np.nan)
        whole = [row if row is not None and row.shape[1] == classes else blank for row in rows]
        return np.stack(whole) if whole else np.empty((0, self.num_exits, classes))

    @cached_property
    def has_probs(self) -> BoolArray:
        """Both texts have the probabilities of all K exits."""
        both = np.concatenate([self.probs_clean, self.probs_attacked], axis=2)
        return np.asarray(~np.isnan(both).any(axis=(1, 2)))

    @cached_property
    def right_by_exit_clean(self) -> BoolArray:
        """Exit i alone is right on the original, shape [n, K]; meaningful where `has_probs`."""
        return np.asarray(np.nan_to_num(self.probs_clean).argmax(axis=2) == self.label[:, None])

    @cached_property
    def right_by_exit_attacked(self) -> BoolArray:
        """The same on the final text."""
        return np.asarray(np.nan_to_num(self.probs_attacked).argmax(axis=2) == self.label[:, None])


def _of_unknown_depth(frame: pd.DataFrame) -> pd.DataFrame:
    """Read a system of which nothing but its answers is known (an imported log) as one with a single exit."""
    if (
        len(frame)
        and "num_exits" in frame.columns
        and frame[["num_exits", "exit_clean", "exit_attacked"]].isna().all(axis=None)
    ):
        return frame.assign(exit_clean=1, exit_attacked=1)
    return frame


def _num_exits(records: pd.DataFrame) -> int:
    if "num_exits" in records.columns:
        counts = sorted({int(value) for value in records["num_exits"].dropna()})
    else:
        deepest = records[["exit_clean", "exit_attacked"]].max().max()
        counts = [] if pd.isna(deepest) else [int(deepest)]
    if len(counts) > 1:
        raise DataError(f"expected records of one cell, got victims with {counts} exits; split by victim first")
    return counts[0] if counts else 1


def _with_originals(frame: pd.DataFrame) -> pd.DataFrame:
    """Fill the attacked side of rows that have none with their original."""
    bare = (frame["pred_attacked"].isna() | frame["exit_attacked"].isna()).to_numpy(dtype=bool)
    if not bare.any():
        return frame
    pairs = [(f"{side}_clean", f"{side}_attacked") for side in SIDES] + [("text", "text_attacked")]
    there = [(clean, attacked) for clean, attacked in pairs if {clean, attacked} <= set(frame.columns)]
    return frame.assign(**{attacked: frame[clean].where(bare, frame[attacked]).to_numpy() for clean, attacked in there})


def _matrix(value: Any, exits: int) -> FloatArray | None:
    if value is None or (isinstance(value, float) and np.isnan(value)) or len(value) != exits:
        return None
    widths = {len(row) for row in value}
    return np.array([np.asarray(row, dtype=np.float64) for row in value]) if len(widths) == 1 else None
