"""NLTK's packages: where RobustExit keeps those that it downloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from xml.etree import ElementTree

from robustexit.attacks.resources.download import Source, download, read_text
from robustexit.attacks.resources.places import nltk_downloads
from robustexit.errors import ResourceError

INDEX: Final = "https://raw.githubusercontent.com/nltk/nltk_data/gh-pages/index.xml"


def nltk_packages(*places: str) -> Callable[[], None]:
    """Return a function that downloads packages, as `Finder.fetch` wants it.

    They are checked against NLTK's index (SHA-256, or MD5 where it gives no other) and unpacked.

    Args:
        places: Their places in an NLTK folder: ``corpora/stopwords``.
    """

    def fetch() -> None:
        missing = [place for place in places if not (nltk_downloads() / place).is_dir()]
        sources = _sources() if missing else {}
        for place in missing:
            name = place.rpartition("/")[2]
            if place not in sources:
                raise ResourceError(f"{INDEX}: expected a package {place}; install it by hand into NLTK_DATA")
            download(sources[place], nltk_downloads() / place, name, folder=True)

    return fetch


def _sources() -> dict[str, Source]:
    """Read NLTK's index: source by ``subdir/id``."""
    try:
        root = ElementTree.fromstring(read_text(INDEX))
    except (ElementTree.ParseError, UnicodeDecodeError) as error:
        raise ResourceError(f"{INDEX}: expected NLTK's index of packages, got something else ({error})") from error
    return {
        f"{package.get('subdir')}/{package.get('id')}": Source(
            package.get("url", ""),
            package.get("sha256_checksum"),
            package.get("checksum"),
            int(package.get("size") or 0) or None,
        )
        for package in root.iter("package")
    }
