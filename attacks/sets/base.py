"""What a perturbation set is: for every text finitely many places, with finitely many things to stand there."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeAlias

from robustexit.attacks.sets.space import Site, Space
from robustexit.data.types import Fields
from robustexit.parameters import build, require_count
from robustexit.registry import Registry

perturbation_sets: Registry[type[PerturbationSet]] = Registry("perturbation set", "robustexit.perturbation_sets")
"""Classes of sets by name: frozen dataclasses whose fields are their parameters."""

ANY_TASK: Final = "any"
"""Stands in `sound_for` where the label is a matter of what the text means, whatever the task."""

Edit: TypeAlias = tuple[int, int, str]
"""First character, the character behind the last, and what may stand there instead."""


@dataclass(frozen=True)
class PerturbationSet(ABC):
    """Every text that differs from the original at no more than `edits` places, as the set allows.

    Attributes:
        name: Name in campaigns; its recipe is ``set-NAME``.
        source: Where it comes from.
        sound_for: Tasks in which the label is right by construction (``any`` for all that go by the meaning); empty
            where nobody can say so.
        why: Why the label stays, or may not.
        edits: Places changed together, at most; 1 is every single edit.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    sound_for: ClassVar[tuple[str, ...]]
    why: ClassVar[str]

    edits: int = 1

    def __post_init__(self) -> None:
        require_count(f"set {self.name!r}", "edits", self.edits)

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of the resources that it reads."""
        return ()

    @property
    def sound(self) -> bool:
        """Whether there is a task in which the label is right by construction."""
        return bool(self.sound_for)

    @abstractmethod
    def edits_of(self, text: str) -> Iterable[Edit]:
        """Yield every single edit of one field's text; what changes nothing, or comes twice, is dropped later."""

    def around(self, fields: Fields, protected: Collection[str] = ()) -> Space:
        """Return the texts of the set around an original.

        Args:
            fields: The original, field -> text.
            protected: Fields that stay as they are.

        Raises:
            ResourceError: A resource that the set reads is missing.
        """
        sites: list[Site] = []
        for name, text in fields.items():
            places: dict[tuple[int, int], dict[str, None]] = {}
            for start, end, new in self.edits_of(text) if name not in protected else ():
                if new != text[start:end]:
                    places.setdefault((end, start), {})[new] = None
            sites += [Site(name, start, end, tuple(places[end, start])) for end, start in sorted(places)]
        return Space(dict(fields), tuple(sites), self.edits)


def make_set(name: str, **parameters: Any) -> PerturbationSet:
    """Make a set by name.

    Raises:
        ConfigError: Unknown name or parameter, or a value that cannot work.
    """
    return build(perturbation_sets.get(name), f"set {name!r}", parameters)
