"""Masked language models that propose words for a gap: loaded once a process, shared by recipes and cells.

What is proposed for a gap is a function of the text alone: texts are padded by the victims' own rule, so that it does
not matter what else is asked at the same time, and answers are remembered.
"""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from robustexit.attacks import resources
from robustexit.attacks.resources.masked_lm import BERT, DISTILROBERTA, XLM_ROBERTA
from robustexit.attacks.textattack_api import words_from_text
from robustexit.errors import ModelError
from robustexit.models.encoders import adapter_class
from robustexit.models.loading import load_tokenizer
from robustexit.models.sources import check_config_file, load_weights, resolve_backbone
from robustexit.victims.encoding import Encoded, batches, encode, min_rows, padded_length

MAX_LENGTH: Final = 512
"""Tokens that TextAttack shows a masked language model; words behind them get no proposals."""
PUBLISHED: Final = {
    "masked-lm": BERT[0],
    "masked-lm-roberta": DISTILROBERTA[0],
    "masked-lm-chinese": XLM_ROBERTA[0],
}
"""Ids on the Hub of the models that the recipes' authors used."""

_REMEMBERED: Final = 2**14
_TEXTS_REMEMBERED: Final = 4
_RESERVED: Final = re.compile(r"[\[<].*[\]>]")
"""Entries that no text means, as BERT's ``[unused7]``."""


@dataclass(frozen=True)
class Gap:
    """A gap in a text.

    Attributes:
        text: The text with the model's mask token in it.
        nth: Which of its mask tokens is the gap, from 0: the text may hold the mask token's letters itself.
    """

    text: str
    nth: int


@dataclass(frozen=True)
class Rule:
    """Which of the model's predictions for a gap are proposed.

    Attributes:
        count: The most likely words, at most.
        least: Least probability.
        pieces: Pieces that continue a word count as words of their own.
    """

    count: int
    least: float
    pieces: bool


@dataclass(frozen=True)
class Vocabulary:
    """What the entries of a model's vocabulary mean in a text.

    Attributes:
        texts: What each entry adds to a text, without the space before it.
        is_word: It is one word by TextAttack's splitter, and no special or reserved entry, shape [V].
        begins: It begins a word rather than continuing one, shape [V].
        space_marked: What marks a word's beginning is the space before it (byte-level BPE), so that the first word
            of a text looks like a piece.
        special: Ids of the special entries.
    """

    texts: list[str]
    is_word: Tensor
    begins: Tensor
    space_marked: bool
    special: frozenset[int]

    @classmethod
    def of(cls, tokenizer: Any, size: int) -> Vocabulary:
        """Read a tokenizer's vocabulary.

        Decoding each entry behind a word tells for every kind of tokenizer whether it continues that word, and gives
        back the letters that byte-level BPE writes as other ones.

        Args:
            tokenizer: The tokenizer.
            size: V, the model's number of entries, which may be larger than the tokenizer's.
        """
        word = tokenizer("a", add_special_tokens=False)["input_ids"]
        shown = tokenizer.decode(word, clean_up_tokenization_spaces=False)
        decoded = tokenizer.batch_decode(
            [[*word, i] for i in range(min(size, len(tokenizer)))], clean_up_tokenization_spaces=False
        )
        added = [text.removeprefix(shown) for text in decoded]
        texts = [text.removeprefix(" ") for text in added] + [""] * (size - len(added))
        special = frozenset(tokenizer.all_special_ids)
        is_word = [
            i not in special and "\ufffd" not in text and not _RESERVED.fullmatch(text) and is_one_word(text)
            for i, text in enumerate(texts)
        ]
        begins = [text.startswith(" ") for text in added] + [False] * (size - len(added))
        twice = tokenizer("a a", add_special_tokens=False)["input_ids"]
        return cls(texts, torch.tensor(is_word), torch.tensor(begins), twice[len(word) :] != word, special)

    def allowed(self, pieces: bool, at_start: bool) -> Tensor:
        """Return which entries may fill a gap, shape [V].

        Args:
            pieces: Also those that continue a word.
            at_start: The gap is the first word of the text.
        """
        if pieces or (at_start and self.space_marked):
            return self.is_word
        return self.is_word & self.begins


def is_one_word(text: str) -> bool:
    """Whether TextAttack sees exactly one word in a text."""
    return len(words_from_text(text)) == 1


