"""A dictionary of typos that people made."""

from __future__ import annotations

from robustexit.attacks.resources.base import CONFIGURE, Resource, configured_path, finder, misconfigured


@finder("typo-dictionary")
def typo_dictionary() -> Resource:
    """A text file of lines ``word typo typo ...``, where the user says that it is; nothing stands in for it."""
    path = configured_path("typo-dictionary")
    if path is not None and not path.is_file():
        return misconfigured("typo-dictionary", "is a folder", "a text file of lines WORD TYPO TYPO ...")
    return Resource(
        "typo-dictionary",
        path is not None,
        str(path) if path else "no file is configured",
        None,
        f"give the path of a text file of lines WORD TYPO TYPO ... ({CONFIGURE}), or the recipe's parameter dictionary",
    )
