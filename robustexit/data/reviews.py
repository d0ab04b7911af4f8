"""The built-in corpus `reviews`: short generated reviews whose verdict needs more and more composition.

It lets a first campaign run without a download. Its labels are right by construction, because every text is
derived from its label; it says nothing about real reviews, and every report calls it synthetic.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeAlias, TypeVar

from robustexit.data import review_words as words
from robustexit.data.types import Example, TextDataset
from robustexit.errors import DataError, unknown_name

Split: TypeAlias = Literal["train", "test"]

LABEL_NAMES: Final = ("negative", "positive")
MIN_WORDS: Final = 6
MAX_WORDS: Final = 35

_T = TypeVar("_T")
_TEST_SHARE: Final = 64  # of 256: a text's own hash decides its split, so no two seeds or sizes can share a text
_ATTEMPTS: Final = 2_000

_ADJECTIVE_FRAMES: Final = (
    "{thing} was {adjective}",
    "{thing} was {adjective}",
    "{thing} turned out to be {adjective}",
    "{thing} seemed {adjective} to me",
    "{speaker} found {thing} {adjective}",
    "{speaker} thought {thing} was {adjective}",
)
_NEGATED_ADJECTIVE_FRAMES: Final = (
    "{thing} was not {adjective}",
    "{thing} was not at all {adjective}",
    "{thing} was never {adjective}",
    "{thing} was anything but {adjective}",
    "{thing} was far from {adjective}",
    "{thing} was in no way {adjective}",
    "{thing} was hardly {adjective}",
    "{thing} could not be called {adjective}",
    "there was nothing {adjective} about {thing}",
    "I would not describe {thing} as {adjective}",
    "I did not find {thing} {adjective}",
    "nobody in our group found {thing} {adjective}",
)
_NEGATED_VERB_FRAMES: Final = (
    "{thing} did not {verb}",
    "{thing} did not in the least {verb}",
    "at no point did {thing} {verb}",
    "not once did {thing} {verb}",
    "I cannot say that {thing} managed to {verb}",
)
_CONTRASTS: Final = (
    "{concession}, but {verdict}",
    "{concession}, yet {verdict}",
    "{concession}; however, {verdict}",
    "although {concession}, {verdict}",
    "even though {concession}, {verdict}",
    "while {concession}, {verdict}",
    "{verdict}, although {concession}",
    "{verdict}, even though {concession}",
    "{verdict} despite the fact that {concession}",
    "{verdict}, never mind that {concession}",
)


class _Writer:
    """Writes about one domain with one random stream; a thing is mentioned at most once a text.

    Only `Random.random` is used: the one stream that Python promises to keep across versions and machines.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._domain = self.pick(words.DOMAINS)
        self._used: set[str] = set()

    def pick(self, items: Sequence[_T]) -> _T:
        return items[int(self._rng.random() * len(items))]

    def chance(self, share: float) -> bool:
        return self._rng.random() < share

    def thing(self) -> tuple[str, words.Group]:
        group = self.pick(self._domain.groups)
        noun = self.pick([noun for noun in group.nouns if noun not in self._used])
        self._used.add(noun)
        return f"the {noun}", group

    def plain(self, label: int) -> str:
        """A clause that says `label` with words of that label."""
        thing, group = self.thing()
        if self.chance(0.3):
            return f"{thing} {self.pick(words.VERBS[label])[0]}"
        return self._frame(_ADJECTIVE_FRAMES, thing, self.pick(group.adjectives(label)))

    def intensified(self, label: int) -> str:
        thing, group = self.thing()
        adjective = f"{self.pick(words.INTENSIFIERS)} {self.pick(group.adjectives(label))}"
        return self._frame(_ADJECTIVE_FRAMES, thing, adjective)

    def negated(self, label: int) -> str:
        """A clause that says `label` by denying words of the other label."""
        thing, group = self.thing()
        if self.chance(0.3):
            return self.pick(_NEGATED_VERB_FRAMES).format(thing=thing, verb=self.pick(words.VERBS[1 - label])[1])
        return self._frame(_NEGATED_ADJECTIVE_FRAMES, thing, self.pick(group.adjectives(1 - label)))

    def _frame(self, frames: Sequence[str], thing: str, adjective: str) -> str:
        return self.pick(frames).format(thing=thing, adjective=adjective, speaker=self.pick(words.SPEAKERS))

    def contrast(self, concession: str, verdict: str) -> str:
        return self.pick(_CONTRASTS).format(concession=concession, verdict=verdict)

    def tail(self, clause: str) -> str:
        return f"{clause} {self.pick(words.TAILS)}"

    def visit(self) -> str:
        return self.pick(self._domain.visits)

    def distracted(self, label: int, verdict: str) -> str:
        """Lead into `verdict` with words of `label` about something that is not reviewed."""
        kind = self.pick(("occasion", "elsewhere", "hearsay"))
        if kind == "occasion":
            adjectives, nouns = words.OCCASIONS[label]
            adjective = self.pick(adjectives)
            article = "an" if adjective[0] in "aeiou" else "a"
            return f"after {article} {adjective} {self.pick(nouns)}, {verdict}"
        thing, group = self.thing()
        adjective = self.pick(group.adjectives(label))
        if kind == "elsewhere":
            return f"unlike the {adjective} {thing[4:]} {self.pick(self._domain.elsewhere)}, {verdict}"
        return f"{self.pick(words.OTHERS)} had called {thing} {adjective}; for our part, {verdict}"


