"""One registry for everything that has a name: policies, heads, regimes, recipes, goals.

Built-in members register when their module is imported; other packages add theirs through an entry point
of the registry's group, loaded only when that name (or the whole list) is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from robustexit.errors import ConfigError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to members of one kind.

    Args:
        kind: What a member is called in messages, e.g. ``"exit policy"``.
        group: Entry-point group other packages use, e.g. ``"robustexit.policies"``.
    """

    def __init__(self, kind: str, group: str) -> None:
        self.kind = kind
        self.group = group
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a member under `name`.

        Raises:
            ConfigError: The name is taken by another member.
        """

        def add(member: T) -> T:
            if self._members.get(name, member) is not member:
                raise ConfigError(f"{self.kind} {name!r} is registered twice; choose another name")
            self._members[name] = member
            return member

        return add

    def _external(self) -> dict[str, Callable[[], T]]:
        return {point.name: point.load for point in entry_points(group=self.group)}

    def get(self, name: str) -> T:
        """Return the member called `name`.

        Raises:
            ConfigError: No such member; the message names the nearest one.
        """
        if name in self._members:
            return self._members[name]
        external = self._external()
        if name in external:
            return self.register(name)(external[name]())
        raise ConfigError(unknown_name(self.kind, name, {*self._members, *external}))

    def names(self) -> list[str]:
        """Return every known name, sorted."""
        return sorted({*self._members, *self._external()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.names()
