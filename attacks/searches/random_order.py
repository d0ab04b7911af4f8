"""The control for importance-ranked searches: words in random order."""

from __future__ import annotations

from copy import copy
from typing import Any

from robustexit.attacks.searches.position import PositionSearch
from robustexit.attacks.textattack_api import GreedyWordSwapWIR
from robustexit.errors import ConfigError


def make(own: Any) -> Any:
    """Return a search that ranks words with its words in random order (drawn from NumPy's seeded global generator).

    Raises:
        ConfigError: The recipe's own search does not rank words.
    """
    if isinstance(own, PositionSearch):
        return PositionSearch(ranked=False)
    if not isinstance(own, GreedyWordSwapWIR):
        raise ConfigError(
            f"search 'random-order' is the control for searches that rank words, which {type(own).__name__} does not"
        )
    control = copy(own)
    control.wir_method = "random"
    return control
