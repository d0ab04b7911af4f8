"""The control for importance-ranked searches: words in random order."""

from __future__ import annotations

from typing import Any

from robustexit.attacks.textattack_api import GreedyWordSwapWIR
from robustexit.errors import ConfigError


def make(own: Any) -> Any:
    """Return the greedy search with its words in random order (drawn from NumPy's seeded global generator).

    Raises:
        ConfigError: The recipe's own search does not rank words.
    """
    if not isinstance(own, GreedyWordSwapWIR):
        raise ConfigError(
            f"search 'random-order' is the control for searches that rank words, which {type(own).__name__} does not"
        )
    return GreedyWordSwapWIR(wir_method="random", unk_token=own.unk_token)
