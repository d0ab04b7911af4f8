"""Pickles of plain data from others, read without running what else they may hold."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from robustexit.errors import ResourceError

_PLAIN: Final = frozenset(
    {
        *(("builtins", name) for name in ("set", "frozenset", "list", "dict", "tuple", "str", "int", "object")),
        *(("__builtin__", name) for name in ("set", "frozenset", "list", "dict", "unicode", "object")),
        ("collections", "OrderedDict"),
        ("collections", "defaultdict"),
        ("copyreg", "_reconstructor"),
        ("copy_reg", "_reconstructor"),
    }
)


class PlainUnpickler(pickle.Unpickler):
    """Reads containers, strings and numbers, and objects of the classes named.

    Args:
        file: The open file.
        classes: Classes that may be made, by module and name.
        encoding: How Python 2 encoded its strings.
    """

    def __init__(
        self, file: BinaryIO, classes: Mapping[tuple[str, str], type] | None = None, encoding: str = "utf-8"
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._classes = dict(classes or {})

    def find_class(self, module: str, name: str) -> Any:
        """Return a class that may be made.

        Raises:
            UnpicklingError: Any other.
        """
        if (module, name) in self._classes:
            return self._classes[module, name]
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"holds {module}.{name}, expected plain data")


def read_plain(path: Path) -> Any:
    """Read a pickle of containers, strings and numbers.

    Raises:
        ResourceError: It holds anything else, or is damaged.
    """
    try:
        with path.open("rb") as file:
            return PlainUnpickler(file).load()
    except (OSError, ValueError, EOFError, pickle.UnpicklingError, AttributeError, IndexError, KeyError) as error:
        raise ResourceError(f"cannot read {path} ({error}); download it again") from error
