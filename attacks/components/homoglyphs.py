"""Homoglyph swaps with a table from anywhere."""

from __future__ import annotations

from pathlib import Path

from robustexit.attacks.textattack_api import WordSwapDifferentialEvolution, WordSwapHomoglyphSwap


class TableHomoglyphs(WordSwapHomoglyphSwap):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's homoglyph swap with a table from anywhere (the stock class fails: its wheel lacks the file).

    Args:
        table: File in the format of Unicode's intentional.txt.
    """

    def __init__(self, table: Path) -> None:
        WordSwapDifferentialEvolution.__init__(self)
        self.random_one = False
        self.homos_intentional = read_homoglyphs(table)
        self.homos = {character: glyphs[0] for character, glyphs in self.homos_intentional.items()}


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