class MaskedLM:
    """A masked language model with its tokenizer.

    Args:
        model: The model; it is put in evaluation mode and stays on its device.
        tokenizer: Its tokenizer.
        where: Where it comes from, for messages.

    Raises:
        ModelError: A tokenizer that has no mask token, cannot tell where its tokens lie, or is larger than the model.
    """

    def __init__(self, model: Any, tokenizer: Any, where: str = "") -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        if tokenizer.mask_token_id is None or not tokenizer.is_fast:
            lacking = "no mask token" if tokenizer.mask_token_id is None else "a slow tokenizer, without offsets"
            raise ModelError(
                f"{where}: expected a masked language model with a fast tokenizer, got {lacking}; "
                "give another model as masked-lm"
            )
        self._size = len(model.get_output_embeddings().weight)
        if len(tokenizer) > self._size:
            raise ModelError(
                f"{where}: expected a tokenizer that fits the model, got {len(tokenizer)} tokens, {self._size} "
                "outputs; save this model's own tokenizer with it"
            )
        self._pad = {
            "input_ids": tokenizer.pad_token_id or 0,
            "token_type_ids": getattr(tokenizer, "pad_token_type_id", 0),
        }
        self.limit = min(_positions(model.config), tokenizer.model_max_length, MAX_LENGTH)
        self._takes = frozenset(inspect.signature(model.forward).parameters)
        self._filled: dict[tuple[Gap, Rule], list[str]] = {}
        self._read: dict[str, tuple[Tensor, list[tuple[int, int]]]] = {}
        self._copies: dict[torch.device, MaskedLM] = {}

    @property
    def mask(self) -> str:
        """The mask token, as it stands in a text."""
        return str(self.tokenizer.mask_token)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.model.device
        return device

    def on(self, device: torch.device) -> MaskedLM:
        """Return the model on a device: itself where it is there, else a copy, made once."""
        if device == self.device:
            return self
        if device not in self._copies:
            self._copies[device] = MaskedLM(copy.deepcopy(self.model).to(device), self.tokenizer)
        return self._copies[device]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What its outputs mean in a text."""
        return Vocabulary.of(self.tokenizer, self._size)

    def gap(self, before: str, after: str) -> Gap:
        """Return the gap between two parts of a text."""
        return Gap(before + self.mask + after, before.count(self.mask))

    def fill(self, gaps: Sequence[Gap], rule: Rule, spare: Sequence[Gap] = ()) -> list[list[str]]:
        """Return what is proposed for each gap, most likely first; nothing for a gap beyond `limit` tokens.

        Args:
            gaps: The gaps.
            rule: Which predictions are proposed.
            spare: Gaps that may be asked for later: they take the rows that a batch would be filled up with.
        """
        new = [gap for gap in dict.fromkeys(gaps) if (gap, rule) not in self._filled]
        if new:
            encoded = self._encode([gap.text for gap in new])
            riders = [gap for gap in dict.fromkeys(spare) if gap not in new and (gap, rule) not in self._filled]
            riders, seats = self._free_rows(encoded, riders)
            self._predict([*new, *riders], [*encoded, *seats], rule)
        found = [self._filled[gap, rule] for gap in gaps]
        _forget(self._filled, _REMEMBERED)
        return found

    def read(self, text: str) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return what the model makes of a text without a gap.

        Returns:
            Logits at every token, shape [tokens, V], on the CPU, and where the tokens lie in the text, special ones
            at (0, 0). Tokens beyond `limit` are left out.
        """
        if text not in self._read:
            encoded = self._encode([text])
            offsets = self.tokenizer(text, truncation=True, max_length=self.limit, return_offsets_mapping=True)
            (batch,) = batches(encoded, pad_values=self._pad, limit=self.limit, device=self.device)
            logits = self._logits(batch.inputs, lambda hidden: hidden[:1])[0, : encoded[0].tokens]
            self._read[text] = logits.cpu(), [(int(a), int(b)) for a, b in offsets["offset_mapping"]]
            _forget(self._read, _TEXTS_REMEMBERED)
        return self._read[text]

    def forget(self) -> None:
        """Forget what was asked."""
        self._filled.clear()
        self._read.clear()

    def _encode(self, texts: Sequence[str]) -> list[Encoded]:
        return encode(self.tokenizer, [{"text": text} for text in texts], self.limit)

    def _free_rows(self, encoded: Sequence[Encoded], spare: Sequence[Gap]) -> tuple[list[Gap], list[Encoded]]:
        """Choose spare gaps for the rows that the batches of `encoded` would hold copies in."""
        lengths = [padded_length(one.tokens, self.limit) for one in encoded]
        free = {length: min_rows(length) - lengths.count(length) for length in set(lengths)}
        riders, seats = [], []
        if spare and max(free.values()) > 0:
            for gap, one in zip(spare, self._encode([gap.text for gap in spare]), strict=True):
                length = padded_length(one.tokens, self.limit)
                if free.get(length, 0) > 0:
                    free[length] -= 1
                    riders.append(gap)
                    seats.append(one)
        return riders, seats

    def _predict(self, gaps: Sequence[Gap], encoded: Sequence[Encoded], rule: Rule) -> None:
        """Remember what is proposed for each gap."""
        places = [self._place(gap, one) for gap, one in zip(gaps, encoded, strict=True)]
        for batch in batches(encoded, pad_values=self._pad, limit=self.limit, device=self.device):
            at = torch.tensor([places[position] or 0 for position in batch.positions])
            at = torch.cat([at, at[-1:].expand(batch.rows - len(at))]).to(self.device)
            rows = torch.arange(batch.rows, device=self.device)
            probabilities = self._logits(batch.inputs, partial(_states_at, rows, at)).squeeze(1).softmax(-1)
            for row, position in enumerate(batch.positions):
                place = places[position]
                proposed = [] if place is None else self._proposed(probabilities[row], rule, at_start=place == 1)
                self._filled[gaps[position], rule] = proposed

    def _place(self, gap: Gap, encoded: Encoded) -> int | None:
        """Return at which token a gap lies, or None if it is cut off."""
        ids = encoded.inputs["input_ids"]
        masks = [place for place, i in enumerate(ids) if i == self.tokenizer.mask_token_id]
        return masks[gap.nth] if gap.nth < len(masks) else None

    def _proposed(self, probabilities: Tensor, rule: Rule, *, at_start: bool) -> list[str]:
        allowed = self.vocabulary.allowed(rule.pieces, at_start).to(probabilities.device)
        ranked = probabilities.masked_fill(~allowed, -1.0).topk(min(rule.count, len(allowed)))
        pairs = zip(ranked.indices.tolist(), ranked.values.tolist(), strict=True)
        return list(dict.fromkeys(self.vocabulary.texts[i] for i, p in pairs if p >= max(rule.least, 0.0)))

    def _logits(self, inputs: dict[str, Tensor], select: Callable[[Tensor], Tensor]) -> Tensor:
        """Run the model, its head only on the states that `select` takes from [rows, tokens, width]."""
        base = self.model.base_model
        handle = None

        def keep(module: Any, arguments: Any, output: Any) -> Any:
            states = select(output[0])
            if isinstance(output, tuple):
                return (states, *output[1:])
            output["last_hidden_state"] = states
            return output

        if base is not self.model:
            handle = base.register_forward_hook(keep)
        try:
            with torch.inference_mode():
                # A tokenizer may give more than its model takes: BERT's segments to a DistilBERT.
                taken = {name: value for name, value in inputs.items() if name in self._takes}
                logits: Tensor = self.model(**taken).logits
        finally:
            if handle is not None:
                handle.remove()
        return (select(logits) if handle is None else logits).float()


