"""No network unless allowed: the one place that tells the Hugging Face libraries so."""

from __future__ import annotations

import os
import sys

from robustexit.errors import ConfigError

_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE")


def forbid_network() -> None:
    """Put the Hugging Face libraries into offline mode, also in worker processes.

    Called by the command line before they are imported, since they read their settings once. Every loading
    function of ours asks for local files only in addition.

    Raises:
        ConfigError: They are imported already and online.
    """
    for name in _OFFLINE:
        os.environ[name] = "1"
    hub = sys.modules.get("huggingface_hub.constants")
    if hub is not None and not hub.HF_HUB_OFFLINE:
        raise ConfigError("huggingface_hub was imported online; set HF_HUB_OFFLINE=1 before starting Python")
