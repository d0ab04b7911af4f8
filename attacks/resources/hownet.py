"""HowNet's sememes: words that mean the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder, misconfigured
from robustexit.attacks.resources.textattack_files import find_download, lacks

HOWNET: Final = "transformations/hownet/word_candidates_sense.pkl"
CHINESE_HOWNET_FILES: Final = (
    "HowNet_dict_complete",
    "sememe_all",
    "sememe_triples_taxonomy.txt",
    "sememe_sim_table",
    "sense_tree",
    "synonym",
)


@finder("hownet")
def hownet() -> Resource:
    """The bank of English words with a common sememe, for PSO, as TextAttack downloads it."""
    return find_download("hownet", HOWNET)


@finder("hownet-chinese")
def hownet_chinese() -> Resource:
    """OpenHowNet's own data, for the Chinese recipe."""
    chosen = configured_path("hownet-chinese")
    folder = chosen or Path("~/.openhownet/resources").expanduser()
    lacking = lacks(folder, CHINESE_HOWNET_FILES)
    if chosen is not None and lacking:
        return misconfigured("hownet-chinese", f"does not hold {lacking[0]}", "OpenHowNet's folder of resources")
    installed = importlib.util.find_spec("OpenHowNet") is not None
    where = str(folder) if not lacking else f"{folder} does not hold {lacking[0]}"
    return Resource(
        "hownet-chinese",
        installed and not lacking,
        where if installed else "OpenHowNet is not installed",
        None,
        'python -c "import OpenHowNet; OpenHowNet.download()"' if installed else "pip install OpenHowNet",
    )
