"""No network unless allowed: the one place that tells the libraries below us so, also in worker processes."""

from __future__ import annotations

import os
import sys

from robustexit.errors import ConfigError

ALLOWED = "ROBUSTEXIT_ALLOW_NETWORK"
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def set_network(*, allowed: bool) -> None:
    """Tell the Hugging Face libraries and our own resource finders whether the network may be used.

    Called by the command line before they are imported, since they read their settings once. Every loading
    function of ours asks for local files only in addition.

    Raises:
        ConfigError: The network is forbidden, but they are imported already and online.
    """
    if allowed:
        os.environ[ALLOWED] = "1"
        return
    os.environ.pop(ALLOWED, None)
    for name in _OFFLINE:
        os.environ[name] = "1"
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None and not hub.HF_HUB_OFFLINE:
        raise ConfigError("huggingface_hub was imported online; set HF_HUB_OFFLINE=1 before starting Python")
