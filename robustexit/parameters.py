"""Build dataclasses from named parameters as they stand in YAML, JSON or on the command line."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import yaml

from robustexit.errors import ConfigError, did_you_mean

_CALL: Final = re.compile(r"([A-Za-z0-9][\w-]*)\s*(?:\((.*)\))?", re.DOTALL)

T = TypeVar("T")


def build(kind: type[T], what: str, parameters: Mapping[str, Any]) -> T:
    """Build a dataclass; lists become tuples, so that the result is hashable.

    Args:
        kind: The dataclass.
        what: What it is called in messages, e.g. ``"exit policy 'patience'"``.
        parameters: Values by field name.

    Raises:
        ConfigError: Unknown or missing parameters, with the nearest known name.
    """
    fields = {field.name: field for field in dataclasses.fields(kind) if field.init}  # type: ignore[arg-type]
    for given in parameters:
        if given not in fields:
            expected = ", ".join(fields) or "none"
            raise ConfigError(f"{what} has no parameter {given!r}{did_you_mean(given, fields)}; expected: {expected}")
    missing = [name for name, field in fields.items() if name not in parameters and required(field)]
    if missing:
        raise ConfigError(f"{what} needs {', '.join(missing)}; give it or ask for a calibration")
    return kind(**{name: _frozen(value) for name, value in parameters.items()})


def required(field: dataclasses.Field[Any]) -> bool:
    """Whether a dataclass field has no default."""
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def parse_call(what: str, text: str) -> tuple[str, dict[str, Any]]:
    """Read a name with parameters in brackets: ``exit(k=2)``, ``pwws(search=random-order)``, or the name alone.

    Args:
        what: What it is called in messages, e.g. ``"goal"``.
        text: The text.

    Returns:
        The name, and the parameters, their values read as YAML.

    Raises:
        ConfigError: It is not of that form.
    """
    call = _CALL.fullmatch(text.strip())
    if call is None:
        raise ConfigError(f"expected a {what} as name or name(parameter=value, ...), got {text!r}")
    found: dict[str, Any] = {}
    for argument in (call[2] or "").split(","):
        key, equals, value = argument.partition("=")
        if not argument.strip():
            continue
        if not equals:
            raise ConfigError(f"{what} {text!r}: expected parameter=value in the brackets, got {argument.strip()!r}")
        found[key.strip()] = yaml.safe_load(value)
    return call[1], found


def show(parameters: Mapping[str, Any]) -> str:
    """Return parameters as they stand in records, e.g. ``t=0.31, q=(1, 2)``; unset ones are left out."""
    return ", ".join(f"{key}={_shown(value)}" for key, value in parameters.items() if value is not None)


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, tuple):
        return "(" + ", ".join(_shown(item) for item in value) + ")"
    return str(value)


def require_number(where: str, parameter: str, value: object) -> None:
    """Refuse a threshold that is not a number (infinite ones are fine).

    Args:
        where: What has the parameter, first in the message.
        parameter: Its name.
        value: What was given.

    Raises:
        ConfigError: `value` is no number, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
        raise ConfigError(f"{where}: expected a number for {parameter}, got {value!r}")


def require_between(where: str, parameter: str, value: object, low: float, high: float) -> None:
    """Refuse a value outside [low, high].

    Raises:
        ConfigError: `value` is no number or lies outside.
    """
    require_number(where, parameter, value)
    if not low <= value <= high:  # type: ignore[operator]
        raise ConfigError(f"{where}: expected {parameter} from {low:g} to {high:g}, got {value!r}")


def require_count(where: str, parameter: str, value: object) -> None:
    """Refuse a count that is not a whole number of at least 1.

    Raises:
        ConfigError: `value` is no whole number >= 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{where}: expected a whole number of at least 1 for {parameter}, got {value!r}")


def require_one_of(where: str, parameter: str, value: object, known: tuple[str, ...]) -> None:
    """Refuse a choice that does not exist.

    Raises:
        ConfigError: `value` is none of `known`.
    """
    if value not in known:
        near = did_you_mean(str(value), known)
        raise ConfigError(f"{where}: expected {parameter} to be one of {', '.join(known)}, got {value!r}{near}")