def _plain(writer: _Writer, label: int) -> list[str]:
    first = writer.plain(label)
    return [f"{first} and {writer.plain(label)}" if writer.chance(0.5) else writer.tail(first)]


def _intensifier(writer: _Writer, label: int) -> list[str]:
    first = writer.intensified(label)
    return [f"{first} and {writer.plain(label)}" if writer.chance(0.5) else writer.tail(first)]


def _negation(writer: _Writer, label: int) -> list[str]:
    denial = writer.negated(label)
    if writer.chance(0.4):
        return [writer.tail(denial)]
    others = [writer.plain(label) for _ in range(1 + writer.chance(0.5))]
    return [f"{denial}, and {others[0]}", *others[1:]]


def _contrast(writer: _Writer, label: int) -> list[str]:
    concession, verdict = writer.plain(1 - label), writer.intensified(label)
    if writer.chance(0.6):
        verdict = f"{verdict} and {writer.plain(label)}"
    return [writer.contrast(concession, verdict)]


def _irrelevant(writer: _Writer, label: int) -> list[str]:
    verdict = writer.plain(label)
    if writer.chance(0.4):
        verdict = f"{verdict} and {writer.plain(label)}"
    about_other = 1 - label if writer.chance(0.6) else label
    sentences = [writer.distracted(about_other, verdict)]
    return [writer.visit(), *sentences] if writer.chance(0.5) else sentences


def _mixed(writer: _Writer, label: int) -> list[str]:
    shapes = (
        (writer.negated, writer.negated),
        (writer.negated, writer.intensified),
        (writer.plain, writer.negated),
    )
    concession, verdict = writer.pick(shapes)
    sentence = writer.contrast(concession(1 - label), verdict(label))
    shape = writer.pick(("lead", "visit", "closing"))
    if shape == "lead":
        return [writer.distracted(int(writer.chance(0.5)), writer.plain(label)), sentence]
    if shape == "visit":
        return [writer.visit(), sentence]
    return [sentence, writer.plain(label)]


_LEVELS: Final[Mapping[str, Callable[[_Writer, int], list[str]]]] = {
    "plain": _plain,
    "intensifier": _intensifier,
    "negation": _negation,
    "contrast": _contrast,
    "irrelevant": _irrelevant,
    "mixed": _mixed,
}

LEVELS: Final = tuple(_LEVELS)
"""Names of the difficulty levels, from easy to hard; an example's id names its own."""


