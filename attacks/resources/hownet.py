"""HowNet's sememes: words that mean the same."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured, configured_path, finder, misconfigured
from robustexit.attacks.resources.download import Source, download
from robustexit.attacks.resources.places import downloads
from robustexit.attacks.resources.textattack_files import find_download, lacks, stored
from robustexit.attacks.resources.wordnet import wordnet

HOWNET: Final = "transformations/hownet/word_candidates_sense.pkl"
CHINESE_HOWNET_FILES: Final = (
    "HowNet_dict_complete",
    "sememe_all",
    "sememe_triples_taxonomy.txt",
    "sememe_sim_table",
    "sense_tree",
    "synonym",
)


@finder("hownet", fetch=stored("hownet", HOWNET))
def hownet() -> Resource:
    """The bank of English words with a common sememe, for PSO; WordNet's synonyms stand in."""
    bank = find_download("hownet", HOWNET)
    stands_in = None if bank.found or configured("hownet") or not wordnet().found else "wordnet-synonyms"
    return replace(bank, substitute=stands_in)


_INSTALLED: Final = importlib.util.find_spec("OpenHowNet") is not None
OPENHOWNET_URL: Final = "https://thunlp.oss-cn-qingdao.aliyuncs.com/OpenHowNet/resources.zip"


def _fetch_chinese() -> None:
    download(Source(OPENHOWNET_URL), _own_chinese(), "", folder=True)


@finder("hownet-chinese", fetch=_fetch_chinese if _INSTALLED else None)
def hownet_chinese() -> Resource:
    """OpenHowNet's own data, for the Chinese recipe."""
    chosen = configured_path("hownet-chinese")
    theirs = Path("~/.openhownet/resources").expanduser()
    folder = chosen or (_own_chinese() if _own_chinese().is_dir() and not theirs.is_dir() else theirs)
    lacking = lacks(folder, CHINESE_HOWNET_FILES)
    if chosen is not None and lacking:
        return misconfigured("hownet-chinese", f"does not hold {lacking[0]}", "OpenHowNet's folder of resources")
    where = str(folder) if not lacking else f"{folder} does not hold {lacking[0]}"
    return Resource(
        "hownet-chinese",
        _INSTALLED and not lacking,
        where if _INSTALLED else "OpenHowNet is not installed",
        None,
        'python -c "import OpenHowNet; OpenHowNet.download()"' if _INSTALLED else "pip install OpenHowNet",
    )


def _own_chinese() -> Path:
    return downloads() / "openhownet" / "resources"
