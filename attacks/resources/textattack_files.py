"""What TextAttack downloads from its own storage: where it lies, and whether all of it is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, misconfigured
from robustexit.attacks.resources.places import textattack_downloads

STORAGE: Final = "https://textattack.s3.amazonaws.com/"


def find_download(name: str, path: str, files: Sequence[str] = ()) -> Resource:
    """Look for a folder or file that TextAttack downloads.

    Args:
        name: The resource.
        path: Its path in TextAttack's storage and below its cache folder.
        files: Files of the folder (patterns); none if `path` is a file.
    """
    chosen = configured_path(name)
    place = chosen or textattack_downloads() / path
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
