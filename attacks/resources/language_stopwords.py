"""Stop words of other languages than English."""

from __future__ import annotations

import zipfile
from pathlib import Path

from robustexit.attacks.resources.base import Resource, configured_path, finder, misconfigured
from robustexit.attacks.resources.nltk_packages import nltk_packages
from robustexit.attacks.resources.places import PACKAGED, nltk_downloads, nltk_folders

_PACKAGE = "corpora/stopwords"


@finder("stopwords-french", fetch=nltk_packages(_PACKAGE))
def stopwords_french() -> Resource:
    """NLTK's French stop words; RobustExit's own list stands in."""
    return _find("french")


@finder("stopwords-spanish", fetch=nltk_packages(_PACKAGE))
def stopwords_spanish() -> Resource:
    """NLTK's Spanish stop words; RobustExit's own list stands in."""
    return _find("spanish")


def language_stopwords(language: str) -> list[str]:
    """Return the stop words of a language, lower case: NLTK's, else our own.

    Args:
        language: As NLTK names its file: ``french``.
    """
    folder = _folder(language)
    own = PACKAGED / f"{language}_stopwords.txt"
    text = own.read_text("utf-8") if folder is None else _listed(folder, language)
    return (text or "").split()


def _find(language: str) -> Resource:
    name = f"stopwords-{language}"
    folder = _folder(language)
    if configured_path(name) is not None and folder is None:
        return misconfigured(name, f"holds no {_PACKAGE}/{language}", "an NLTK data folder that does")
    return Resource(
        name,
        folder is not None,
        str(folder) if folder else f"no NLTK folder holds {_PACKAGE}/{language}",
        None if folder else "robustexit-stopwords",
        f"python -m nltk.downloader stopwords, or set NLTK_DATA to a folder holding {_PACKAGE}/{language}",
    )


def _folder(language: str) -> Path | None:
    """Return the first NLTK folder with the list; NLTK itself stops at the first with any list."""
    chosen = configured_path(f"stopwords-{language}")
    folders = (*nltk_folders(), nltk_downloads()) if chosen is None else (chosen,)
    return next((folder for folder in folders if _listed(folder, language) is not None), None)


def _listed(folder: Path, language: str) -> str | None:
    """Read a list from an NLTK folder, unpacked or not."""
    place = folder / _PACKAGE
    if (place / language).is_file():
        return (place / language).read_text("utf-8")
    packed = place.with_name(f"{place.name}.zip")
    if packed.is_file():
        with zipfile.ZipFile(packed) as archive:
            if f"stopwords/{language}" in archive.namelist():
                return archive.read(f"stopwords/{language}").decode("utf-8")
    return None
