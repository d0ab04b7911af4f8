"""The exit policy stored beside a model's weights, so that a folder is a whole deployed system."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from robustexit.errors import ConfigError, ModelError
from robustexit.exits import Calibration, ExitPolicy, make_policy
from robustexit.runs import write_atomically

FILE: Final = "exit_policy.json"


@dataclass(frozen=True)
class StoredPolicy:
    """An exit policy with the calibration it came from (None if its parameters were given)."""

    policy: ExitPolicy
    calibration: Calibration | None


def save_stored_policy(folder: Path, stored: StoredPolicy) -> None:
    """Write the policy beside the weights."""
    content = {
        "policy": stored.policy.name,
        "parameters": stored.policy.parameters,
        "calibration": stored.calibration.as_dict() if stored.calibration else None,
    }
    write_atomically(folder / FILE, json.dumps(content, indent=2).encode())


def load_stored_policy(folder: Path) -> StoredPolicy:
    """Read the policy stored beside the weights.

    Raises:
        ConfigError: The folder has none.
        ModelError: The file cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        raise ConfigError(
            f"{folder} has no stored exit policy ({FILE}); name a policy, or store one with "
            "`robustexit train ... --policy entropy --speedup 1.5`"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        calibration = Calibration(**content["calibration"]) if content["calibration"] else None
        return StoredPolicy(make_policy(content["policy"], **content["parameters"]), calibration)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read ({error!r}); remove it and calibrate again") from error
