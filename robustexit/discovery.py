"""Import every file of a folder, so that adding a member of a registry is adding one file."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from importlib import import_module


def import_all(package: str, path: Iterable[str]) -> None:
    """Import every module of a package, in the order of their names.

    Args:
        package: The package's ``__name__``.
        path: The package's ``__path__``.
    """
    for found in sorted(pkgutil.iter_modules(path), key=lambda module: module.name):
        import_module(f"{package}.{found.name}")
