"""Bounds on a victim's logits over sets of texts: what branch and bound needs, and few victims can give.

A bound is admissible if no text of the set has a larger value. For a black box there is none; a victim that has one
gives it through `margin_bounds`. `AdditiveLogits` is one for victims whose logits are sums or means over tokens (bags
of words or of embeddings under linear heads), where the bound is exact for each exit and pair of classes alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from robustexit.attacks.sets.space import Choice, Site, Space
from robustexit.victims.base import Victim

Margins: TypeAlias = NDArray[np.float64]
"""Of each exit and class, that class's logit less the label's; shape [K, C]."""

_PIECES: Final = re.compile(r"\s+|\S+")
_MOST_ALTERNATIVES: Final = 20_000
"""Alternatives of one run of characters without a space, above which it is not bounded (an infinite bound)."""


@dataclass(frozen=True)
class Alternative:
    """What may stand in one segment of a field.

    Attributes:
        edits: Sites edited for it.
        text: The characters.
    """

    edits: int
    text: str


Segment: TypeAlias = tuple[Alternative, ...]
"""What may stand there, the undecided original first; a single one where all is decided."""


@dataclass(frozen=True)
class OpenText:
    """Texts that agree in what is decided: a field is its segments one after the other, each with one alternative.

    Attributes:
        fields: Field -> segments.
        edits: Sites that may still be edited, over all fields.
    """

    fields: Mapping[str, tuple[Segment, ...]]
    edits: int


@runtime_checkable
class BoundedVictim(Victim, Protocol):
    """A victim that can bound its logits over a set of texts.

    Its policy must return the softmax of one exit's logits, whichever exit that is (no votes, no averages).
    """

    def margin_bounds(self, texts: OpenText, label: int) -> Margins:
        """Return upper bounds of the margins over all of `texts`, shape [K, C]; 0 at the label."""
        ...


def open_text(space: Space, choice: Choice, undecided: int) -> OpenText:
    """Return the texts that agree with a choice and may still be edited at later sites.

    Args:
        space: The set around the original.
        choice: What is edited, at sites before `undecided`.
        undecided: Number of the first site that is not decided yet.
    """
    left, last = space.edits - len(choice), choice[-1][0] if choice else -1
    free = [site for site in range(undecided, len(space.sites)) if space.follows(site, last)] if left else []
    segments: dict[str, list[Segment]] = {name: [] for name in space.fields}
    done = dict.fromkeys(space.fields, 0)

    def add(name: str, start: int, end: int, segment: Segment) -> None:
        if done[name] < start:
            segments[name].append((Alternative(0, space.fields[name][done[name] : start]),))
        segments[name].append(segment)
        done[name] = end

    for number, option in choice:
        site = space.sites[number]
        add(site.field, site.start, site.end, (Alternative(0, site.replacements[option]),))
    for name, original in space.fields.items():  # free sites lie behind the edited ones
        for start, end, segment in _clusters(space, [s for s in free if space.sites[s].field == name], left):
            add(name, start, end, segment)
        if done[name] < len(original):
            segments[name].append((Alternative(0, original[done[name] :]),))
    return OpenText({name: tuple(parts) for name, parts in segments.items()}, left)


def _clusters(space: Space, free: Sequence[int], left: int) -> Iterator[tuple[int, int, Segment]]:
    """Yield start, end and alternatives of every run of free sites that overlap."""
    by_start = sorted(free, key=lambda number: (space.sites[number].start, space.sites[number].end))
    while by_start:
        members = [by_start.pop(0)]
        end = space.sites[members[0]].end
        while by_start and space.sites[by_start[0]].start < end:
            members.append(by_start.pop(0))
            end = max(end, space.sites[members[-1]].end)
        start = space.sites[members[0]].start
        name = space.sites[members[0]].field
        moved = tuple(_moved(space.sites[number], -start) for number in sorted(members))
        inner = Space({name: space.fields[name][start:end]}, moved, left)
        yield start, end, tuple(Alternative(len(choice), inner.text(choice)[name]) for choice in inner.choices())


def _moved(site: Site, by: int) -> Site:
    return replace(site, start=site.start + by, end=site.end + by)


@dataclass(frozen=True)
class AdditiveLogits:
    """Bounds for logits that are a sum, or a mean, over tokens, plus a bias.

    Attributes:
        token_logits: Field and token -> its share of the logits, shape [K, C].
        bias: Shape [K, C]; not divided where logits are means.
        tokens: Splits a text into tokens; what white space parts must be split apart, each part by itself.
        mean: Logits are means over all tokens of all fields; sums otherwise. A text without tokens has the bias.
    """

    token_logits: Callable[[str, str], NDArray[np.floating]]
    bias: NDArray[np.floating]
    tokens: Callable[[str], Iterable[str]] = str.split
    mean: bool = False
    _cached: dict[tuple[str, str], tuple[Margins, int]] = field(default_factory=dict, repr=False, compare=False)

    def logits(self, text: Mapping[str, str]) -> NDArray[np.float64]:
        """Return the logits of one text, shape [K, C], in double precision."""
        parts = [self._of(name, value) for name, value in text.items()]
        total, count = sum(part[0] for part in parts), sum(part[1] for part in parts)
        return np.asarray(self.bias + (total / max(count, 1) if self.mean else total), dtype=np.float64)

    def margin_bounds(self, texts: OpenText, label: int) -> Margins:
        """Return the bounds, as `BoundedVictim.margin_bounds` has to.

        A knapsack over runs of characters without a space: the largest sum of margins, for every exit and class
        alone, with so many edits in all. Where logits are means, the largest sum is divided by the smallest or the
        largest number of tokens, whichever makes more of it.
        """
        zero = np.zeros(np.shape(self.bias))
        best = [zero] * (texts.edits + 1)  # best[k]: with at most k edits
        fewest = most = 0
        for name, segments in texts.fields.items():
            for run in _runs(segments):
                gains, low, high = self._gains(name, run, label, texts.edits)
                fewest, most = fewest + low, most + high
                best = [
                    np.maximum.reduce([best[k - used] + gain for used, gain in gains.items() if used <= k])
                    for k in range(texts.edits + 1)
                ]
        total = best[texts.edits]
        if self.mean:
            total = np.maximum(total / max(fewest, 1), total / max(most, 1))
        bias = np.asarray(self.bias, dtype=np.float64)
        bounds: Margins = total + bias - bias[:, label : label + 1]
        bounds[:, label] = 0.0
        return bounds

    def _of(self, name: str, text: str) -> tuple[Margins, int]:
        """Return the sum of the logits of a text's tokens, and their number."""
        if (name, text) not in self._cached:
            if len(self._cached) >= 2**18:
                self._cached.clear()
            found = list(self.tokens(text))
            total = np.zeros(np.shape(self.bias))
            for token in found:
                total = total + self.token_logits(name, token)
            self._cached[name, text] = total, len(found)
        return self._cached[name, text]

    def _gains(self, name: str, run: Sequence[Segment], label: int, edits: int) -> tuple[dict[int, Margins], int, int]:
        """Return the largest margins of a run by the edits used, and the fewest and most tokens that it may have."""
        size = 1
        for segment in run:
            size *= len(segment)
        if size > _MOST_ALTERNATIVES:
            unbounded = np.full(np.shape(self.bias), np.inf)
            return {0: unbounded}, 0, sum(max(len(alternative.text) for alternative in segment) for segment in run)
        gains: dict[int, Margins] = {}
        counts = []
        for alternatives in product(*run):
            used = sum(a.edits for a in alternatives)
            if used > edits:
                continue
            logits, count = self._of(name, "".join(a.text for a in alternatives))
            margins = logits - logits[:, label : label + 1]
            gains[used] = np.maximum(gains[used], margins) if used in gains else margins
            counts.append(count)
        return gains, min(counts), max(counts)


def _runs(segments: Sequence[Segment]) -> Iterator[list[Segment]]:
    """Yield segments in runs that white space parts whatever is chosen, the space itself left out."""
    run: list[Segment] = []
    for segment in segments:
        for piece in _pieces(segment):
            if len(piece) == 1 and piece[0].text.isspace():
                if run:
                    yield run
                run = []
            else:
                run.append(piece)
    if run:
        yield run


def _pieces(segment: Segment) -> Iterator[Segment]:
    if len(segment) > 1:
        yield segment
        return
    for match in _PIECES.finditer(segment[0].text):
        yield (Alternative(segment[0].edits, match[0]),)
