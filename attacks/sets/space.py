"""The texts of a perturbation set around one original: counted, enumerated, recognised and undone."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeAlias

from robustexit.data.types import Fields

Choice: TypeAlias = tuple[tuple[int, int], ...]
"""What was edited: (number of the site, number of its replacement), by site; empty for the original."""


@dataclass(frozen=True)
class Site:
    """One place of an original text with what may stand there instead.

    Attributes:
        field: Name of the text field.
        start: First character of the place in the original field.
        end: The character behind it; equal to `start` where something is inserted.
        replacements: What may stand there; all different, and none what stands there now.
    """

    field: str
    start: int
    end: int
    replacements: tuple[str, ...]


@dataclass(frozen=True)
class Replaced:
    """One edit as it stands in an edited text.

    Attributes:
        field: Name of the text field.
        start: First character of the replacement in the edited field.
        end: The character behind it.
        original: What stood there.
    """

    field: str
    start: int
    end: int
    original: str


@dataclass(frozen=True)
class Space:
    """Every text that differs from an original at no more than `edits` sites, the original among them.

    Sites may overlap (``it is not`` has one for ``it's`` and one for ``isn't``); sites edited together never do.

    Attributes:
        fields: The original.
        sites: In the order of the fields, in each by their end and start.
        edits: Sites edited together, at most.
    """

    fields: Fields
    sites: tuple[Site, ...]
    edits: int

    def __post_init__(self) -> None:
        for site in self.sites:
            was = self.fields[site.field][site.start : site.end]
            if not site.replacements or was in site.replacements or len({*site.replacements}) < len(site.replacements):
                raise ValueError(f"site {site} must offer replacements, all different, and none of them {was!r}")
        if any(left >= right for left, right in pairwise(map(self._key, self.sites))):
            raise ValueError("sites must come in the order of fields, ends and starts, each place once")

    def _key(self, site: Site) -> tuple[int, int, int]:
        return self._rank[site.field], site.end, site.start

    @cached_property
    def _rank(self) -> Mapping[str, int]:
        return {name: rank for rank, name in enumerate(self.fields)}

    @cached_property
    def _starts(self) -> list[tuple[int, int]]:
        return [(self._rank[site.field], site.start) for site in self.sites]

    @cached_property
    def _ends(self) -> list[tuple[int, int]]:
        return [(self._rank[site.field], site.end) for site in self.sites]

    def follows(self, site: int, last: int) -> bool:
        """Whether a site may be edited behind `last`, the latest of those edited (-1 for none)."""
        return last < 0 or (site > last and self._starts[site] >= self._ends[last])

    @cached_property
    def size(self) -> int:
        """Number of choices, the original's empty one included, without going through them.

        Two choices may make the same text, which counts twice here. Counted over the sites in order: either a site
        stays, or it is edited and what lies before it may be edited once less.
        """
        # ways[i][k]: choices of exactly k edits among the first i sites
        ways = [[1] + [0] * self.edits]
        for i, site in enumerate(self.sites):
            before = ways[min(i, bisect_right(self._ends, self._starts[i]))]
            edited = [0] + [len(site.replacements) * before[k] for k in range(self.edits)]
            ways.append([stays + new for stays, new in zip(ways[i], edited, strict=True)])
        return sum(ways[-1])

    def choices(self) -> Iterator[Choice]:
        """Go through every choice: fewest edits first, then by site and replacement."""
        for number in range(self.edits + 1):
            yield from self._choices(number, -1)

    def _choices(self, number: int, last: int) -> Iterator[Choice]:
        if number == 0:
            yield ()
            return
        for site in range(last + 1, len(self.sites)):
            if self.follows(site, last):
                for replacement in range(len(self.sites[site].replacements)):
                    for rest in self._choices(number - 1, site):
                        yield (site, replacement), *rest

    def text(self, choice: Choice) -> dict[str, str]:
        """Return the text of a choice, field -> text, in the original's order."""
        return self.edited(choice)[0]

    def edited(self, choice: Choice) -> tuple[dict[str, str], list[Replaced]]:
        """Return the text of a choice, and where its edits stand in it, in their order."""
        parts: dict[str, list[str]] = {name: [] for name in self.fields}
        done = dict.fromkeys(self.fields, 0)
        lengths = dict.fromkeys(self.fields, 0)
        replaced = []
        for number, option in choice:
            site = self.sites[number]
            kept, new = self.fields[site.field][done[site.field] : site.start], self.sites[number].replacements[option]
            start = lengths[site.field] + len(kept)
            original = self.fields[site.field][site.start : site.end]
            replaced.append(Replaced(site.field, start, start + len(new), original))
            parts[site.field] += [kept, new]
            done[site.field], lengths[site.field] = site.end, start + len(new)
        text = {name: "".join(parts[name]) + original[done[name] :] for name, original in self.fields.items()}
        return text, replaced

    def choice_of(self, text: Fields) -> Choice | None:
        """Return the choice with the fewest edits that makes a text, or None if the text is not in the set."""
        found: Choice = ()
        if tuple(text) != tuple(self.fields):
            return None
        for name in self.fields:
            part = self._choice_in(name, text[name], self.edits - len(found))
            if part is None:
                return None
            found = (*found, *part)
        return found

    def __contains__(self, text: object) -> bool:
        return isinstance(text, Mapping) and self.choice_of(text) is not None

    def _choice_in(self, name: str, text: str, edits: int) -> Choice | None:
        """Read one field from left to right, trying every site before its first character that is not explained."""
        original = self.fields[name]
        sites = [number for number, site in enumerate(self.sites) if site.field == name]
        states: list[tuple[int, int, Choice]] = [(0, 0, ())]
        for number in range(edits + 1):
            following = []
            for read, written, choice in states:
                if original[read:] == text[written:]:
                    return choice
                same = _same(original[read:], text[written:])
                for site in sites if number < edits else ():
                    place = self.sites[site]
                    if not read <= place.start <= read + same or (choice and not self.follows(site, choice[-1][0])):
                        continue
                    at = written + place.start - read
                    for option, new in enumerate(place.replacements):
                        if text.startswith(new, at):
                            following.append((place.end, at + len(new), (*choice, (site, option))))
            states = following
        return None


def _same(one: str, other: str) -> int:
    """Return how many characters two texts have in common at their start."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def revert(text: Fields, replaced: Sequence[Replaced]) -> dict[str, str]:
    """Return the original of an edited text.

    Args:
        text: The edited text.
        replaced: Its edits, as `Space.edited` returns them.
    """
    original = dict(text)
    for edit in reversed(replaced):
        now = original[edit.field]
        original[edit.field] = now[: edit.start] + edit.original + now[edit.end :]
    return original
