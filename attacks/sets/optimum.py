"""What an exact search says: robust accuracy for the set, and each heuristic's share of the optimum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from robustexit.errors import RunError

if TYPE_CHECKING:
    from robustexit.measures.base import Estimate

SUCCEEDED, FAILED, SKIPPED = "succeeded", "failed", "skipped"


def exact_robust_accuracy(outcomes: Sequence[str]) -> Estimate:
    """Estimate the share of all examples whose answer stays right on every text of the set.

    Args:
        outcomes: One outcome an example, of an exact search for a wrong deployed answer. A clean mistake (skipped)
            is not robust. Attempts that did not end (an error, a limit) leave the denominator and give the bounds.

    Returns:
        The share with its Wilson interval. It is exact for these examples; the interval is for others like them.
    """
    from robustexit.measures.statistics import proportion

    ended = [outcome for outcome in outcomes if outcome in (SUCCEEDED, FAILED, SKIPPED)]
    robust = np.array([outcome == FAILED for outcome in ended], dtype=bool)
    return proportion(robust, np.arange(len(ended)), errors=len(outcomes) - len(ended))


def share_of_optimum(heuristic: Mapping[str, str], exact: Mapping[str, str]) -> Estimate:
    """Estimate the share of the examples that some text of the set breaks which a heuristic breaks too.

    Args:
        heuristic: Outcome by example id, of a search that stays in the set.
        exact: The same of an exact search for the same goal on the same victim.

    Returns:
        Successes of the heuristic over those of the exact search, with its Wilson interval.

    Raises:
        RunError: The searches did not attack the same examples, or the heuristic succeeded where there is no success:
            then it did not stay in the set.
    """
    from robustexit.measures.statistics import proportion

    if set(heuristic) != set(exact):
        raise RunError("expected both searches on the same examples; compare runs over one sample")
    beyond = [name for name in exact if exact[name] == FAILED and heuristic[name] == SUCCEEDED]
    if beyond:
        raise RunError(
            f"example {beyond[0]!r}: the heuristic succeeded, but no text of the set does; compare searches on one set"
        )
    hits = np.array([heuristic[name] == SUCCEEDED for name in exact if exact[name] == SUCCEEDED], dtype=bool)
    return proportion(hits, np.arange(len(hits)))


def score_share(heuristic: Mapping[str, float], best: Mapping[str, float]) -> Estimate:
    """Estimate the mean over examples of a heuristic's score over the best score in the set.

    Args:
        heuristic: Score of the final text by example id.
        best: The best score that any text of the set has, positive.

    Returns:
        The mean with its bootstrap interval.

    Raises:
        RunError: The searches did not attack the same examples, or a best score is not positive.
    """
    from robustexit.measures.statistics import mean

    if set(heuristic) != set(best):
        raise RunError("expected both searches on the same examples; compare runs over one sample")
    worst = min(best.values(), default=1.0)
    if worst <= 0:
        raise RunError(f"expected best scores above 0, got {worst}; a share of nothing is undefined")
    shares = np.array([heuristic[name] / best[name] for name in best])
    return mean(shares, np.arange(len(shares)))
