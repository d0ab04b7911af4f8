"""Causal language models of any folder in the place of the three that TextAttack's recipes were made with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.textattack_api import (
    GPT2,
    Constraint,
    Google1BillionWordsLanguageModel,
    LearningToWriteLanguageModel,
    WordSwap,
)
from robustexit.errors import ModelError
from robustexit.models.loading import load_tokenizer
from robustexit.models.sources import check_config_file, load_weights
from robustexit.victims.encoding import Encoded, batches

_MAX_LENGTH: Final = 512
"""Tokens of context at most, where the model's own limit is larger or unknown."""


class CausalLM:
    """Log-probabilities of pieces of text under a causal language model, each a function of the piece alone.

    Args:
        folder: A model folder as ``save_pretrained`` writes it, with a fast tokenizer.

    Raises:
        ModelError: The folder does not hold such a model.
    """

    def __init__(self, folder: str) -> None:
        check_config_file(folder)
        self._tokenizer: Any = load_tokenizer(folder)
        self._model: Any = load_weights(
            AutoModelForCausalLM, folder, allow_network=False, trust_remote_code=False, torch_dtype=torch.float32
        )
        if not self._tokenizer.is_fast:
            raise ModelError(f"{folder}: expected a fast tokenizer (tokenizer.json), got a slow one")
        positions = getattr(self._model.config, "max_position_embeddings", None)
        self._limit = min(int(positions or _MAX_LENGTH), _MAX_LENGTH)
        self._start = self._tokenizer.bos_token_id
        if self._start is None:
            self._start = self._tokenizer.eos_token_id

    def log_probs(self, pieces: Sequence[tuple[str, str]]) -> list[float]:
        """Return the log-probability (nats) of each text that follows another.

        All tokens that hold a character of the text count. Of long contexts the end is read. Without a token that
        texts begin with, a text's very first token counts as certain.

        Args:
            pieces: (what stands before, the text), joined as they are.
        """
        encoded = [self._encode(before, text) for before, text in pieces]
        found = [0.0] * len(pieces)
        rows = [Encoded({"input_ids": ids, "attention_mask": [1] * len(ids)}, len(ids), False) for ids, _ in encoded]
        with torch.inference_mode():
            for batch in batches(rows, pad_values={}, limit=self._limit, device=self._model.device):
                logits = self._model(**batch.inputs).logits.float()
                for row, position in enumerate(batch.positions):
                    found[position] = _sum_of_last(logits[row], *encoded[position])
        return found

    def _encode(self, before: str, text: str) -> tuple[list[int], int]:
        """Return token ids, and how many of them, at the end, are to be counted for `text`."""
        whole = self._tokenizer(before + text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        ids = list(whole["input_ids"])
        asked = sum(end > len(before) for _, end in whole["offset_mapping"])
        ids = [*([] if self._start is None else [self._start]), *ids][-self._limit :]
        return ids, max(min(asked, len(ids) - 1), 0)


def _sum_of_last(logits: torch.Tensor, ids: list[int], asked: int) -> float:
    """Return the log-probability of the last `asked` tokens; logits of shape [tokens or more, V]."""
    if not asked:
        return 0.0
    first, last = len(ids) - asked, len(ids)
    chosen = torch.tensor(ids[first:last], device=logits.device)[:, None]
    return float(logits[first - 1 : last - 1].log_softmax(dim=-1).gather(1, chosen).sum())


@lru_cache(maxsize=2)
def load_lm(folder: str) -> CausalLM:
    """Return a language model, loaded once a process.

    Raises:
        ModelError: The folder does not hold one.
    """
    return CausalLM(folder)


class _Scores(Constraint, ABC):  # type: ignore[misc]  # TextAttack is untyped
    """What the three constraints share: the model, batches over candidates, memory within an attempt."""

    def __init__(self, folder: str, compare_against_original: bool) -> None:
        super().__init__(compare_against_original)
        self.folder = folder
        self._known: dict[tuple[str, str], float] = {}

    def clear_cache(self) -> None:
        """Forget the texts of the last attempt."""
        self._known.clear()

    def scores(self, pieces: Sequence[tuple[str, str]]) -> list[float]:
        """Return `CausalLM.log_probs`, each piece computed once in an attempt."""
        new = [piece for piece in dict.fromkeys(pieces) if piece not in self._known]
        if new:
            self._known.update(zip(new, load_lm(self.folder).log_probs(new), strict=True))
        return [self._known[piece] for piece in pieces]

    def _check_constraint(self, transformed_text: Any, reference_text: Any) -> bool:
        return bool(self._check_constraint_many([transformed_text], reference_text))

    @abstractmethod
    def _check_constraint_many(self, transformed_texts: Sequence[Any], reference_text: Any) -> list[Any]: ...


class MostLikelyWords(_Scores):
    """Keep the candidates whose new word the language model finds likeliest in its place (Alzantot et al. 2018).

    "Filter out words that do not fit within the context surrounding the word [...] by ranking the candidates by their
    language model scores": here, the log-probability of the new word after all that stands before it. (TextAttack's
    constraint asks its model for the word after the previous word alone; it then keeps as many candidates as it
    should, but the first ones of the list, whatever their scores.) Where the model gives a text's first word no
    probability, all are equally likely there and the first ones stay.

    Args:
        folder: Folder of the model.
        top_n: Candidates kept of all, or None.
        top_n_per_index: Candidates kept for each word, or None.
        compare_against_original: Tell the changed word by the original text rather than by the last one.
    """

    def __init__(
        self,
        folder: str,
        top_n: int | None = None,
        top_n_per_index: int | None = None,
        compare_against_original: bool = True,
    ) -> None:
        super().__init__(folder, compare_against_original)
        self.top_n = top_n
        self.top_n_per_index = top_n_per_index

    def check_compatibility(self, transformation: Any) -> bool:
        """Whether candidates differ from the text before by single words, which can be ranked."""
        return isinstance(transformation, WordSwap)

    def _check_constraint_many(self, transformed_texts: Sequence[Any], reference_text: Any) -> list[Any]:
        places = [reference_text.first_word_diff_index(text) for text in transformed_texts]
        known = [i for i, place in enumerate(places) if place is not None]
        asked = [_word_at(transformed_texts[i], places[i]) for i in known]
        scores = dict(zip(known, self.scores(asked), strict=True))
        groups: dict[int, list[int]] = defaultdict(list)
        for i in known:
            groups[places[i]].append(i)
        kept = [i for group in groups.values() for i in _best(group, scores, self.top_n_per_index)]
        return [transformed_texts[i] for i in sorted(_best(kept, scores, self.top_n))]

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of it."""
        return ["folder", "top_n", "top_n_per_index", *super().extra_repr_keys()]


def _best(candidates: list[int], scores: dict[int, float], count: int | None) -> list[int]:
    """Return the `count` candidates of the highest scores, equal ones in their order; all of them for None."""
    return sorted(candidates, key=lambda i: -scores[i])[:count] if count else candidates


def _word_at(text: Any, place: int) -> tuple[str, str]:
    """Return what stands before a word, and the word."""
    return text.text_until_word_index(place), text.words[place]


class _SmallLoss(_Scores):
    """Let a candidate pass whose log-probability is less than `max_log_prob_diff` nats below its reference's."""

    def __init__(self, folder: str, max_log_prob_diff: float, compare_against_original: bool) -> None:
        super().__init__(folder, compare_against_original)
        self.max_log_prob_diff = max_log_prob_diff

    def _check_constraint_many(self, transformed_texts: Sequence[Any], reference_text: Any) -> list[Any]:
        changed = [sorted(text.attack_attrs["newly_modified_indices"]) for text in transformed_texts]
        pairs = [
            (i, self.piece(reference_text, reference_text, place), self.piece(text, reference_text, place))
            for i, text in enumerate(transformed_texts)
            for place in changed[i]
        ]
        scores = self.scores([piece for _, before, after in pairs for piece in (before, after)])
        worse = {
            i
            for (i, _, _), before, after in zip(pairs, scores[::2], scores[1::2], strict=True)
            if after <= before - self.max_log_prob_diff
        }
        return [text for i, text in enumerate(transformed_texts) if i not in worse]

    @abstractmethod
    def piece(self, text: Any, reference: Any, place: int) -> tuple[str, str]:
        """Return what is compared at a changed word: a text, and what stands before it."""

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of it."""
        return ["folder", "max_log_prob_diff", *super().extra_repr_keys()]


class WordLikelihood(_SmallLoss):
    """Bounds how much less likely the new word is than the old one, after what stands before it in the reference.

    Kuleshov et al. (2018) bound the difference of the whole texts' log-probabilities; TextAttack's constraint, which
    this follows, looks at the changed word. TextAttack reads the first token of the word, as if no space stood before
    it; here all the word's tokens count, in the text as it stands. A word without a letter before it passes.

    Args:
        folder: Folder of the model.
        max_log_prob_diff: Nats (the authors' lambda_2).
        compare_against_original: Compare with the original text rather than with the last one.
        model_name: TextAttack's name of its model; not used.
    """

    def __init__(
        self,
        folder: str,
        model_name: str = "gpt2",
        max_log_prob_diff: float = 2.0,
        compare_against_original: bool = True,
    ) -> None:
        super().__init__(folder, max_log_prob_diff, compare_against_original)

    def piece(self, text: Any, reference: Any, place: int) -> tuple[str, str]:
        """Return the reference's words before the changed one, and that word; nothing without a letter before it."""
        before = reference.text_until_word_index(place)
        return (before, text.words[place]) if any(c.isascii() and c.isalpha() for c in before) else ("", "")


class WindowLikelihood(_SmallLoss):
    """Bounds how much less likely the window around the new word is than that around the old one (Jia et al. 2019).

    The window is TextAttack's: `window_size` words in all, where the authors take that many on either side.

    Args:
        folder: Folder of the model.
        window_size: Words.
        max_log_prob_diff: Nats (the authors' delta).
        compare_against_original: Compare with the original text rather than with the last one.
    """

    def __init__(
        self,
        folder: str,
        window_size: int = 5,
        max_log_prob_diff: float = 5.0,
        compare_against_original: bool = True,
    ) -> None:
        super().__init__(folder, max_log_prob_diff, compare_against_original)
        self.window_size = window_size

    def piece(self, text: Any, reference: Any, place: int) -> tuple[str, str]:
        """Return the window around the changed word, nothing before it."""
        return "", text.text_window_around_index(place, self.window_size)


@contextmanager
def _standing_in(name: str, stock: Any, ours: Any) -> Iterator[None]:
    here = resources.find(name)
    if here.found:
        yield
        return
    with in_recipes(stock, partial(ours, here.where)):
        yield


@route("google-lm")
@contextmanager
def google_lm() -> Iterator[None]:
    """TextAttack's own where it is found."""
    with _standing_in("google-lm", Google1BillionWordsLanguageModel, MostLikelyWords):
        yield


@route("learning-to-write-lm")
@contextmanager
def learning_to_write_lm() -> Iterator[None]:
    """TextAttack's own where it is found."""
    with _standing_in("learning-to-write-lm", LearningToWriteLanguageModel, WindowLikelihood):
        yield


@route("causal-lm")
@contextmanager
def causal_lm() -> Iterator[None]:
    """GPT-2 too: TextAttack's own would ask the Hub for it."""
    with in_recipes(GPT2, partial(WordLikelihood, resources.find("causal-lm").where)):
        yield
