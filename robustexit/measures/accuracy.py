"""Accuracy and effort: what the attack did to the answers, and what it took."""

from __future__ import annotations

import math

import numpy as np

from robustexit.measures.attempts import Attempts
from robustexit.measures.base import Estimate, measure
from robustexit.measures.statistics import mean, median, proportion


def _attacked_mean(attempts: Attempts, column: str) -> Estimate:
    part = attempts.where(~attempts.skipped)
    return mean(part.number(column), part.units)


@measure("n", "none", "count")
def evaluated(attempts: Attempts) -> Estimate:
    """Evaluated attempts (D): every attempt but those that ended in an error."""
    return Estimate(float(len(attempts)), n=len(attempts))


@measure("Skipped", "none", "count")
def skipped(attempts: Attempts) -> Estimate:
    """Attempts of D whose goal already held on the original text, so that nothing was attacked."""
    return Estimate(float(attempts.skipped.sum()), n=len(attempts))


@measure("Errors", "lower", "count")
def errors(attempts: Attempts) -> Estimate:
    """Attempts that ended in an error. They leave D; shares show both bounds where there are any."""
    return Estimate(float(attempts.errors), n=len(attempts) + attempts.errors)


@measure("Clean accuracy", "higher", "%")
def clean_accuracy(attempts: Attempts) -> Estimate:
    """Deployed answer on the original is the label. Denominator: all of D. Wilson interval."""
    return proportion(attempts.right_clean, attempts.units, attempts.errors)


@measure("Robust accuracy", "higher", "%")
def robust_accuracy(attempts: Attempts) -> Estimate:
    """Deployed answer on the attack's final text is the label, read at the exit that this text takes.

    Denominator: all of D, so a clean mistake counts as not robust. Wilson interval.
    """
    return proportion(attempts.right_attacked, attempts.units, attempts.errors)


@measure("Goal success", "lower", "%")
def goal_success(attempts: Attempts) -> Estimate:
    """The attack reached its own goal. Denominator: attempts of D that were not skipped. Wilson interval."""
    part = ~attempts.skipped
    return proportion(attempts.goal_met[part], attempts.units[part], attempts.errors)


@measure("Answer success", "lower", "%")
def answer_success(attempts: Attempts) -> Estimate:
    """Deployed answer is wrong on the final text. Denominator: attempts of D right on the original.

    Wilson interval.
    """
    part = attempts.right_clean
    return proportion(~attempts.right_attacked[part], attempts.units[part], attempts.errors)


@measure("Queries", "higher", "count")
def queries_mean(attempts: Attempts) -> Estimate:
    """Mean model queries as TextAttack counts them. Denominator: attempts not skipped. Bootstrap interval."""
    return _attacked_mean(attempts, "queries")


@measure("Queries, median", "higher", "count")
def queries_median(attempts: Attempts) -> Estimate:
    """Median model queries as TextAttack counts them. Denominator: attempts not skipped."""
    part = attempts.where(~attempts.skipped)
    return median(part.number("queries"), part.units)


@measure("Forwards", "higher", "count")
def forwards_mean(attempts: Attempts) -> Estimate:
    """Mean distinct texts that an attempt had to run, alone and with an empty cache.

    Denominator: attempts not skipped. Bootstrap interval.
    """
    return _attacked_mean(attempts, "forwards")


@measure("Layer forwards", "higher", "count")
def layer_forwards_mean(attempts: Attempts) -> Estimate:
    """Mean encoder layers run for an attempt's distinct texts. Denominator: attempts not skipped.

    Bootstrap interval.
    """
    return _attacked_mean(attempts, "layer_forwards")


@measure("Words changed", "higher", "%")
def words_changed(attempts: Attempts) -> Estimate:
    """Mean share of the original's words that were changed or removed. Denominator: attempts not skipped.

    Bootstrap interval.
    """
    part = attempts.where(~attempts.skipped)
    words = part.number("words_total")
    return mean(part.number("words_changed") / np.where(words > 0, words, math.nan), part.units)


@measure("Character edits", "higher", "count")
def char_edits(attempts: Attempts) -> Estimate:
    """Mean Levenshtein distance in characters between original and final text.

    Denominator: attempts not skipped. Bootstrap interval.
    """
    return _attacked_mean(attempts, "char_edits")


@measure("Similarity", "none", "number")
def similarity(attempts: Attempts) -> Estimate:
    """Mean sentence-encoder cosine of original and final text.

    Denominator: attempts not skipped that have one. Bootstrap interval.
    """
    return _attacked_mean(attempts, "similarity")


ACCURACY = (
    evaluated,
    skipped,
    errors,
    clean_accuracy,
    robust_accuracy,
    goal_success,
    answer_success,
    queries_mean,
    queries_median,
    forwards_mean,
    layer_forwards_mean,
    words_changed,
    char_edits,
    similarity,
)
