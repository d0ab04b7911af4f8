"""NLTK's English stop words."""

from __future__ import annotations

import hashlib
from pathlib import Path

from robustexit.attacks.resources.base import Resource, configured_path, finder, misconfigured
from robustexit.attacks.resources.nltk_packages import nltk_packages
from robustexit.attacks.resources.places import PACKAGED, cache_folder, in_nltk, nltk_holds, publish


@finder("stopwords", fetch=nltk_packages("corpora/stopwords"))
def stopwords() -> Resource:
    """NLTK's English stop words; RobustExit's own list stands in."""
    folder = configured_path("stopwords") or in_nltk("corpora/stopwords", inside="english")
    if folder is not None and not nltk_holds(folder, "corpora/stopwords", inside="english"):
        return misconfigured("stopwords", "holds no corpora/stopwords/english", "an NLTK data folder that does")
    return Resource(
        "stopwords",
        folder is not None,
        str(folder) if folder else "no NLTK folder holds corpora/stopwords",
        None if folder else "robustexit-stopwords",
        "python -m nltk.downloader stopwords, or set NLTK_DATA to a folder holding corpora/stopwords",
    )


def substitute_stopwords() -> Path:
    """Write the packaged stop words as an NLTK data folder and return it.

    Raises:
        ResourceError: The cache folder cannot be written.
    """
    words = (PACKAGED / "english_stopwords.txt").read_bytes()
    version = hashlib.sha256(words).hexdigest()[:8]

    def fill(folder: Path) -> None:
        target = folder / "corpora" / "stopwords"
        target.mkdir(parents=True)
        (target / "english").write_bytes(words)

    return publish(cache_folder() / "nltk" / f"stopwords-{version}", fill)
