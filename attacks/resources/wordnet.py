"""WordNet 3.0."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder, misconfigured, require
from robustexit.attacks.resources.nltk_packages import nltk_packages
from robustexit.attacks.resources.places import PACKAGED, cache_folder, in_nltk, nltk_holds, publish

PACKAGE: Final = "corpora/wordnet"
DATA: Final = "data.noun"
DEBIAN_WORDNET: Final = Path("/usr/share/wordnet")
WORDNET_FILES: Final = (
    *(f"{kind}.{part}" for kind in ("data", "index") for part in ("adj", "adv", "noun", "verb")),
    *(f"{part}.exc" for part in ("adj", "adv", "noun", "verb")),
    "cntlist.rev",
    "index.sense",
)


@finder("wordnet", fetch=nltk_packages(PACKAGE))
def wordnet() -> Resource:
    """WordNet 3.0: NLTK's copy, or WordNet's own files, as the user or Debian's packages have them."""
    chosen = configured_path("wordnet")
    folder = chosen or in_nltk(PACKAGE, inside=DATA)
    if chosen is not None and not nltk_holds(chosen, PACKAGE, inside=DATA) and _lacking(chosen):
        problem = f"holds neither {PACKAGE} nor WordNet's {_lacking(chosen)[0]}"
        return misconfigured("wordnet", problem, "an NLTK data folder, or the folder with WordNet's data files")
    missing = _lacking(DEBIAN_WORDNET)
    where = str(folder or DEBIAN_WORDNET)
    if folder is None and missing:
        where = f"no NLTK folder holds {PACKAGE}, and {DEBIAN_WORDNET} lacks {missing[0]}"
    return Resource(
        "wordnet",
        folder is not None or not missing,
        where,
        None,
        "apt-get install wordnet-base wordnet-sense-index, or set NLTK_DATA to a folder holding corpora/wordnet",
    )


def wordnet_folder() -> Path:
    """Return the NLTK data folder to read WordNet from; WordNet's own files are copied into one.

    Raises:
        ResourceError: WordNet is missing, or the cache folder cannot be written.
    """
    place = Path(require(["wordnet"])[0].where)
    return place if nltk_holds(place, PACKAGE, inside=DATA) else _completed(place)


def _lacking(folder: Path) -> list[str]:
    return [name for name in WORDNET_FILES if not (folder / name).is_file()]


def _completed(source: Path) -> Path:
    """Copy WordNet's files, completed with ``lexnames``, which Debian's packages lack, into an NLTK data folder.

    Copies (36 MB), because NLTK refuses links that leave its folder.
    """
    states = [(source / name).stat() for name in WORDNET_FILES]
    version = hashlib.sha256(repr([(s.st_size, s.st_mtime_ns) for s in states]).encode()).hexdigest()[:8]

    def fill(folder: Path) -> None:
        target = folder / PACKAGE
        target.mkdir(parents=True)
        for name in WORDNET_FILES:
            shutil.copyfile(source / name, target / name)
        shutil.copyfile(PACKAGED / "lexnames.txt", target / "lexnames")

    return publish(cache_folder() / "nltk" / f"wordnet-{version}", fill)
