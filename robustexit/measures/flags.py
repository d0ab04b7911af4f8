"""Self-checks: what in a run makes its numbers mean less than they seem to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import pandas as pd

from robustexit.measures.attempts import Attempts
from robustexit.measures.cost import speedup_clean
from robustexit.measures.facts import Facts, VictimFacts
from robustexit.measures.paired import ATTACK_KEYS, compare
from robustexit.measures.statistics import wilson

Severity: TypeAlias = Literal["withheld", "warning", "note"]

LEAST_EXAMPLES: Final = 30
MOST_ERRORS: Final = 0.01
MOST_ACCURACY_LOST: Final = 0.03
MOST_SPEEDUP_RATIO: Final = 1.15
MOST_WITHOUT_CANDIDATES: Final = 0.5


@dataclass(frozen=True)
class Flag:
    """One thing a reader must know before using a number.

    Attributes:
        code: Which check, e.g. ``weak-exit``.
        severity: ``withheld`` (attack results are not shown), ``warning`` or ``note``.
        dataset: Where it applies.
        victim: The victim, or an empty string for the whole dataset.
        attack: Recipe and goal, or an empty string for all of them.
        message: What was found, with its numbers, and what it means.
    """

    code: str
    severity: Severity
    dataset: str
    victim: str
    attack: str
    message: str


@dataclass(frozen=True)
class _Subject:
    """One victim on one dataset: its records, its distinct examples, and what the run says of it."""

    dataset: str
    victim: VictimFacts
    majority: float
    rows: pd.DataFrame
    examples: Attempts
    weak: frozenset[tuple[str, str, str]]

    def flag(self, code: str, severity: Severity, message: str, attack: str = "") -> Flag:
        return Flag(code, severity, self.dataset, self.victim.name, attack, message)


CHECKS: Final[Mapping[str, str]] = {
    "below-majority": "The Wilson lower bound of the victim's clean accuracy is under the majority rate: its "
    "attack "
    "results are withheld, for a model that guesses cannot be robust or weak.",
    "weak-exit": "An exit takes inputs although the Wilson lower bound of its accuracy on all originals is "
    "not above "
    "the majority rate.",
    "below-full-depth": "Clean accuracy is more than 3 points below that of the same weights at full depth: "
    "no "
    "headline victim.",
    "errors": "More than 1 % of a cell's attempts ended in an error or at the time limit.",
    "few-examples": "A cell has fewer than 30 evaluated examples.",
    "policy-inert": "An early-exit policy sends every original to one exit.",
    "transfer-stronger": "The goal `final` (a transfer attack on exit K) leaves less robust accuracy than "
    "the goal "
    "`deployed` on the same examples: the adaptive attack is not the strongest.",
    "no-candidates": "On more than half of the attacked examples the constraints let no candidate through (where "
    "records do not say so: they failed without one word changed): the recipe left nothing to try.",
    "sentence-constraint-skipped": "A recipe's sentence constraint does not look at texts under its window.",
    "weak-search": "A recipe's search climbs a score that the attacker's view shows only as met or not met: the "
    "attack is weak there, use a search made for the view.",
    "cost-not-matched": "The clean speed-ups of the early-exit victims of a dataset are more than 15 % apart.",
}
"""Every check and its rule, as the report and the documentation print it."""


def check(records: pd.DataFrame, manifest: Mapping[str, Any]) -> list[Flag]:
    """Run every self-check.

    Args:
        records: Records of the run.
        manifest: The run's manifest; every key is optional.

    Returns:
        The flags, withheld victims first, then in the order of `CHECKS`.
    """
    facts = Facts.of(records, manifest)
    subjects = list(_subjects(records, facts))
    flags = [flag for subject in subjects for find in _VICTIM_CHECKS for flag in find(subject)]
    flags += [*_sentence_constraint_skipped(subjects, facts), *_cost_not_matched(subjects)]
    # Its message gives robust accuracies, which a withheld victim must not show anywhere.
    hidden = withheld(flags)
    flags = [f for f in flags if f.code != "transfer-stronger" or (f.dataset, f.victim) not in hidden]
    order = {code: place for place, code in enumerate(CHECKS)}
    return sorted(flags, key=lambda flag: order[flag.code])


def withheld(flags: list[Flag]) -> dict[tuple[str, str], str]:
    """Return why attack results must not be shown, by (dataset, victim)."""
    return {(flag.dataset, flag.victim): flag.message for flag in flags if flag.severity == "withheld"}


def not_headline(flags: list[Flag]) -> set[tuple[str, str]]:
    """Return the (dataset, victim) pairs that the first line must leave out."""
    codes = {"below-majority", "below-full-depth"}
    return {(flag.dataset, flag.victim) for flag in flags if flag.code in codes}


def _subjects(records: pd.DataFrame, facts: Facts) -> Iterator[_Subject]:
    for (dataset, victim), rows in records.groupby(["dataset", "victim"], sort=False):
        known = facts.victims[str(victim)]
        distinct = rows.loc[rows["outcome"] != "error"].drop_duplicates("example_id")
        examples = Attempts.of(distinct if len(distinct) else rows, known.exit_layers)
        yield _Subject(str(dataset), known, facts.datasets[str(dataset)].majority_rate, rows, examples, facts.weak)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _below_majority(subject: _Subject) -> Iterator[Flag]:
    n = len(subject.examples)
    if not n:
        return
    hits = int(subject.examples.right_clean.sum())
    low, high = wilson(hits, n)
    if low < subject.majority:
        yield subject.flag(
            "below-majority",
            "withheld",
            f"clean accuracy {_percent(hits / n)} [{_percent(low)}, {_percent(high)}], n = {n}, is not "
            f"clearly above "
            f"the majority rate of {_percent(subject.majority)}",
        )


def _weak_exit(subject: _Subject) -> Iterator[Flag]:
    part = subject.examples.where(subject.examples.has_probs)
    for i in range(part.num_exits if len(part) else 0):
        taken = int((part.exit_clean == i + 1).sum())
        hits, n = int(part.right_by_exit_clean[:, i].sum()), len(part)
        if taken and wilson(hits, n)[0] <= subject.majority:
            yield subject.flag(
                "weak-exit",
                "warning",
                f"exit {i + 1} is right on {_percent(hits / n)} of all {n} originals, not clearly above the "
                f"majority "
                f"rate of {_percent(subject.majority)}, and takes {_percent(taken / n)} of them",
            )


def _below_full_depth(subject: _Subject) -> Iterator[Flag]:
    part = subject.examples.where(subject.examples.has_probs)
    if subject.victim.full_depth:
        return
    found: list[tuple[float, float, str]] = []
    if len(part):
        own, full = float(part.right_clean.mean()), float(part.right_by_exit_clean[:, -1].mean())
        found.append((own, full, f"the {len(part)} attacked originals"))
    calibration = subject.victim.calibrations.get(subject.dataset) or {}
    if calibration.get("clean_accuracy") is not None and calibration.get("full_depth_accuracy") is not None:
        where = f"the {calibration.get('n', '')} calibration examples".replace("  ", " ")
        found.append((float(calibration["clean_accuracy"]), float(calibration["full_depth_accuracy"]), where))
    for own, full, where in found:
        if full - own > MOST_ACCURACY_LOST:
            yield subject.flag(
                "below-full-depth",
                "warning",
                f"clean accuracy {_percent(own)} against {_percent(full)} at full depth of the same weights, "
                f"on {where}: "
                "no headline victim",
            )
            return


def _cells(subject: _Subject) -> Iterator[tuple[str, pd.DataFrame]]:
    for (recipe, goal, view), rows in subject.rows.groupby(["recipe", "goal", "view"], sort=False):
        yield f"{recipe}, {goal}" + ("" if view == "scores" else f", {view}"), rows


def _errors(subject: _Subject) -> Iterator[Flag]:
    for attack, rows in _cells(subject):
        errors, timeouts = (int((rows["outcome"] == name).sum()) for name in ("error", "timeout"))
        if (errors + timeouts) / len(rows) > MOST_ERRORS:
            message = f"{errors} errors and {timeouts} time-outs in {len(rows)} attempts"
            yield subject.flag("errors", "warning", message, attack)


def _few_examples(subject: _Subject) -> Iterator[Flag]:
    for attack, rows in _cells(subject):
        n = rows.loc[rows["outcome"] != "error", "example_id"].nunique()
        if n < LEAST_EXAMPLES:
            message = f"{n} evaluated examples: read the intervals, not the values"
            yield subject.flag("few-examples", "warning", message, attack)


def _policy_inert(subject: _Subject) -> Iterator[Flag]:
    victim, exits = subject.victim, subject.examples.exit_clean
    if victim.full_depth or victim.num_exits == 1 or victim.policy.startswith("fixed(") or len(exits) < 2:
        return
    if (exits == exits[0]).all():
        yield subject.flag(
            "policy-inert",
            "warning",
            f"all {len(exits)} originals leave at exit {exits[0]} of {victim.num_exits}",
        )


def _transfer_stronger(subject: _Subject) -> Iterator[Flag]:
    keys = [key for key in ATTACK_KEYS if key != "goal"]
    for (recipe, view, _), rows in subject.rows.groupby(keys, sort=False):
        by_goal = {goal: rows.loc[rows["goal"] == goal].assign(goal="") for goal in ("deployed", "final")}
        if any(part.empty for part in by_goal.values()):
            continue
        found = compare(by_goal["final"], by_goal["deployed"])
        if found.n and found.difference.value < 0:
            transferred = (found.both + found.only_victim) / found.n
            adaptive = (found.both + found.only_control) / found.n
            yield subject.flag(
                "transfer-stronger",
                "warning",
                f"robust accuracy {_percent(transferred)} under texts made against exit K, "
                f"{_percent(adaptive)} under "
                f"texts made against the deployed policy (n = {found.n})",
                f"{recipe}" + ("" if view == "scores" else f", {view}"),
            )


def _no_candidates(subject: _Subject) -> Iterator[Flag]:
    if "words_changed" not in subject.rows.columns:
        return
    for attack, rows in _cells(subject):
        attacked = rows.loc[~rows["outcome"].isin(["skipped", "error"])]
        failed = attacked["outcome"] == "failed"
        kept = attacked.get("candidates_kept")
        if kept is not None and bool(kept.notna().all()):
            without, how = int(((kept == 0) & failed).sum()), "were left without a candidate by the constraints"
        else:
            without = int(((attacked["words_changed"] == 0) & failed).sum())
            how = "failed without one word changed"
        if len(attacked) and without / len(attacked) > MOST_WITHOUT_CANDIDATES:
            yield subject.flag(
                "no-candidates",
                "warning",
                f"{without} of {len(attacked)} attacked examples {how} "
                f"(median queries {attacked['queries'].median():.0f})",
                attack,
            )


def _weak_search(subject: _Subject) -> Iterator[Flag]:
    for recipe, goal, view in _attacks(subject):
        if (recipe, goal, view) in subject.weak:
            message = f"its search climbs a score that the view {view!r} shows only as met or not met"
            yield subject.flag("weak-search", "warning", message, f"{recipe}, {goal}, {view}")


def _attacks(subject: _Subject) -> Iterator[tuple[str, str, str]]:
    for (recipe, goal, view), _ in subject.rows.groupby(["recipe", "goal", "view"], sort=False):
        yield str(recipe), str(goal), str(view)


def _sentence_constraint_skipped(subjects: list[_Subject], facts: Facts) -> Iterator[Flag]:
    for name, dataset in facts.datasets.items():
        n = max((s.rows["example_id"].nunique() for s in subjects if s.dataset == name), default=0)
        for recipe, found in dataset.windows.items():
            if found["below"] and any((s.rows["recipe"] == recipe).any() for s in subjects if s.dataset == name):
                message = (
                    f"{found['below']} of {n} attacked texts ({_percent(found['below'] / n)}) are under its window of "
                    f"{found['window']} words, where its sentence constraint lets everything through"
                )
                yield Flag("sentence-constraint-skipped", "note", name, "", recipe, message)


def _cost_not_matched(subjects: list[_Subject]) -> Iterator[Flag]:
    by_dataset: dict[str, dict[str, float]] = {}
    for subject in subjects:
        if subject.victim.num_exits == 1 or subject.victim.full_depth:
            continue
        speed = speedup_clean(subject.examples).value
        if np.isfinite(speed):
            by_dataset.setdefault(subject.dataset, {})[subject.victim.name] = speed
    for dataset, speeds in by_dataset.items():
        if max(speeds.values()) / min(speeds.values()) > MOST_SPEEDUP_RATIO:
            listed = ", ".join(f"{name} {speed:.2f}×" for name, speed in sorted(speeds.items(), key=lambda s: s[1]))
            message = f"clean speed-ups differ: {listed}; do not rank these victims without matching their cost"
            yield Flag("cost-not-matched", "note", dataset, "", "", message)


_VICTIM_CHECKS: Final[tuple[Callable[[_Subject], Iterator[Flag]], ...]] = (
    _below_majority,
    _weak_exit,
    _below_full_depth,
    _errors,
    _few_examples,
    _policy_inert,
    _transfer_stronger,
    _no_candidates,
    _weak_search,
)
