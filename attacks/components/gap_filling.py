"""Transformations that let a masked language model fill gaps: BAE's, BERT-Attack's and CLARE's, over any model.

They are TextAttack's `WordSwapMaskedLM`, `WordInsertionMaskedLM` and `WordMergeMaskedLM` with these differences:

- Any masked language model works (theirs knows eight families), loaded by the class for masked models (CLARE's is
  loaded as a causal one, which only some families have), where it is, padded to each text's own length (theirs pads
  every text to 512 tokens, and fails on models with fewer positions).
- Words that byte-level BPE writes in other letters are read back. Special and reserved tokens are no words, and
  punctuation after a space takes no place among them.
- The gap is found also where the text itself holds the mask token's letters.
- Insertions and merges see the whole text. Theirs cut it off behind the last word, and the mask token with it where
  that stands first or last, so that these places were never attacked.
- Merges keep to the words that may be changed, and to one field; theirs ignore both. They read NLTK's universal tags,
  as CLARE's authors do, in the place of flair's.
- BAE proposes whole words, as its authors do; theirs also takes pieces of words for words (`pieces`).
- BERT-Attack's combinations of sub-words come in order of perplexity, as the class says of itself. Theirs computes the
  perplexity of each of K^n combinations, discards the order, and takes the first K (`ranked`).
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from heapq import nsmallest
from itertools import accumulate, pairwise
from types import SimpleNamespace
from typing import Any, Final, NamedTuple
from unittest import mock

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.components.masked_lm import Gap, MaskedLM, Rule, is_one_word, load_masked_lm
from robustexit.attacks.textattack_api import (
    WordInsertionMaskedLM,
    WordMergeMaskedLM,
    WordSwapMaskedLM,
    attack_recipes,
    find_merge_index,
    universal_tags,
)
from robustexit.victims.encoding import BATCH_ROWS

_LETTER: Final = re.compile("[a-zA-Z]")

_LATER: Final = 8
"""Words behind the last one asked for that may take free rows; searches ask for one word at a time."""

Span = tuple[int, int]
Choice = tuple[str, float]
"""A sub-word, and what it costs."""


class GapFiller:
    """What the transformations share; mixed into TextAttack's classes, whose names constraints and searches look for.

    Args:
        masked_language_model: The model.
        max_candidates: Words proposed for each gap, at most.
        min_confidence: Least probability of a proposal.
        pieces: Pieces that continue a word are proposed as words too.
        stock: What TextAttack's recipes say besides: tokenizer, batch size, window. The model knows its own.

    Attributes:
        watch: Told how many candidates a call has made so far, before each further gap; it raises where a limit of
            the attempt is reached.
    """

    def __init__(
        self,
        masked_language_model: MaskedLM,
        max_candidates: int = 50,
        min_confidence: float = 5e-4,
        pieces: bool = True,
        **stock: Any,
    ) -> None:
        self.use(masked_language_model)
        self.max_candidates = max_candidates
        self.min_confidence = min_confidence
        self.pieces = pieces
        self.watch: Callable[[int], None] = _unwatched

    def use(self, lm: MaskedLM) -> None:
        """Fill gaps with another model."""
        self.lm = lm
        self.masked_lm_name = type(lm.model).__name__
        self.max_length = lm.limit

    def fill(
        self, indices: Sequence[int], gaps: Sequence[Gap], spare: Sequence[Gap] = ()
    ) -> Iterator[tuple[int, list[str]]]:
        """Yield what the model proposes for the gap at each index, a batch of gaps at a time: a limit may end it."""
        rule = Rule(self.max_candidates, self.min_confidence, self.pieces)
        for at in range(0, len(gaps), BATCH_ROWS):
            batch = slice(at, at + BATCH_ROWS)
            yield from zip(indices[batch], self.lm.fill(gaps[batch], rule, spare), strict=True)

    def candidates(
        self,
        text: Any,
        proposals: Iterable[tuple[int, list[str]]],
        put: Callable[[int, str], Any],
        *,
        more: int = 0,
        letters: bool = True,
    ) -> list[Any]:
        """Return a text for each proposal that is not the word it is proposed for, each text once.

        A text in which the proposal has run into its neighbours, so that other words lie elsewhere than TextAttack
        thinks, is left out (Chinese, which it splits by a dictionary).

        Args:
            text: The current text.
            proposals: Index of a word, and the words proposed for it.
            put: Returns the text with a word at an index.
            more: Words that the text then holds more than before.
            letters: Only proposals that hold a letter.
        """
        expected = text.num_words + more
        made: dict[str, Any] = {}
        for index, words in proposals:
            self.watch(len(made))
            for word in words:
                if word != text.words[index] and (_LETTER.search(word) or not letters):
                    changed = put(index, word)
                    if changed.num_words == expected:
                        made.setdefault(changed.text, changed)
        self.watch(len(made))
        return list(made.values())


def _unwatched(made: int) -> None:
    """No limit."""


def word_spans(text: Any) -> list[Span]:
    """Return where each word of a TextAttack text begins and ends in it."""
    spans, end = [], 0
    for word in text.words:
        start = text.text.index(word, end)
        end = start + len(word)
        spans.append((start, end))
    return spans


class MaskedSwap(GapFiller, WordSwapMaskedLM):  # type: ignore[misc]  # TextAttack is untyped
    """Replaces a word: by what fills the gap it leaves (BAE, CLARE), or by what the model reads it as (BERT-Attack).

    Args:
        method: ``bae`` or ``bert-attack``.
        ranked: BERT-Attack's combinations in order of perplexity; in that of their sub-words' ranks otherwise.
        shared: As for `GapFiller`.
    """

    def __init__(self, method: str = "bae", ranked: bool = True, **shared: Any) -> None:
        super().__init__(**shared)
        self.method = method
        self.ranked = ranked

    def _get_transformations(self, current_text: Any, indices_to_modify: Iterable[int]) -> list[Any]:
        indices, spans = list(indices_to_modify), word_spans(current_text)
        whole = current_text.text
        if self.method == "bert-attack":
            proposals: Iterable[tuple[int, list[str]]] = ((i, self._read_as(whole, spans[i])) for i in indices)
        else:
            wanted = [self._gap(whole, spans[i]) for i in indices]
            later = spans[max(indices, default=0) + 1 :][:_LATER]
            proposals = self.fill(indices, wanted, [self._gap(whole, span) for span in later])
        put, letters = current_text.replace_word_at_index, self.method != "bert-attack"
        return self.candidates(current_text, proposals, put, letters=letters)

    def _gap(self, text: str, span: Span) -> Gap:
        return self.lm.gap(text[: span[0]], text[span[1] :])

    def _read_as(self, text: str, span: Span) -> list[str]:
        """Return the likeliest words in the place of one that is not masked, by its sub-words' predictions."""
        logits, offsets = self.lm.read(text)
        places = [place for place, (start, end) in enumerate(offsets) if start < span[1] and end > span[0]]
        if not places:
            return []
        vocabulary = self.lm.vocabulary
        scores, ids = logits[places].log_softmax(-1).topk(min(self.max_candidates, logits.shape[1]))
        if len(places) == 1:
            allowed = vocabulary.allowed(False, at_start=span[0] == 0)
            return [vocabulary.texts[i] for i in ids[0].tolist() if allowed[i]]
        choices = [
            [(vocabulary.texts[i], -score) for i, score in pairs if i not in vocabulary.special]
            for pairs in (zip(ids[k].tolist(), scores[k].tolist(), strict=True) for k in range(len(places)))
        ]
        return best_combinations(choices, self.max_candidates, ranked=self.ranked)


