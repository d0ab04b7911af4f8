"""Errors a user can act on: what was expected, what came, what to do.

Every error the command line turns into exit code 2 derives from `RobustExitError`; anything else is a bug
and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RobustExitError(Exception):
    """A problem with what the user gave us, worded so that the user can fix it."""


class ConfigError(RobustExitError):
    """A setting, name or combination that cannot work."""


class DataError(RobustExitError):
    """A dataset that cannot be used as it stands."""


class ModelError(RobustExitError):
    """A model, checkpoint or model output that cannot be used."""


class NotFittedError(ModelError):
    """A post-hoc module that a policy needs and that nobody fitted for these weights yet."""


class ResourceError(RobustExitError):
    """A word list, lexicon or encoder that an attack needs and that is not here."""


class RunError(RobustExitError):
    """A run folder that cannot be read, continued or written."""


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean 'x'?)"`` for the nearest known name, or an empty string."""
    by_lower = {name.lower(): name for name in known}
    near = difflib.get_close_matches(got.lower(), list(by_lower), n=1, cutoff=0.5)
    return f" (did you mean {by_lower[near[0]]!r}?)" if near else ""


def unknown_name(kind: str, got: str, known: Iterable[str]) -> str:
    """Word the one message for every unknown name (policy, recipe, goal, column, ...)."""
    names = sorted(known)
    listed = ", ".join(names) if names else "none"
    return f"unknown {kind} {got!r}{did_you_mean(got, names)}; expected one of: {listed}"
