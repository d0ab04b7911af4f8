"""What follows the gradient of the goal's score: a ranking of words, swaps of words, edits of characters.

Two of them stand in the place of parts of TextAttack that do not work on transformers:

- `WordSwapGradientBased` works for models whose words are their tokens: it takes a word's number for its token's,
  offers pieces of words, special and unused tokens as words, offers the word itself, and prefers a word that the model
  does not see to any whose best swap lowers the score. `WordSwapGradient` does none of this.
- `GreedyWordSwapWIR` by gradient takes the gradient of the text up to the last word that may change (not of the text,
  with its full stop and its last stop words), looks for a word's tokens by their letters, which special tokens, marks
  like ``##``, unknown tokens and truncation mislead, and the gradient it gets from TextAttack's model is that of the
  loss at the predicted label, in training mode with dropout. `GradientRanking` finds tokens by where they stand.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from robustexit.attacks.components.homoglyphs import TableHomoglyphs
from robustexit.attacks.textattack_api import (
    GreedyWordSwapWIR,
    WordSwap,
    WordSwapGradientBased,
    WordSwapNeighboringCharacterSwap,
    WordSwapRandomCharacterDeletion,
    WordSwapRandomCharacterInsertion,
    strings,
    words_from_text,
)
from robustexit.attacks.views import GRADIENTS, Seen
from robustexit.errors import ConfigError
from robustexit.victims.gradients import DifferentiableTrace, Gradient, differentiable, embedding_table

if TYPE_CHECKING:
    from robustexit.attacks.goal_function import TraceGoalFunction
    from robustexit.attacks.wrapper import VictimWrapper

START: Final = ""
"""What stands before the first word of a field."""


def differentiate_goal(goal_function: TraceGoalFunction) -> VictimWrapper:
    """Let the goal's victim give gradients of the goal's own score, with the label and the start of each attempt.

    Returns:
        The victim's wrapper, for TextAttack's white-box parts.

    Raises:
        ConfigError: The view or the victim shows no gradients.
    """
    if GRADIENTS not in goal_function.view.shows:
        raise ConfigError(f"a white-box attack needs the view 'gradients', got {goal_function.view.name!r}")
    wrapper: VictimWrapper = goal_function.model
    differentiable(wrapper.model)

    def objective(trace: DifferentiableTrace) -> torch.Tensor:
        assert goal_function.start is not None
        seen = Seen(trace.answer, wrapper.num_exits, trace.probabilities, trace.exit, trace.logits)
        return goal_function.goal.score(seen, goal_function.ground_truth_output, goal_function.start)

    wrapper.objective = objective
    return wrapper


@dataclass(frozen=True)
class Word:
    """One word of a text as the model sees it.

    Attributes:
        before: The character before it; empty at the start of a field.
        tokens: Positions of its tokens; none where the model does not see it (truncated).
    """

    before: str
    tokens: tuple[int, ...]


def words_with_tokens(attacked_text: Any, gradient: Gradient) -> list[Word]:
    """Return every word of a text with its tokens, found by where both stand.

    Args:
        attacked_text: TextAttack's text.
        gradient: Of the same text.
    """
    fields = attacked_text.tokenizer_input
    fields = (fields,) if isinstance(fields, str) else fields
    starts = np.cumsum([0, *(len(field) + 1 for field in fields)])
    text = "\n".join(fields)  # as TextAttack joins them
    spans = [
        None if span is None else (starts[span.field] + span.start, starts[span.field] + span.end)
        for span in gradient.spans
    ]
    found, at = [], 0
    for word in attacked_text.words:
        start = text.find(word, at)
        at = start + len(word)
        tokens = tuple(i for i, span in enumerate(spans) if span is not None and span[0] < at and span[1] > start)
        found.append(Word(START if start in starts else text[start - 1], tokens))
    return found


class Vocabulary:
    """The words that a model's tokenizer makes one token of.

    Args:
        tokenizer: A fast Hugging Face tokenizer.
        size: Tokens that have an embedding.
    """

    def __init__(self, tokenizer: Any, size: int) -> None:
        self._tokenizer = tokenizer
        special = set(tokenizer.all_special_ids)
        tokens = tokenizer.convert_ids_to_tokens(list(range(min(size, len(tokenizer)))))
        shown = {i: tokenizer.convert_tokens_to_string([t]).strip() for i, t in enumerate(tokens) if i not in special}
        # As TextAttack: one word, with a letter. Pieces ("##ing") and unused tokens ("[unused1]") are no words.
        self._words = {
            i: word for i, word in shown.items() if strings.has_letter(word) and words_from_text(word) == [word]
        }
        self._after: dict[str, dict[int, str]] = {}

    def after(self, character: str) -> dict[int, str]:
        """Return the words that are one token after a character, by token id.

        Byte-level and SentencePiece tokenizers have one token for a word after a blank, and another for the same
        letters at the start or after a bracket. What counts is what the tokenizer does.
        """
        before = "a " if character.isspace() else character
        if before not in self._after:
            base = self._ids([before.rstrip()])[0] if before else []
            written = self._ids([before + word for word in self._words.values()])
            pairs = zip(self._words.items(), written, strict=True)
            self._after[before] = {i: word for (i, word), ids in pairs if ids == [*base, i]}
        return self._after[before]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        return ids


@dataclass(frozen=True)
class Flip:
    """A word's replacement.

    Attributes:
        index: Position of the word in the text.
        word: The word to put there.
        gain: By how much the score rises, to first order.
    """

    index: int
    word: str
    gain: float


class GradientRanking(GreedyWordSwapWIR):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's greedy search, the words ranked by the gradient (A2T, Yoo and Qi 2021, arXiv 2109.00544).

    A word's rank is the L1 norm of the mean gradient of its tokens. Words that the model does not see are left out.

    Args:
        stock: The arguments of TextAttack's search. Its limit on the number of words falls away: the victim cuts texts
            itself.
    """

    def __init__(self, **stock: Any) -> None:
        super().__init__(**{**stock, "truncate_words_to": None})

    def _get_index_order(self, initial_text: Any, max_len: int = -1) -> Any:
        if self.wir_method != "gradient":  # another ranking in its place: the random control
            return super()._get_index_order(initial_text, max_len)
        _, indices = self.get_indices_to_order(initial_text)
        (gradient,) = self.get_victim_model().gradients([initial_text.tokenizer_input])
        tokens = [list(word.tokens) for word in words_with_tokens(initial_text, gradient)]
        seen = [index for index in sorted(indices) if tokens[index]]
        steepness = {index: np.abs(gradient.values[tokens[index]].mean(axis=0)).sum() for index in seen}
        return sorted(seen, key=lambda index: -steepness[index]), False


