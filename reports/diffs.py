"""Word diffs of attacked texts, safe to show: hidden characters and look-alikes are made visible."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Final

from robustexit.reports.formats import code_point, is_hidden
from robustexit.reports.model import Mark, Segment

CONTEXT_WORDS: Final = 25
"""Unchanged words kept on either side of a change before the rest becomes a gap that says its length."""


def word_diff(original: str, final: str) -> tuple[Segment, ...]:
    """Return the word diff of two texts.

    Args:
        original: The original text.
        final: The attacked text.

    Returns:
        Segments in reading order: what was deleted stands before what was inserted in its place.
    """
    before, after = (re.findall(r"\S+|\s+", text) for text in (original, final))
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    known = set(original)
    segments: list[Segment] = []
    opcodes = matcher.get_opcodes()
    for place, (mark, i1, i2, j1, j2) in enumerate(opcodes):
        if mark == "equal":
            pieces = _shortened(before[i1:i2], first=place == 0, last=place == len(opcodes) - 1)
            segments += [piece for part in pieces for piece in _safe(part, known)]
            continue
        segments += _safe(Segment("delete", "".join(before[i1:i2])), known)
        segments += _safe(Segment("insert", "".join(after[j1:j2])), known)
    return tuple(segments)


def _shortened(tokens: list[str], *, first: bool, last: bool) -> Iterable[Segment]:
    keep = 2 * CONTEXT_WORDS
    head, tail = (0 if first else keep), (0 if last else keep)
    if len(tokens) <= 2 * keep or (first and last):
        return [Segment("equal", "".join(tokens))]
    middle = tokens[head : len(tokens) - tail]
    words = sum(not token.isspace() for token in middle)
    gap = Segment("gap", f" … {words} unchanged words … ")
    return [Segment("equal", "".join(tokens[:head])), gap, Segment("equal", "".join(tokens[len(tokens) - tail :]))]


def _safe(segment: Segment, known: set[str]) -> Iterator[Segment]:
    """Split a segment at characters that need showing; plain stretches stay whole."""
    if segment.mark == "gap":
        yield segment
        return
    for special, characters in groupby(segment.text, key=lambda c: _special(c, segment.mark, known)):
        if not special:
            yield Segment(segment.mark, "".join(characters))
            continue
        for character in characters:
            if is_hidden(character):
                yield Segment(segment.mark, code_point(character), hidden=True)
            else:
                name = f"{code_point(character)} {unicodedata.name(character, '')}".strip()
                yield Segment(segment.mark, character, name=name)


def _special(character: str, mark: Mark, known: set[str]) -> bool:
    if is_hidden(character):
        return True
    # A letter that looks like another is seen only if it is pointed out.
    return mark == "insert" and ord(character) > 127 and character not in known
