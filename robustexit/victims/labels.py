"""Whether a model's classes are those of the data, in the same order."""

from __future__ import annotations

import re

from robustexit.data.types import TextDataset
from robustexit.errors import ConfigError
from robustexit.victims.model_victim import DeployedModel

_UNNAMED = re.compile(r"LABEL_\d+|\d+")
"""What Hugging Face calls classes that nobody named."""


def stated_labels(deployed: DeployedModel) -> list[str] | None:
    """Return the model's class names, or None where nobody named them."""
    names = deployed.label_names
    return None if all(_UNNAMED.fullmatch(name) for name in names) else list(names)


def require_same_labels(deployed: DeployedModel, data: TextDataset, where: str = "") -> None:
    """Refuse a model whose classes are not the dataset's, or stand in another order.

    Args:
        deployed: The model.
        data: The dataset.
        where: What asks, first in the message.

    Raises:
        ConfigError: Naming both lists.
    """
    names = list(deployed.label_names)
    expected = list(data.label_names)
    prefix = f"{where}: " if where else ""
    shown = f"{prefix}the model's classes are {names}, dataset {data.name!r} has {expected}"
    if len(names) != len(expected):
        raise ConfigError(f"{shown}; they must be the same classes")
    ours, theirs = [name.lower() for name in names], [name.lower() for name in expected]
    if sorted(ours) == sorted(theirs) and ours != theirs:
        raise ConfigError(f"{shown}, in another order; reorder the dataset's `labels`")
