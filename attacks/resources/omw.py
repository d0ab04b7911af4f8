"""The Open Multilingual Wordnet: WordNet's senses in other languages."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from robustexit.attacks.resources.base import Resource, configured_path, finder, misconfigured
from robustexit.attacks.resources.nltk_packages import nltk_packages
from robustexit.attacks.resources.places import in_nltk, nltk_holds


def omw_package() -> str:
    """Name of the NLTK package that the installed NLTK reads: ``omw-2.0`` or, up to 3.9, ``omw-1.4``."""
    spec = importlib.util.find_spec("nltk")
    source = Path(spec.origin).parent / "corpus" / "__init__.py" if spec is not None and spec.origin else Path()
    return "omw-2.0" if source.is_file() and '"omw-2.0"' in source.read_text("utf-8") else "omw-1.4"


def _fetch() -> None:
    nltk_packages(f"corpora/{omw_package()}")()


@finder("omw", fetch=_fetch)
def omw() -> Resource:
    """French, Spanish and other lemmas for WordNet's senses."""
    package = omw_package()
    folder = configured_path("omw") or in_nltk(f"corpora/{package}")
    if folder is not None and not nltk_holds(folder, f"corpora/{package}"):
        return misconfigured("omw", f"holds no corpora/{package}", "an NLTK data folder that does")
    return Resource(
        "omw",
        folder is not None,
        str(folder) if folder else f"no NLTK folder holds corpora/{package}",
        None,
        f"python -m nltk.downloader {package}, or set NLTK_DATA to a folder holding corpora/{package}",
    )
