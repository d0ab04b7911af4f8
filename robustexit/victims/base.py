"""The victim protocol: the deployed system that is attacked, seen through one `trace` method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robustexit.data.types import Fields

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Trace:
    """What a victim computed on one text.

    Attributes:
        logits: Per-exit logits of the exits computed, shape [depth, classes], float32. Deeper exits are
            absent; a NaN is always an error.
        exit: Exit the policy takes, 1-based. Never deeper than `depth`.
        probabilities: What the policy returns at that exit, shape [classes], float32.
        tokens: Tokens of the text after truncation, special tokens included, padding excluded.
        macs: Multiply-accumulates the deployed system spends on this text (up to the exit taken).
        full_macs: The same for the full-depth control (every layer, last head only).
        layers: Encoder layers run to compute the `depth` exits.
        truncated: The text was longer than the victim's limit.
        scalars: Named per-exit values the policy read (gates, distances), each of shape [depth].
    """

    logits: FloatArray
    exit: int
    probabilities: FloatArray
    tokens: int
    macs: int
    full_macs: int
    layers: int
    truncated: bool = False
    scalars: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Exits computed."""
        return len(self.logits)

    @property
    def answer(self) -> int:
        """The deployed answer: argmax of what the policy returns."""
        return int(self.probabilities.argmax())

    @property
    def cost(self) -> float:
        """Share of the full-depth control's multiply-accumulates."""
        return self.macs / self.full_macs


@runtime_checkable
class Victim(Protocol):
    """Model + exit policy + defense + precision: what an attack queries.

    A user's own PyTorch model takes part by returning an object with these members from a factory.

    Attributes:
        num_exits: K, the number of exits (1 for a plain classifier).
        num_classes: C.
        exit_layers: Encoder layer of each exit, 1-based, length K.
        full_depth: True if the policy always takes exit K (slowdown goals cannot apply).
        fingerprint: Hash of everything its answers depend on (weights, tokenizer, policy, precision).
    """

    num_exits: int
    num_classes: int
    exit_layers: tuple[int, ...]
    full_depth: bool
    fingerprint: str

    def trace(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        """Run the deployed system on texts.

        Args:
            texts: Inputs, each field name -> text.
            min_depth: Exits to compute at least, also for texts whose policy stopped earlier; K for all.

        Returns:
            One trace a text, in order; a text's trace does not depend on its neighbours.
        """
        ...
