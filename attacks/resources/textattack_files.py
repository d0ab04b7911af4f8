"""What TextAttack downloads from its own storage: where it lies, and whether all of it is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, misconfigured, require
from robustexit.attacks.resources.download import Source, download
from robustexit.attacks.resources.places import downloads, textattack_downloads

STORAGE: Final = "https://textattack.s3.amazonaws.com/"


STORED: Final[dict[str, str]] = {}
"""Resource by its path in TextAttack's storage, filled by `stored`."""


def stored(name: str, path: str, files: Sequence[str] = ()) -> Callable[[], None]:
    """Return a function that downloads a folder or file of TextAttack's, as `Finder.fetch` wants it.

    Args:
        name: The resource.
        path: Its path in TextAttack's storage.
        files: Files of the folder; none if `path` is a file.
    """
    STORED[path] = name

    def fetch() -> None:
        download(Source(STORAGE + path), own_download(path), path.rpartition("/")[2], folder=bool(files))

    return fetch


def own_download(path: str) -> Path:
    """Where RobustExit keeps its own download of a path in TextAttack's storage."""
    return downloads() / "textattack" / path


def stock_path(path: str) -> Path:
    """Where a path in TextAttack's storage is: as the user configured it, in TextAttack's cache, or in our downloads.

    Raises:
        ResourceError: It is nowhere, and could not be downloaded.
    """
    if path in STORED:
        here = require([STORED[path]])[0]
        if here.found:
            return Path(here.where)
    theirs = textattack_downloads() / path
    if theirs.exists():
        return theirs
    return download(Source(STORAGE + path), own_download(path), path.rpartition("/")[2])


def find_download(name: str, path: str, files: Sequence[str] = ()) -> Resource:
    """Look for a folder or file that TextAttack downloads.

    Args:
        name: The resource.
        path: Its path in TextAttack's storage and below its cache folder.
        files: Files of the folder (patterns); none if `path` is a file.
    """
    chosen = configured_path(name)
    stock = textattack_downloads() / path
    place = chosen or (own_download(path) if own_download(path).exists() and not stock.exists() else stock)
    lacking = lacks(place, files)
    if chosen is not None and lacking:
        return misconfigured(name, f"does not hold {', '.join(lacking)}", f"the download {path} of TextAttack")
    found = place.is_file() if not files else not lacking
    missing = f"{place} does not hold {', '.join(files)}" if files else f"{place} is missing"
    return Resource(
        name,
        found,
        str(place) if found else missing,
        None,
        f"unpack {STORAGE}{path} to {place}" if files else f"save {STORAGE}{path} as {place}",
    )


def lacks(folder: Path, files: Sequence[str]) -> list[str]:
    """Return the files (patterns) that a folder does not hold."""
    return [file for file in files if not any(folder.glob(file))]