def _states_at(rows: Tensor, tokens: Tensor, states: Tensor) -> Tensor:
    """Return one token's state of each row, shape [rows, 1, width]."""
    return states[rows, tokens].unsqueeze(1)


def _positions(config: Any) -> int:
    """Return the longest input in tokens that a model has positions for."""
    try:
        return adapter_class(config.model_type).position_limit(config)
    except ModelError:  # a family that cannot run layer by layer, which is not needed here
        return int(getattr(config, "max_position_embeddings", None) or MAX_LENGTH)


def _forget(memory: dict[Any, Any], kept: int) -> None:
    """Drop the oldest entries beyond a number."""
    while len(memory) > kept:
        del memory[next(iter(memory))]


def load_masked_lm(resource: str) -> MaskedLM:
    """Load the model that a resource stands for, once a process.

    Args:
        resource: Name of the resource: ``masked-lm``, ``masked-lm-roberta`` or ``masked-lm-chinese``.

    Raises:
        ResourceError: It is missing.
        ModelError: It is no masked language model, or cannot be read.
    """
    (found,) = resources.require([resource])
    named = found.where if Path(found.where).is_dir() else resources.configured(resource) or PUBLISHED[resource]
    return _load(resolve_backbone(named, allow_network=resources.network_allowed()))


@lru_cache(maxsize=4)
def _load(where: str) -> MaskedLM:
    check_config_file(where)
    network = resources.network_allowed()
    model = load_weights(AutoModelForMaskedLM, where, allow_network=network, trust_remote_code=False)
    return MaskedLM(model, load_tokenizer(where, allow_network=network), where)
