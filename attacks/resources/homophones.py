"""Chinese characters that sound alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder
from robustexit.attacks.resources.download import Source, download
from robustexit.attacks.resources.homoglyphs import textattack_package
from robustexit.attacks.resources.places import downloads

HOMOPHONES_URL: Final = "https://raw.githubusercontent.com/QData/TextAttack/fc3bc2f58a693eb7261650ade8d842d1f059cfcc/textattack/shared/chinese_homophone_char.txt"


_INSTALLED: Final = importlib.util.find_spec("pinyin") is not None


def _fetch() -> None:
    download(Source(HOMOPHONES_URL), _own_download())


@finder("homophones-chinese", fetch=_fetch if _INSTALLED else None)
def homophones_chinese() -> Resource:
    """TextAttack's table of homophones, which its wheel lacks, and ``pinyin``, which spells a character.

    A table counted from pinyin's readings and jieba's word frequencies stands in.
    """
    path = homophone_table()
    found = _INSTALLED and path.is_file()
    return Resource(
        "homophones-chinese",
        found,
        "pinyin is not installed" if not _INSTALLED else str(path) if path.is_file() else f"{path} is missing",
        "pinyin-homophones" if _INSTALLED and not found else None,
        f"save {HOMOPHONES_URL} as {path}" if _INSTALLED else "pip install pinyin",
    )


def homophone_table() -> Path:
    """Where the table is: as configured, where TextAttack looks for it, or in our downloads."""
    stock = textattack_package() / "shared" / "chinese_homophone_char.txt"
    ours = _own_download()
    return configured_path("homophones-chinese") or (ours if ours.is_file() and not stock.is_file() else stock)


def _own_download() -> Path:
    return downloads() / "chinese_homophone_char.txt"
