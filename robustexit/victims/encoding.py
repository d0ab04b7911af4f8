"""From texts to padded batches whose rows do not depend on each other.

Two rules make a row's logits a function of its own text alone (docs/decisions.md, "Numerics"): the padded
length is a function of the text's own token count, and a batch never holds fewer than a fixed number of rows.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch

from robustexit.data.types import Fields

LENGTHS: Final = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Padded lengths in tokens; longer texts go up in steps of 256."""

BATCH_ROWS: Final = 32
"""Rows a batch holds at most: the fastest size on two cores, where larger ones fall out of the cache."""

_MIN_ROWS_ONE_THREAD: Final = 4
_MIN_ROWS: Final = 8
_MIN_TOKENS: Final = 256


def padded_length(tokens: int, limit: int) -> int:
    """Return the length a text of that many tokens is padded to, at most `limit`."""
    at = bisect_left(LENGTHS, tokens)
    length = LENGTHS[at] if at < len(LENGTHS) else -(-tokens // 256) * 256
    return min(length, limit)


def min_rows(length: int) -> int:
    """Return the fewest rows a batch of that padded length may hold on this thread count.

    With several threads, matrix products are split by rows, and small ones take another path with other
    rounding: encoder layers are stable from 8 rows and 256 padded tokens on, with one thread from 4 rows on.
    """
    if torch.get_num_threads() == 1:
        return _MIN_ROWS_ONE_THREAD
    return max(_MIN_ROWS, -(-_MIN_TOKENS // length))


@dataclass(frozen=True)
class Encoded:
    """One text as token ids.

    Attributes:
        inputs: Tokenizer outputs by name (input_ids, attention_mask, token_type_ids), unpadded.
        tokens: Number of tokens.
        truncated: Whether the text was cut.
    """

    inputs: dict[str, list[int]]
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Batch:
    """A padded batch.

    Attributes:
        inputs: Tensors of shape [rows + filler, length].
        positions: Where the real rows stand in the list of texts; the first rows of the batch.
        length: Padded length in tokens.
    """

    inputs: dict[str, torch.Tensor]
    positions: list[int]
    length: int

    @property
    def rows(self) -> int:
        """Rows in the batch, filler included."""
        return len(self.inputs["input_ids"])


def encode(tokenizer: Any, texts: Sequence[Fields], max_length: int) -> list[Encoded]:
    """Tokenize single texts or pairs, cutting the longest field first at `max_length` tokens."""
    columns = list(zip(*(tuple(text.values()) for text in texts), strict=True))
    output = tokenizer(
        *[list(column) for column in columns],
        truncation=True,
        max_length=max_length,
        padding=False,
        return_attention_mask=True,
        return_overflowing_tokens=False,
    )
    names = [name for name in output if isinstance(output[name][0], list)]
    encoded = []
    for i in range(len(texts)):
        inputs = {name: list(output[name][i]) for name in names}
        cut = bool(output.encodings[i].overflowing) if output.encodings else _is_cut(tokenizer, texts[i], max_length)
        encoded.append(Encoded(inputs, len(inputs["input_ids"]), cut))
    return encoded


def _is_cut(tokenizer: Any, text: Fields, max_length: int) -> bool:
    """Whether the text has more tokens than fit, for tokenizers that do not tell."""
    return len(tokenizer(*text.values(), truncation=False, verbose=False)["input_ids"]) > max_length


def batches(
    encoded: Sequence[Encoded],
    *,
    pad_values: dict[str, int],
    limit: int,
    device: torch.device | str,
    at_least: int = 1,
    at_most: int = BATCH_ROWS,
) -> Iterator[Batch]:
    """Group texts by padded length into batches of at most `at_most` rows, filled up to `min_rows`.

    Args:
        encoded: The texts.
        pad_values: Padding id of each tokenizer output.
        limit: Largest padded length (the model's number of positions).
        device: Where the tensors go.
        at_least: Rows a batch holds in any case; more than `min_rows` for models whose head needs it.
        at_most: Texts a batch holds at most.
    """
    by_length: defaultdict[int, list[int]] = defaultdict(list)
    for position, one in enumerate(encoded):
        by_length[padded_length(one.tokens, limit)].append(position)
    for length, positions in sorted(by_length.items()):
        for at in range(0, len(positions), at_most):
            chosen = positions[at : at + at_most]
            filled = chosen + [chosen[-1]] * (max(at_least, min_rows(length)) - len(chosen))
            inputs = {
                name: torch.tensor(
                    [
                        encoded[i].inputs[name] + [pad_values.get(name, 0)] * (length - encoded[i].tokens)
                        for i in filled
                    ],
                    device=device,
                )
                for name in encoded[chosen[0]].inputs
            }
            yield Batch(inputs, chosen, length)
