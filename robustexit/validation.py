"""Word pydantic's findings as expected / got / did you mean, the same for every file and command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from robustexit.errors import ConfigError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


def validate(kind: type[Model], values: Mapping[str, Any], where: str) -> Model:
    """Check values against a pydantic model.

    Args:
        kind: The model.
        values: As read from YAML or the command line.
        where: What the values came from, first in the message.

    Raises:
        ConfigError: One line for each problem.
    """
    try:
        return kind.model_validate(dict(values))
    except ValidationError as error:
        lines = [_explain(kind, one) for one in error.errors()]
        shown = f" {lines[0]}" if len(lines) == 1 else "".join(f"\n  {line}" for line in lines)
        raise ConfigError(f"{where}:{shown}") from error


def _explain(kind: type[BaseModel], error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    prefix = f"{where}: " if where else ""
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        known = _keys_at(kind, error["loc"][:-1])
        listed = f"; expected one of: {', '.join(known)}" if known else ""
        return f"{prefix}unknown key {key!r}{did_you_mean(key, known)}{listed}"
    if error["type"] == "missing":
        return f"{prefix}missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{prefix}{message} (got {_short(error['input'])})"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _keys_at(kind: Any, location: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that stands at a place, for suggestions."""
    for part in location:
        if _is_model(kind) and str(part) in kind.model_fields:
            kind = kind.model_fields[str(part)].annotation
        kind = _model_in(kind)
    return sorted(kind.model_fields) if _is_model(kind) else []


def _model_in(annotation: Any) -> Any:
    """The pydantic model inside ``dict[str, Model]``, ``Model | None`` and the like; else the annotation."""
    for inner in get_args(annotation):
        found = _model_in(inner)
        if _is_model(found):
            return found
    return annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
