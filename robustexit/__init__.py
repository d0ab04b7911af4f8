"""RobustExit: does leaving early make a classifier weaker or stronger under attack?

Heavy libraries load when they are used: importing this package stays well under a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustexit.campaign.run import run_campaign, run_campaign_file
    from robustexit.runs import Run, load_run

__all__ = ["Run", "load_run", "run_campaign", "run_campaign_file"]

_HOMES = {
    "Run": "robustexit.runs",
    "load_run": "robustexit.runs",
    "run_campaign": "robustexit.campaign.run",
    "run_campaign_file": "robustexit.campaign.run",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'robustexit' has no attribute {name!r}")
