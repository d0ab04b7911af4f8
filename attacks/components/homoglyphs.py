"""Homoglyph swaps with a table from anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes
from robustexit.attacks.textattack_api import WordSwapHomoglyphSwap


class TableHomoglyphs(WordSwapHomoglyphSwap):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's homoglyph swap with a table from anywhere (the stock class fails: its wheel lacks the file).

    The table is what differential evolution draws from; words are swapped by TextAttack's own list of glyphs.

    Args:
        table: File in the format of Unicode's intentional.txt.
    """

    def __init__(self, table: Path) -> None:
        self.homos_intentional: dict[str, list[str]] = {}
        with suppress(FileNotFoundError):  # raised once all but the table is set
            super().__init__()
        self.homos_intentional = read_homoglyphs(table)


@contextmanager
def homoglyph_swaps() -> Iterator[None]:
    """Let TextAttack's recipes find homoglyph swaps that can be built."""
    with in_recipes(WordSwapHomoglyphSwap, lambda: TableHomoglyphs(resources.homoglyph_table())):
        yield


def read_homoglyphs(table: Path) -> dict[str, list[str]]:
    """Read a table in the format of Unicode's intentional.txt, by the same positions as TextAttack.

    Args:
        table: UTF-8 file of lines ``code ; code # ( character ~ character ) names``.

    Returns:
        Character -> characters that look like it, in the file's order.
    """
    glyphs: dict[str, list[str]] = {}
    for line in table.read_text(encoding="utf-8-sig").splitlines():
        if line.strip() and not line.startswith("#"):
            shown = line.replace("#*", "#").partition("#")[2]
            if len(shown) > 7:
                glyphs.setdefault(shown[3], []).append(shown[7])
    return glyphs
