"""Exits: where texts leave, before and after the attack."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

from robustexit.measures.attempts import Attempts, FloatArray, IntArray
from robustexit.measures.base import UNDEFINED, Estimate, measure
from robustexit.measures.statistics import expected_calibration_error, mean, median, proportion


@measure("Mean exit, clean", "lower", "exits")
def exit_clean(attempts: Attempts) -> Estimate:
    """Mean exit taken on the original, 1 to K. Denominator: all of D. Bootstrap interval."""
    return mean(attempts.exit_clean, attempts.units)


@measure("Mean exit, attacked", "lower", "exits")
def exit_attacked(attempts: Attempts) -> Estimate:
    """Mean exit taken on the final text, 1 to K. Denominator: all of D. Bootstrap interval."""
    return mean(attempts.exit_attacked, attempts.units)


@measure("Exit shift", "lower", "exits")
def shift_mean(attempts: Attempts) -> Estimate:
    """Mean of exit on the final text less exit on the original. Denominator: all of D.

    Paired bootstrap interval over examples.
    """
    return mean(attempts.shift, attempts.units)


@measure("Exit shift, median", "lower", "exits")
def shift_median(attempts: Attempts) -> Estimate:
    """Median of exit on the final text less exit on the original. Denominator: all of D."""
    return median(attempts.shift, attempts.units)


@measure("Later", "lower", "%")
def later(attempts: Attempts) -> Estimate:
    """The final text leaves at a later exit than the original. Denominator: all of D. Wilson interval."""
    return proportion(attempts.shift > 0, attempts.units)


@measure("Earlier", "none", "%")
def earlier(attempts: Attempts) -> Estimate:
    """The final text leaves at an earlier exit than the original. Denominator: all of D. Wilson interval."""
    return proportion(attempts.shift < 0, attempts.units)


@measure("At last exit", "lower", "%")
def at_last_exit(attempts: Attempts) -> Estimate:
    """The final text leaves at exit K: nothing was saved on it. Denominator: all of D. Wilson interval."""
    return proportion(attempts.exit_attacked == attempts.num_exits, attempts.units)


@measure("Exit histogram distance", "lower", "layers")
def wasserstein(attempts: Attempts) -> Estimate:
    """Wasserstein-1 distance between the exit histograms on originals and on final texts.

    The sum over exits of the difference of the two cumulative shares times the gap to the next exit, in
    encoder layers (in exits where the run does not say its layers). Over all of D; no interval.
    """
    if not len(attempts):
        return UNDEFINED
    layers = np.asarray(attempts.layers, dtype=np.float64)
    distance = stats.wasserstein_distance(layers[attempts.exit_clean - 1], layers[attempts.exit_attacked - 1])
    return Estimate(float(distance), n=len(attempts))


@measure("Confidence, clean", "none", "%")
def confidence_clean(attempts: Attempts) -> Estimate:
    """Mean largest probability that the policy returned on the original. Denominator: all of D.

    Bootstrap interval.
    """
    return mean(attempts.number("confidence_clean"), attempts.units)


@measure("Confidence, attacked", "none", "%")
def confidence_attacked(attempts: Attempts) -> Estimate:
    """Mean largest probability that the policy returned on the final text. Denominator: all of D.

    Bootstrap interval.
    """
    return mean(attempts.number("confidence_attacked"), attempts.units)


def _calibration_error(confidence: FloatArray, right: FloatArray) -> Estimate:
    known = ~np.isnan(confidence)
    confidence, right = confidence[known], right[known]
    if not len(confidence):
        return UNDEFINED
    return Estimate(expected_calibration_error(confidence, right), n=len(confidence))


@measure("Calibration error, clean", "lower", "%")
def calibration_error_clean(attempts: Attempts) -> Estimate:
    """Expected calibration error of the deployed answer on originals.

    Ten equal bins of confidence at the taken exit; mean absolute difference of confidence and accuracy,
    weighted by bin size. Over all of D.
    """
    return _calibration_error(attempts.number("confidence_clean"), attempts.right_clean.astype(np.float64))


@measure("Calibration error, attacked", "lower", "%")
def calibration_error_attacked(attempts: Attempts) -> Estimate:
    """Expected calibration error of the deployed answer on final texts.

    Ten equal bins of confidence at the taken exit; mean absolute difference of confidence and accuracy,
    weighted by bin size. Over all of D.
    """
    return _calibration_error(attempts.number("confidence_attacked"), attempts.right_attacked.astype(np.float64))


def _shares(exits: IntArray, num_exits: int) -> FloatArray:
    counts = np.bincount(exits, minlength=num_exits + 1)[1:].astype(np.float64)
    return np.asarray(counts / max(1.0, float(counts.sum())))


@measure("Exit histogram", "none", "%")
def exit_shares(attempts: Attempts) -> pd.DataFrame:
    """Share of texts that leave at each exit, on originals and on final texts. Denominator: all of D."""
    return pd.DataFrame(
        {
            "exit": np.arange(1, attempts.num_exits + 1),
            "layer": attempts.layers,
            "clean": _shares(attempts.exit_clean, attempts.num_exits),
            "attacked": _shares(attempts.exit_attacked, attempts.num_exits),
        }
    )


@measure("Exit transitions", "none", "%")
def transitions(attempts: Attempts) -> pd.DataFrame:
    """Joint share of (exit on the original, exit on the final text), K x K. Denominator: all of D.

    Rows are exits on the original, columns exits on the final text; the entries sum to 1.
    """
    k = attempts.num_exits
    counts = np.zeros((k, k))
    np.add.at(counts, (attempts.exit_clean - 1, attempts.exit_attacked - 1), 1)
    names = range(1, k + 1)
    return pd.DataFrame(counts / max(1, len(attempts)), index=pd.Index(names), columns=pd.Index(names))


@measure("Answer by exit", "none", "%")
def quadrants(attempts: Attempts) -> pd.DataFrame:
    """Joint share of {answer kept, flipped} x {exit earlier, same, later}.

    Denominator: attempts of D right on the original. Kept and later is the harm that a success rate cannot
    see. The six shares sum to 1; Wilson intervals.
    """
    part = attempts.where(attempts.right_clean)
    exits = {"earlier": part.shift < 0, "same": part.shift == 0, "later": part.shift > 0}
    answers = {"kept": part.right_attacked, "flipped": ~part.right_attacked}
    return pd.DataFrame(
        [
            {
                "answer": answer,
                "exit": name,
                "share": proportion(held & moved, part.units),
                "count": int((held & moved).sum()),
            }
            for answer, held in answers.items()
            for name, moved in exits.items()
        ]
    )


EXITS = (
    exit_clean,
    exit_attacked,
    shift_mean,
    shift_median,
    later,
    earlier,
    at_last_exit,
    wasserstein,
    confidence_clean,
    confidence_attacked,
    calibration_error_clean,
    calibration_error_attacked,
)
EXIT_TABLES = (exit_shares, transitions, quadrants)
