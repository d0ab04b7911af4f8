"""Chinese characters that sound alike."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder
from robustexit.attacks.resources.homoglyphs import textattack_package

HOMOPHONES_URL: Final = (
    "https://raw.githubusercontent.com/QData/TextAttack/master/textattack/shared/chinese_homophone_char.txt"
)


@finder("homophones-chinese")
def homophones_chinese() -> Resource:
    """TextAttack's table of homophones, which its wheel lacks, and ``pinyin``, which spells a character."""
    path = configured_path("homophones-chinese") or stock_homophones()
    installed = importlib.util.find_spec("pinyin") is not None
    return Resource(
        "homophones-chinese",
        installed and path.is_file(),
        "pinyin is not installed" if not installed else str(path) if path.is_file() else f"{path} is missing",
        None,
        f"save {HOMOPHONES_URL} as {path}" if installed else "pip install pinyin",
    )


def stock_homophones() -> Path:
    """Where TextAttack looks for the table."""
    return textattack_package() / "shared" / "chinese_homophone_char.txt"
