"""Characters that look alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder, misconfigured
from robustexit.attacks.resources.download import Source, download
from robustexit.attacks.resources.places import PACKAGED, downloads

HOMOGLYPHS_URL: Final = "https://www.unicode.org/Public/security/16.0.0/intentional.txt"
"""The version that TextAttack's own copy is of."""


def _fetch() -> None:
    download(Source(HOMOGLYPHS_URL), _own_download())


@finder("homoglyphs", fetch=_fetch)
def homoglyphs() -> Resource:
    """Unicode's intentional.txt, which TextAttack's wheel lacks; the user's or RobustExit's own table stands in."""
    chosen, stock, ours = configured_path("homoglyphs"), stock_homoglyphs(), _own_download()
    path = chosen or (ours if ours.is_file() and not stock.is_file() else stock)
    if chosen is not None and not chosen.is_file():
        return misconfigured("homoglyphs", "is a folder", "a file as Unicode's intentional.txt")
    found = path.is_file() and (chosen is None or _is_unicode(path))
    substitute = None if found else chosen.stem if chosen is not None else "robustexit-homoglyphs"
    return Resource(
        "homoglyphs",
        found,
        str(path) if path.is_file() else f"{path} is missing",
        substitute,
        f"save {HOMOGLYPHS_URL} as {stock}",
    )


def _is_unicode(table: Path) -> bool:
    """Whether a table is Unicode's, by its first line."""
    with table.open("rb") as file:
        return b"intentional.txt" in file.readline(200)


def stock_homoglyphs() -> Path:
    """Where TextAttack looks for the table."""
    return textattack_package() / "shared" / "intentional_homoglyphs.txt"


def _own_download() -> Path:
    return downloads() / "intentional_homoglyphs.txt"


def textattack_package() -> Path:
    """The folder of the installed TextAttack, found without importing it."""
    spec = importlib.util.find_spec("textattack")
    return Path(spec.origin).parent if spec is not None and spec.origin else Path("textattack")


def homoglyph_table() -> Path:
    """The table to use: the configured or Unicode's where it is, else the packaged one."""
    here = homoglyphs()
    return Path(here.where) if here.found or configured_path("homoglyphs") else PACKAGED / "homoglyphs.txt"