class _Reading(NamedTuple):
    """How far TextAttack's splitter has got in a text: words so far, and what the run of letters it is in holds.

    Words are runs of letters and the like that hold more than apostrophes, hyphens, underscores, asterisks and at
    signs.
    """

    words: int = 0
    in_word: bool = False

    def over(self, text: str) -> _Reading | None:
        """Return the state after more text, or None after a second word."""
        words, in_word = self
        for character in text:
            if not in_word and is_one_word(character):
                words, in_word = words + 1, True
            elif in_word and not is_one_word(f"a{character}a"):
                in_word = False
        return _Reading(words, in_word) if words <= 1 else None


def best_combinations(choices: Sequence[Sequence[Choice]], count: int, *, ranked: bool = True) -> list[str]:
    """Return the combinations of one sub-word from each list that are one word, the cheapest first.

    The cheapest are those of the least perplexity, since the mean of their costs is its logarithm. Among K^n
    combinations they are found without making them all: of the beginnings that the splitter reads alike, only the
    `count` cheapest can begin one of the `count` cheapest combinations.

    Args:
        choices: For each position, its sub-words with their costs, in the model's order.
        count: Combinations, at most.
        ranked: By their costs; by the ranks of their sub-words otherwise, the first position's first.
    """
    begun: dict[_Reading, list[tuple[float, tuple[int, ...], str]]] = {_Reading(): [(0.0, (), "")]}
    for position in choices:
        longer: defaultdict[_Reading, list[tuple[float, tuple[int, ...], str]]] = defaultdict(list)
        for reading, beginnings in begun.items():
            for rank, (piece, cost) in enumerate(position):
                after = reading.over(piece)
                if after is not None:
                    longer[after] += [
                        (total + cost * ranked, (*ranks, rank), text + piece) for total, ranks, text in beginnings
                    ]
        begun = {reading: nsmallest(count, beginnings) for reading, beginnings in longer.items()}
    whole = [found for reading, found in begun.items() if reading.words == 1]
    best = nsmallest(count, (one for found in whole for one in found if is_one_word(one[2])))
    return list(dict.fromkeys(text for _, _, text in best))