def _text(level: str, label: int, rng: random.Random) -> str:
    sentences = _LEVELS[level](_Writer(rng), label)
    return " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences)


def _split_of(text: str) -> Split:
    return "test" if hashlib.sha256(text.lower().encode()).digest()[0] < _TEST_SHARE else "train"


def _shuffled(items: Sequence[str], rng: random.Random) -> list[str]:
    return sorted(items, key=lambda _: rng.random())


def _plan(levels: Sequence[str], rng: random.Random) -> Iterator[tuple[str, int]]:
    """Yield (level, label) without end: labels in pairs, every level once a label in each block."""
    while True:
        for pair in zip(_shuffled(levels, rng), _shuffled(levels, rng), strict=True):
            first = int(rng.random() < 0.5)
            yield pair[first], first
            yield pair[1 - first], 1 - first


def _fresh_text(level: str, label: int, split: Split, seen: set[str], rng: random.Random) -> str:
    for _ in range(_ATTEMPTS):
        text = _text(level, label, rng)
        fits = MIN_WORDS <= len(text.split()) <= MAX_WORDS
        if fits and text not in seen and _split_of(text) == split:
            return text
    raise DataError(
        f"reviews: no unused text left at level {level!r} after {len(seen)} texts; ask for fewer (n), or for "
        "more levels"
    )


def generate_reviews(
    n: int, seed: int = 0, split: Split = "train", difficulty: Sequence[str] | None = None
) -> TextDataset:
    """Generate binary-sentiment reviews of films, restaurants, hotels and products.

    The labels are balanced (their counts differ by one at most), and so are the levels within each label.
    Texts are distinct, have 6 to 35 words, and train and test never share one, whatever `n` and `seed` are.
    A larger `n` continues a smaller one.

    Levels: ``plain`` (the verdict in words of its own kind), ``intensifier``, ``negation`` (the verdict by
    denying words of the other kind), ``contrast`` (a concession and a verdict, in either order: the clause
    after "but", and the clause not led by "although", decide), ``irrelevant`` (sentiment about something not
    reviewed, and neutral statements), ``mixed`` (contrast, negation and irrelevant clauses together).

    Args:
        n: Number of reviews, at least 1.
        seed: Seed of the random stream; the texts are the same on every machine.
        split: ``"train"`` or ``"test"``.
        difficulty: Levels to use; all of `LEVELS` if None.

    Returns:
        A dataset `reviews` with one field `text`, labels 0 ``negative`` and 1 ``positive``, and ids such as
        ``reviews-negation-00012`` (the level, and the position counted from 0).

    Raises:
        DataError: `n` below 1 or beyond what the grammar can say, an unknown split or level.
    """
    levels = LEVELS if difficulty is None else tuple(dict.fromkeys(difficulty))
    if n < 1:
        raise DataError(f"reviews: expected n of at least 1, got {n}")
    if split not in ("train", "test"):
        raise DataError(f"reviews: {unknown_name('split', split, ('train', 'test'))}")
    if not levels:
        raise DataError(f"reviews: expected at least one difficulty level of {', '.join(LEVELS)}, got none")
    for level in levels:
        if level not in LEVELS:
            raise DataError(f"reviews: {unknown_name('difficulty level', level, LEVELS)}")
    rng = random.Random(f"reviews:{split}:{seed}:{','.join(levels)}")
    seen: set[str] = set()
    examples = []
    for index, (level, label) in zip(range(n), _plan(levels, rng), strict=False):
        text = _fresh_text(level, label, split, seen, rng)
        seen.add(text)
        examples.append(Example(f"reviews-{level}-{index:05d}", {"text": text}, label))
    return TextDataset(
        name="reviews",
        examples=tuple(examples),
        label_names=LABEL_NAMES,
        source=f"generated: reviews, split {split}, n {n}, seed {seed}, levels {', '.join(levels)}",
        synthetic=True,
        notes=("synthetic: written by a grammar, not by people",),
    )
