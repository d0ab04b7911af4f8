"""Universal triggers: one short text put before or behind every input.

Wallace et al. 2019, "Universal Adversarial Triggers for Attacking and Analyzing NLP", EMNLP, arXiv 1908.07125. Their
search starts from a repeated word and replaces the trigger's words from left to right, keeping a beam, over and over.
They try for each position the 40 words that a gradient ranks first, on another batch each time; here every candidate
word is tried, since a deployed system shows no gradient, and always on the same training texts, so that the score
never falls and the search ends by itself. The score is any goal's, so that a trigger can slow down as well as flip.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from robustexit.attacks.goals import Goal
from robustexit.attacks.views import ANSWER, View
from robustexit.data.types import Example, Fields
from robustexit.errors import ConfigError, ModelError, did_you_mean
from robustexit.parameters import require_count, require_one_of
from robustexit.victims.base import Victim
from robustexit.victims.live import LearningVictim

PREFIX: Final = "prefix"
SUFFIX: Final = "suffix"
RECIPE: Final = "universal-trigger"

Words = tuple[str, ...]

_GROUP: Final = 32
"""Triggers compared at a time; a bar set by the first groups spares the later ones texts."""
_STRIDE: Final = 8
"""Texts after which a trigger that cannot reach the bar any more is dropped."""
_ROUNDING: Final = 1e-9
_SLACK: Final = 1e-5
"""What a score may lie outside [0, 1] for being computed in float32."""
_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")


@dataclass(frozen=True)
class TriggerSpec:
    """How a trigger is searched.

    Attributes:
        length: Words of the trigger (the paper's: 3).
        place: ``prefix`` puts it before the text, ``suffix`` behind it.
        beam: Triggers kept from one position to the next (the paper's: 1).
        passes: Times that the search goes over all positions at most; it ends before when a pass changes nothing.
        start: Word that the trigger starts from, repeated (the paper's: the).

    Raises:
        ConfigError: A value that cannot work.
    """

    length: int = 3
    place: str = PREFIX
    beam: int = 1
    passes: int = 5
    start: str = "the"

    def __post_init__(self) -> None:
        for name in ("length", "beam", "passes"):
            require_count("universal trigger", name, getattr(self, name))
        require_one_of("universal trigger", "place", self.place, (PREFIX, SUFFIX))
        if not self.start.strip():
            raise ConfigError("universal trigger: expected a word to start from, got an empty one")

    @property
    def label(self) -> str:
        """The recipe as it stands in records."""
        return f"{RECIPE}(length={self.length}, place={self.place})"

    def apply(self, words: Words, fields: Fields, field: str) -> dict[str, str]:
        """Return an input with the trigger in one of its fields."""
        trigger, text = " ".join(words), fields[field]
        return {**fields, field: f"{trigger} {text}" if self.place == PREFIX else f"{text} {trigger}"}


@dataclass(frozen=True)
class Trigger:
    """A trigger that was found.

    Attributes:
        words: Its words.
        score: Mean goal score of the training texts with it.
        score_of_start: The same with the trigger that the search started from.
        score_without: The same without any.
        passes: Passes over all positions, the last of which may have changed nothing.
        triggers: Triggers tried.
        queries: Texts that the victim was asked, originals included.
        layer_forwards: Encoder layers run for them.
    """

    words: Words
    score: float
    score_of_start: float
    score_without: float
    passes: int
    triggers: int
    queries: int
    layer_forwards: int

    @property
    def text(self) -> str:
        """The trigger as it stands in texts."""
        return " ".join(self.words)


def find_trigger(
    victim: Victim,
    examples: Sequence[Example],
    candidates: Sequence[str],
    *,
    goal: Goal,
    view: View,
    field: str,
    spec: TriggerSpec | None = None,
    advance: Callable[[int], None] = lambda triggers: None,
) -> Trigger:
    """Search a trigger on training texts.

    A trigger is dropped before it has met every text only once a score of 1 on all that are left would not bring it
    into the beam: the result is that of trying every trigger on every text.

    Args:
        victim: The deployed system.
        examples: Training texts. Those whose original rules the goal out (a right answer to keep that is wrong
            already) do not count.
        candidates: Words to try, those that matter in ties first.
        goal: What the trigger is after; its mean score is maximised.
        view: What the attacker sees.
        field: Field that the trigger goes into.
        spec: How to search.
        advance: Told the number of triggers tried, for progress.

    Raises:
        ConfigError: The goal cannot be reached by a trigger, on this victim or in this view; nothing to try or to try
            it on; or no such field.
    """
    spec = spec or TriggerSpec()
    _refuse(victim, goal, view)
    scorer = _Scorer(victim, examples, goal, view, field, spec, advance)
    if not candidates:
        raise ConfigError("universal trigger: expected words to try, got none")
    current: Words = (spec.start,) * spec.length
    before = scorer.without()
    (start, _), *_ = scorer.best([current], 1)
    score, passes = start, 0
    while passes < spec.passes:
        passes += 1
        found, better = _one_pass(scorer, current, candidates, spec)
        if found == current:
            break
        current, score = found, better
    return Trigger(current, score, start, before, passes, scorer.triggers, scorer.queries, scorer.layer_forwards)


def _one_pass(scorer: _Scorer, current: Words, candidates: Sequence[str], spec: TriggerSpec) -> tuple[Words, float]:
    """Replace the words from left to right; a trigger already there wins every tie."""
    beam = [current]
    ranked: list[tuple[float, Words]] = []
    for position in range(spec.length):
        proposals = [
            (*trigger[:position], word, *trigger[position + 1 :])
            for trigger in beam
            for word in (trigger[position], *candidates)
        ]
        ranked = scorer.best(list(dict.fromkeys([current, *proposals])), spec.beam)
        beam = [trigger for _, trigger in ranked]
    return ranked[0][1], ranked[0][0]


def _refuse(victim: Victim, goal: Goal, view: View) -> None:
    if isinstance(victim, LearningVictim):
        raise ConfigError("a universal trigger cannot be searched on a victim that learns from what it is asked")
    if goal.maximizable or goal.recipe is not None:
        raise ConfigError(f"goal {goal.label!r} belongs to recipe {goal.recipe!r}; a trigger cannot reach it")
    unseen = sorted((goal.needs | {ANSWER}) - view.shows)
    if unseen:
        raise ConfigError(
            f"goal {goal.label!r} needs the {' and the '.join(unseen)}, which the view {view.name!r} does not show"
        )
    reason = goal.refuses(victim)
    if reason is not None:
        raise ConfigError(f"goal {goal.label!r} cannot apply: {reason}")


@dataclass
class _Scorer:
    """Mean goal scores of triggers, with an account of what was asked."""

    victim: Victim
    examples: Sequence[Example]
    goal: Goal
    view: View
    into: str
    spec: TriggerSpec
    advance: Callable[[int], None]
    triggers: int = 0
    queries: int = 0
    layer_forwards: int = 0
    _scores: dict[Words, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for example in self.examples:
            if self.into not in example.fields:
                raise ConfigError(
                    f"universal trigger: no field {self.into!r}{did_you_mean(self.into, example.fields)}; the "
                    f"fields are: {', '.join(example.fields)}"
                )
        seen = self._see([example.fields for example in self.examples])
        pairs = list(zip(self.examples, seen, strict=True))
        self._kept = [(one, start) for one, start in pairs if not self.goal.excludes(start, one.label)]
        if not self._kept:
            raise ConfigError(
                f"universal trigger: goal {self.goal.label!r} leaves none of the {len(self.examples)} training texts; "
                "give others"
            )

    def without(self) -> float:
        """Return the mean score of the originals."""
        return math.fsum(self._score(start, one, start) for one, start in self._kept) / len(self._kept)

    def best(self, triggers: Sequence[Words], keep: int) -> list[tuple[float, Words]]:
        """Return the triggers of the highest mean scores with these, best first; earlier ones win ties."""
        means: list[tuple[float, int]] = []
        for at in range(0, len(triggers), _GROUP):
            bar = sorted((mean for mean, _ in means), reverse=True)[keep - 1] if len(means) >= keep else 0.0
            group = triggers[at : at + _GROUP]
            for trigger in self._race(group, bar):
                place = at + group.index(trigger)
                means.append((self._mean(trigger), place))
        ranked = sorted(means, key=lambda found: (-found[0], found[1]))[:keep]
        return [(mean, triggers[place]) for mean, place in ranked]

    def _mean(self, trigger: Words) -> float:
        return math.fsum(self._scores[trigger]) / len(self._kept)

    def _race(self, group: Sequence[Words], bar: float) -> list[Words]:
        """Return the triggers of a group that met every text, those that could not reach the bar dropped on the way."""
        new = sum(trigger not in self._scores for trigger in group)
        self.triggers += new
        total = len(self._kept)
        alive = list(group)
        for end in (*range(_STRIDE, total, _STRIDE), total):
            self._extend(alive, end)
            alive = [trigger for trigger in alive if self._most(trigger) >= bar - _ROUNDING]
        self.advance(new)
        return alive

    def _most(self, trigger: Words) -> float:
        """The mean that a trigger reaches if it scores 1 on every text that it has not met."""
        scores, total = self._scores[trigger], len(self._kept)
        return (math.fsum(scores) + total - len(scores)) / total

    def _extend(self, triggers: Sequence[Words], end: int) -> None:
        """Score triggers on the texts up to `end`, all in one call of the victim."""
        tasks = [(trigger, i) for trigger in triggers for i in range(len(self._scores.setdefault(trigger, [])), end)]
        texts = [self.spec.apply(trigger, self._kept[i][0].fields, self.into) for trigger, i in tasks]
        for (trigger, i), seen in zip(tasks, self._see(texts), strict=True):
            example, start = self._kept[i]
            self._scores[trigger].append(self._score(seen, example, start))

    def _score(self, seen: Any, example: Example, start: Any) -> float:
        score = float(self.goal.score(seen, example.label, start))
        if not -_SLACK <= score <= 1 + _SLACK:
            raise ModelError(f"goal {self.goal.label!r} gave a score of {score}; expected one from 0 to 1")
        return min(max(score, 0.0), 1.0)  # scores are float32: what is dropped early relies on these ends

    def _see(self, texts: Sequence[Fields]) -> list[Any]:
        if not texts:
            return []
        traces = self.victim.trace(texts, self.goal.min_depth(self.victim.num_exits))
        self.queries += len(texts)
        self.layer_forwards += sum(trace.layers for trace in traces)
        return [self.view.show(trace, self.victim.num_exits) for trace in traces]


def frequent_words(texts: Iterable[str], most: int) -> list[str]:
    """Return the words of texts in lower case, the most frequent first, at most so many.

    Args:
        texts: The texts.
        most: Words to return at most.
    """
    counts = Counter(word for text in texts for word in _WORD.findall(text.lower()))
    return [word for word, _ in sorted(counts.items(), key=lambda found: (-found[1], found[0]))[:most]]


def tokenizer_words(tokenizer: Any, most: int) -> list[str]:
    """Return words that are a single token of a tokenizer, those of the lowest ids first, at most so many.

    Lower case only: other tokens of vocabularies with both are mostly the same words again.

    Args:
        tokenizer: A Hugging Face tokenizer.
        most: Words to return at most.
    """
    return [word for word, _ in zip(_whole_words(tokenizer), range(most), strict=False)]


def _whole_words(tokenizer: Any) -> Iterator[str]:
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    marks = {mark for mark in ("Ġ", "▁") if any(token.startswith(mark) for token, _ in by_id)}
    known: set[str] = set()
    for token, _ in by_id:
        if marks and token[:1] not in marks:
            continue
        word = token[1:] if marks else token
        if (
            _WORD.fullmatch(word)
            and word == word.lower()
            and word not in known
            and len(tokenizer.tokenize(f" {word}")) == 1
        ):
            known.add(word)
            yield word


__all__ = [
    "PREFIX",
    "RECIPE",
    "SUFFIX",
    "Trigger",
    "TriggerSpec",
    "find_trigger",
    "frequent_words",
    "tokenizer_words",
]
