"""Characters that look alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder
from robustexit.attacks.resources.download import Source, download
from robustexit.attacks.resources.places import PACKAGED, downloads

HOMOGLYPHS_URL: Final = "https://www.unicode.org/Public/security/16.0.0/intentional.txt"
"""The version that TextAttack's own copy is of."""


def _fetch() -> None:
    download(Source(HOMOGLYPHS_URL), _own_download())


@finder("homoglyphs", fetch=_fetch)
def homoglyphs() -> Resource:
    """Unicode's intentional.txt, which TextAttack's wheel lacks; RobustExit's own table stands in."""
    stock = _own_download() if _own_download().is_file() and not stock_homoglyphs().is_file() else stock_homoglyphs()
    path = configured_path("homoglyphs") or stock
    return Resource(
        "homoglyphs",
        path.is_file(),
        str(path) if path.is_file() else f"{path} is missing",
        None if path.is_file() else "robustexit-homoglyphs",
        f"save {HOMOGLYPHS_URL} as {path}",
    )


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
    """The table to use: the configured or TextAttack's own where it is found, else the packaged one."""
    here = homoglyphs()
    return Path(here.where) if here.found else PACKAGED / "homoglyphs.txt"
