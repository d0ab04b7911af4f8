"""Goals by name, with parameters, and joined: the one place that reads them."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any, Final

from robustexit.attacks.goals.base import Goal, goals
from robustexit.attacks.goals.together import Together
from robustexit.errors import ConfigError, did_you_mean
from robustexit.parameters import parse_call

ALIASES: Final = {"flip": "deployed"}
"""Other words for goals, as one would say them in an expression."""

_BOUND: Final = re.compile(r"exit\s*(<=|>=)\s*(\S+)")
_BOUNDS: Final = {"<=": "exit-at-most", ">=": "exit-at-least"}


def make_goal(name: str, **parameters: Any) -> Goal:
    """Make a goal by name, or several joined by ``&``.

    Args:
        name: A registered name, with parameters in brackets or beside it, an exit bound, or several of them:
            ``slowdown-uniform``, ``exit(k=2)``, ``slowdown & keep-answer``, ``flip & exit<=2``.
        **parameters: The goal's parameters; only for a single goal without brackets.

    Raises:
        ConfigError: Unknown name or parameter, or a value that cannot work; the message says what is expected.
    """
    terms = [term.strip() for term in name.split("&")]
    if len(terms) == 1:
        return _make(terms[0], parameters)
    if parameters:
        raise ConfigError(f"goal {name!r}: give parameters in brackets behind the part they belong to")
    if "" in terms:
        raise ConfigError(f"goal {name!r}: expected a goal on both sides of every &")
    parts = tuple(_make(term, {}) for term in terms)
    for part in parts:
        if part.recipe is not None or part.name == "max-average":
            raise ConfigError(f"goal {name!r}: {part.name!r} stands alone, it cannot be joined with others")
    return Together(parts)


def _make(term: str, parameters: dict[str, Any]) -> Goal:
    bound = _BOUND.fullmatch(term)
    if bound:
        exit = bound[2]
        return _build(_BOUNDS[bound[1]], {**parameters, "exit": int(exit) if exit.isdigit() else exit})
    name, given = parse_call("goal", term)
    return _build(ALIASES.get(name, name), {**given, **parameters})


def _build(name: str, parameters: dict[str, Any]) -> Goal:
    kind = goals.get(name)
    known = [f.name for f in fields(kind) if not issubclass(kind, Together)]
    for parameter in parameters:
        if parameter not in known:
            expected = f"expected one of: {', '.join(known)}" if known else "it takes none"
            raise ConfigError(
                f"goal {name!r} has no parameter {parameter!r}{did_you_mean(parameter, known)}; {expected}"
            )
    return kind(**parameters)
