"""What the user allowed. Given on the command line or in code, never read from a campaign or training file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Permissions:
    """What the user allowed; nothing by default.

    Attributes:
        network: Hub downloads.
        code: ``module:factory`` victims.
        remote_code: Code that comes with a Hub model.
    """

    network: bool = False
    code: bool = False
    remote_code: bool = False
