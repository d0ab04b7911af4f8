"""Depth: what every exit of the same weights would have answered."""

from __future__ import annotations

import numpy as np
import pandas as pd

from robustexit.measures.attempts import Attempts, BoolArray
from robustexit.measures.base import Estimate, measure
from robustexit.measures.statistics import mean, proportion


def recorded(attempts: Attempts) -> Attempts:
    """Return the attempts with the probabilities of all exits."""
    return attempts.where(attempts.has_probs)


@measure("Rescued", "higher", "%")
def rescued(attempts: Attempts) -> Estimate:
    """Deployed answer right on the final text where exit K of the same weights is wrong on it.

    Denominator: attempts of D with the probabilities of all exits. Wilson interval.
    """
    part = recorded(attempts)
    return proportion(part.right_attacked & ~part.right_by_exit_attacked[:, -1], part.units)


@measure("Harmed", "lower", "%")
def harmed(attempts: Attempts) -> Estimate:
    """Deployed answer wrong on the final text where exit K of the same weights is right on it.

    Denominator: attempts of D with the probabilities of all exits. Wilson interval.
    """
    part = recorded(attempts)
    return proportion(~part.right_attacked & part.right_by_exit_attacked[:, -1], part.units)


@measure("Net rescued", "higher", "points")
def net_rescued(attempts: Attempts) -> Estimate:
    """Rescued less harmed: deployed accuracy less exit K's on the same final texts.

    Final texts made against the deployed policy are a transfer attack for exit K. Denominator: attempts of
    D with the probabilities of all exits. Paired bootstrap interval.
    """
    part = recorded(attempts)
    last = part.right_by_exit_attacked[:, -1]
    return mean(part.right_attacked.astype(np.float64) - last.astype(np.float64), part.units)


@measure("Transfer to exit K", "none", "%")
def transfer_to_last(attempts: Attempts) -> Estimate:
    """Exit K is wrong on the final text too.

    Denominator: attempts of D where the deployed answer and exit K are right on the original and the deployed
    answer is wrong on the final text. Wilson interval.
    """
    part = recorded(attempts)
    both = part.right_clean & part.right_by_exit_clean[:, -1] & ~part.right_attacked
    return proportion(~part.right_by_exit_attacked[both, -1], part.units[both])


@measure("Transfer to deployed", "lower", "%")
def transfer_to_deployed(attempts: Attempts) -> Estimate:
    """Deployed answer is wrong on the final text too.

    Denominator: attempts of D where the deployed answer and exit K are right on the original and exit K is
    wrong on the final text. Wilson interval.
    On the goal `final`, whose texts are made against exit K, this is how far a plain attack transfers.
    """
    part = recorded(attempts)
    last_fooled = ~part.right_by_exit_attacked[:, -1]
    both = part.right_clean & part.right_by_exit_clean[:, -1] & last_fooled
    return proportion(~part.right_attacked[both], part.units[both])


def _overthinking(part: Attempts, right: BoolArray, *, right_at_last: bool) -> Estimate:
    earlier = right[:, :-1].any(axis=1)
    return proportion(earlier & (right[:, -1] == right_at_last), part.units)


@measure("Wasteful overthinking, clean", "none", "%")
def wasteful_clean(attempts: Attempts) -> Estimate:
    """On the original, some exit before K is right and so is K: the rest of the depth was not needed.

    Denominator: attempts of D with the probabilities of all exits. Wilson interval.
    """
    part = recorded(attempts)
    return _overthinking(part, part.right_by_exit_clean, right_at_last=True)


@measure("Wasteful overthinking, attacked", "none", "%")
def wasteful_attacked(attempts: Attempts) -> Estimate:
    """On the final text, some exit before K is right and so is K: the rest of the depth was not needed.

    Denominator: attempts of D with the probabilities of all exits. Wilson interval.
    """
    part = recorded(attempts)
    return _overthinking(part, part.right_by_exit_attacked, right_at_last=True)


@measure("Destructive overthinking, clean", "none", "%")
def destructive_clean(attempts: Attempts) -> Estimate:
    """On the original, some exit before K is right and K is wrong: the rest of the depth did harm.

    Denominator: attempts of D with the probabilities of all exits. Wilson interval.
    """
    part = recorded(attempts)
    return _overthinking(part, part.right_by_exit_clean, right_at_last=False)


@measure("Destructive overthinking, attacked", "none", "%")
def destructive_attacked(attempts: Attempts) -> Estimate:
    """On the final text, some exit before K is right and K is wrong: the rest of the depth did harm.

    Denominator: attempts of D with the probabilities of all exits. Wilson interval.
    """
    part = recorded(attempts)
    return _overthinking(part, part.right_by_exit_attacked, right_at_last=False)


@measure("Accuracy by exit", "higher", "%")
def accuracy_by_exit(attempts: Attempts) -> pd.DataFrame:
    """Accuracy that each exit alone would have on originals and on final texts, whoever left where.

    Final texts are the cell's own: for exits that the policy did not take they are transferred. Denominator:
    attempts of D with the probabilities of all exits. Wilson intervals.
    """
    part = recorded(attempts)
    return pd.DataFrame(
        [
            {
                "exit": i + 1,
                "layer": layer,
                "clean": proportion(part.right_by_exit_clean[:, i], part.units),
                "attacked": proportion(part.right_by_exit_attacked[:, i], part.units),
            }
            for i, layer in enumerate(part.layers)
        ]
    )


DEPTH = (
    rescued,
    harmed,
    net_rescued,
    transfer_to_last,
    transfer_to_deployed,
    wasteful_clean,
    wasteful_attacked,
    destructive_clean,
    destructive_attacked,
)
DEPTH_TABLES = (accuracy_by_exit,)
