"""WordNet 3.0."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, finder, misconfigured
from robustexit.attacks.resources.nltk_packages import nltk_packages
from robustexit.attacks.resources.places import PACKAGED, cache_folder, in_nltk, nltk_holds, publish

DEBIAN_WORDNET: Final = Path("/usr/share/wordnet")
WORDNET_FILES: Final = (
    *(f"{kind}.{part}" for kind in ("data", "index") for part in ("adj", "adv", "noun", "verb")),
    *(f"{part}.exc" for part in ("adj", "adv", "noun", "verb")),
    "cntlist.rev",
    "index.sense",
)


@finder("wordnet", fetch=nltk_packages("corpora/wordnet"))
def wordnet() -> Resource:
    """WordNet 3.0: NLTK's copy, or the files of Debian's packages, which hold the same data."""
    folder = configured_path("wordnet") or in_nltk("corpora/wordnet", inside="data.noun")
    if folder is not None and not nltk_holds(folder, "corpora/wordnet", inside="data.noun"):
        return misconfigured("wordnet", "holds no corpora/wordnet/data.noun", "an NLTK data folder that does")
    missing = [name for name in WORDNET_FILES if not (DEBIAN_WORDNET / name).is_file()]
    where = str(folder or DEBIAN_WORDNET)
    if folder is None and missing:
        where = f"no NLTK folder holds corpora/wordnet, and {DEBIAN_WORDNET} lacks {missing[0]}"
    return Resource(
        "wordnet",
        folder is not None or not missing,
        where,
        None,
        "apt-get install wordnet-base wordnet-sense-index, or set NLTK_DATA to a folder holding corpora/wordnet",
    )


def debian_wordnet() -> Path:
    """Copy Debian's WordNet files, completed with ``lexnames``, into an NLTK data folder and return it.

    Copies (36 MB), because NLTK refuses links that leave its folder.

    Raises:
        ResourceError: The cache folder cannot be written.
    """
    states = [(DEBIAN_WORDNET / name).stat() for name in WORDNET_FILES]
    version = hashlib.sha256(repr([(s.st_size, s.st_mtime_ns) for s in states]).encode()).hexdigest()[:8]

    def fill(folder: Path) -> None:
        target = folder / "corpora" / "wordnet"
        target.mkdir(parents=True)
        for name in WORDNET_FILES:
            shutil.copyfile(DEBIAN_WORDNET / name, target / name)
        shutil.copyfile(PACKAGED / "lexnames.txt", target / "lexnames")

    return publish(cache_folder() / "nltk" / f"wordnet-{version}", fill)