class MaskedInsertion(GapFiller, WordInsertionMaskedLM):  # type: ignore[misc]  # TextAttack is untyped
    """Inserts a word before another (CLARE). Arguments as for `GapFiller`."""

    def _get_transformations(self, current_text: Any, indices_to_modify: Iterable[int]) -> list[Any]:
        indices, whole = list(indices_to_modify), current_text.text
        starts = [start for start, _ in word_spans(current_text)]
        gaps = [self.lm.gap(whole[: starts[i]], " " + whole[starts[i] :]) for i in indices]
        put = current_text.insert_text_before_word_index
        return self.candidates(current_text, self.fill(indices, gaps), put, more=1)


class MaskedMerge(GapFiller, WordMergeMaskedLM):  # type: ignore[misc]  # TextAttack is untyped
    """Replaces two words by one where their parts of speech allow it (CLARE). Arguments as for `GapFiller`."""

    def __init__(self, **shared: Any) -> None:
        super().__init__(**shared)
        self.tag = tagger()

    def _get_transformations(self, current_text: Any, indices_to_modify: Iterable[int]) -> list[Any]:
        spans = word_spans(current_text)
        indices = self._mergeable(current_text, set(indices_to_modify))
        gaps = [self._gap(current_text.text, spans[i], spans[i + 1]) for i in indices]

        def put(index: int, word: str) -> Any:
            return current_text.delete_word_at_index(index + 1).replace_word_at_index(index, word)

        return self.candidates(current_text, self.fill(indices, gaps), put, more=-1)

    def _gap(self, text: str, first: Span, second: Span) -> Gap:
        between = text[first[1] : second[0]].removesuffix(" ")  # the space that TextAttack deletes with the word
        return self.lm.gap(text[: first[0]], between + text[second[1] :])

    def _mergeable(self, text: Any, modifiable: set[int]) -> list[int]:
        """Return the words that may be merged with the next one, which is in the same field."""
        ends = set(accumulate(len(words) for words in text.words_per_input))
        pairs = pairwise(range(text.num_words))
        first = [i for i, after in pairs if {i, after} <= modifiable and after not in ends]
        merged: list[int] = find_merge_index(self.tag(text.words), first) if first else []
        return merged


def tagger() -> Callable[[Sequence[str]], list[str]]:
    """Return what gives each word of a text its universal part of speech: NLTK, or the lexicon-based tagger."""
    if resources.find("pos-tagger").found:
        return universal_tags
    from robustexit.attacks.components.pos import lexicon_tagger

    return lexicon_tagger().tag


def parts(transformation: Any) -> list[Any]:
    """Return the transformations that a transformation is made of."""
    return list(getattr(transformation, "transformations", [transformation]))


@contextmanager
def _over(lm: MaskedLM) -> Iterator[None]:
    """Let TextAttack's recipes build our transformations over a model."""
    with ExitStack() as stack:
        for theirs, ours in (
            (WordSwapMaskedLM, MaskedSwap),
            (WordInsertionMaskedLM, MaskedInsertion),
            (WordMergeMaskedLM, MaskedMerge),
        ):
            stack.enter_context(in_recipes(theirs, partial(_built, ours, lm)))
        stack.enter_context(clare_loads_nothing())
        yield


def clare_loads_nothing() -> AbstractContextManager[Any]:
    """Keep CLARE's recipe from loading a model of its own, which it hands to its transformations."""
    loader = SimpleNamespace(from_pretrained=lambda name: None)
    nothing = SimpleNamespace(AutoModelForCausalLM=loader, AutoTokenizer=loader)
    return mock.patch.object(sys.modules[attack_recipes.CLARE2020.__module__], "transformers", nothing)


def _built(kind: Any, lm: MaskedLM, **stock: Any) -> Any:
    return kind(**{**stock, "masked_language_model": lm})


@route("masked-lm")
def bert() -> AbstractContextManager[None]:
    """BERT, or what the user configured in its place, fills the gaps."""
    return _over(load_masked_lm("masked-lm"))


@route("masked-lm-roberta")
def roberta() -> AbstractContextManager[None]:
    """DistilRoBERTa, or what the user configured in its place, fills the gaps."""
    return _over(load_masked_lm("masked-lm-roberta"))