class WordSwapGradient(WordSwapGradientBased):  # type: ignore[misc]  # TextAttack is untyped
    """The swaps of one word for another that raise the goal's score most, to first order (HotFlip).

    A swap of the word with tokens j for a word that is the single token v raises the score by about
    ``sum_j g_j . (e_v - e_j)``, g being the gradient in the embeddings e (HotFlip's equation 1, with all pieces of a
    word moved together). Where the gradient is zero nothing is proposed.

    Args:
        model_wrapper: Victim with an objective.
        top_n: Swaps proposed for a text, over all of its words.
    """

    def __init__(self, model_wrapper: VictimWrapper, top_n: int = 1) -> None:
        # Not the stock one, which refuses every model but TextAttack's own LSTM.
        self.model_wrapper = model_wrapper
        self.top_n = top_n
        self.is_black_box = False
        deployed = differentiable(model_wrapper.model).deployed
        self.table = embedding_table(deployed)
        self.vocabulary = Vocabulary(deployed.tokenizer, len(self.table))

    def flips(self, attacked_text: Any, indices: Iterable[int]) -> list[Flip]:
        """Return the best swaps, best first.

        Args:
            attacked_text: TextAttack's text.
            indices: Words that may be swapped.
        """
        (gradient,) = self.model_wrapper.gradients([attacked_text.tokenizer_input])
        words = words_with_tokens(attacked_text, gradient)
        values, ids = torch.from_numpy(gradient.values), torch.from_numpy(gradient.ids)
        moving = [index for index in sorted(indices) if bool(values[list(words[index].tokens)].any())]
        found: list[Flip] = []
        for before, group in groupby(sorted(moving, key=lambda i: words[i].before), key=lambda i: words[i].before):
            tokens = {index: list(words[index].tokens) for index in group}
            found += self._best(self.vocabulary.after(before), tokens, values, ids)
        return sorted(found, key=lambda flip: (-flip.gain, flip.index, flip.word))[: self.top_n]

    def _best(
        self,
        candidates: dict[int, str],
        tokens: dict[int, list[int]],
        values: torch.Tensor,
        ids: torch.Tensor,
    ) -> list[Flip]:
        """Return the best swaps of words that stand after the same character."""
        chosen = torch.tensor(list(candidates), dtype=torch.long)
        slopes = torch.stack([values[at].sum(0) for at in tokens.values()])
        present = torch.stack([(values[at] * self.table[ids[at]]).sum() for at in tokens.values()])
        gains = (self.table @ slopes.T)[chosen].T - present[:, None]
        for row, at in enumerate(tokens.values()):
            if len(at) == 1:
                gains[row, chosen == ids[at[0]]] = -torch.inf  # the word itself
        best = gains.flatten().topk(min(self.top_n, gains.numel()))
        names, indices = list(candidates.values()), list(tokens)
        return [
            Flip(indices[at // len(names)], names[at % len(names)], gain)
            for gain, at in zip(best.values.tolist(), best.indices.tolist(), strict=True)
            if gain > -np.inf
        ]

    def _get_replacement_words_by_grad(
        self, attacked_text: Any, indices_to_replace: Iterable[int]
    ) -> list[tuple[str, int]]:
        return [(flip.word, flip.index) for flip in self.flips(attacked_text, indices_to_replace)]


class CharacterSwapGradient(WordSwap):  # type: ignore[misc]  # TextAttack is untyped
    """Character edits of the words under the steepest tokens (SAME's perturbation of characters).

    Every swap of neighbours, insertion of a random letter, deletion and homoglyph at every place of every such word;
    of these `top_n` are drawn. A token's steepness is the L1 norm of its gradient. The authors' code adds the signed
    numbers up, which turns on the arbitrary signs of the embedding's dimensions.

    Args:
        model_wrapper: Victim with an objective.
        top_n: Edits proposed for a text.
        top_k: Tokens that count as the steepest.
        homoglyphs: Table of characters that look alike.
    """

    def __init__(self, model_wrapper: VictimWrapper, top_n: int, top_k: int, homoglyphs: Path) -> None:
        super().__init__()
        self.model_wrapper = model_wrapper
        self.top_n = top_n
        self.top_k = top_k
        self.is_black_box = False
        self.edits = (
            WordSwapNeighboringCharacterSwap(random_one=False),
            WordSwapRandomCharacterInsertion(random_one=False),
            WordSwapRandomCharacterDeletion(random_one=False),
            TableHomoglyphs(homoglyphs),
        )

    def _get_transformations(self, current_text: Any, indices_to_modify: Iterable[int]) -> list[Any]:
        (gradient,) = self.model_wrapper.gradients([current_text.tokenizer_input])
        words = words_with_tokens(current_text, gradient)
        steepness = np.abs(gradient.values).sum(axis=1)
        of_words = sorted({token for word in words for token in word.tokens if steepness[token] > 0})
        steepest = set(sorted(of_words, key=lambda token: -steepness[token])[: self.top_k])
        mutants = [
            (index, mutant)
            for index in sorted(indices_to_modify)
            if steepest.intersection(words[index].tokens)
            for mutant in self._mutants(current_text.words[index])
        ]
        drawn = random.sample(mutants, min(self.top_n, len(mutants)))
        return [current_text.replace_word_at_index(index, mutant) for index, mutant in drawn]

    def _mutants(self, word: str) -> list[str]:
        """Return every edit of a word once, in order; a single character is left alone."""
        if len(word) < 2:
            return []
        found = dict.fromkeys(mutant for edit in self.edits for mutant in edit._get_replacement_words(word))
        return [mutant for mutant in found if mutant not in ("", word)]

    @property
    def deterministic(self) -> bool:
        """The edits are drawn, so the same text has others the next time."""
        return False
