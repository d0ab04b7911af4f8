"""The first line: does early exit make it weaker, and by how much?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from robustexit.measures import Attempts, Comparison, Estimate, measure_named, not_headline
from robustexit.measures.paired import on_attacks
from robustexit.reports.context import Context, leaves_early
from robustexit.reports.formats import MINUS, number, p_value, signed

Verdict: TypeAlias = Literal["weaker", "stronger", "unclear"]

SIGNIFICANT: Final = 0.05


@dataclass(frozen=True)
class Finding:
    """One headline victim against full depth of its weights, with its exit side under the same attacks."""

    comparison: Comparison
    family: int
    num_exits: int
    exits: tuple[Estimate, Estimate]
    speedups: tuple[Estimate, Estimate]

    @property
    def verdict(self) -> Verdict:
        """Weaker or stronger only where the interval excludes 0 and McNemar holds after correction."""
        found = self.comparison
        if not found.difference.excludes_zero() or not found.p_holm < SIGNIFICANT:
            return "unclear"
        return "weaker" if found.difference.value < 0 else "stronger"


def first_line(context: Context) -> tuple[str, tuple[str, ...]]:
    """Return the answer in one sentence, and one sentence a comparison where there are several."""
    findings = _findings(context)
    if not findings:
        return _no_answer(context), ()
    caution = UNGUARDED if any(f.verdict == "stronger" for f in findings) and not guarded(context) else ""
    if len(findings) == 1:
        return _sentence(findings[0]) + caution, ()
    return _summary(findings) + caution, tuple(_sentence(finding) for finding in findings)


UNGUARDED: Final = (
    " Read with care: the last exit was not attacked (goal final), and a search misled by the jumps of an early-exit "
    "policy's score looks just like this."
)


def guarded(context: Context) -> bool:
    """Whether exit K was attacked as well, so that a gain cannot be a search misled by the policy's jumps."""
    return "final" in set(context.records["goal"])


def _findings(context: Context) -> list[Finding]:
    left_out = not_headline(context.flags)
    compared = [c for c in context.comparisons if c.n and (c.dataset, c.victim) not in left_out]
    return [_finding(context, comparison, len(context.comparisons)) for comparison in compared]


def _finding(context: Context, comparison: Comparison, family: int) -> Finding:
    records = context.records
    rows = records.loc[(records["dataset"] == comparison.dataset) & (records["victim"] == comparison.victim)]
    attempts = Attempts.of(on_attacks(rows, comparison.attacks))
    exits, speedups = (
        (measure_named(before)(attempts), measure_named(after)(attempts))
        for before, after in (("exit_clean", "exit_attacked"), ("speedup_clean", "speedup_attacked"))
    )
    return Finding(comparison, family, attempts.num_exits, exits, speedups)


def _sentence(finding: Finding) -> str:
    comparison = finding.comparison
    points = 100 * comparison.difference.value
    low, high = (100 * (end or 0.0) for end in (comparison.difference.low, comparison.difference.high))
    basis = f"n = {comparison.n}, {_attacks(comparison)}"
    clean = f"clean accuracy {signed(comparison.clean_difference.value, 'points')} points"
    where, victim = comparison.dataset, comparison.victim
    if finding.verdict == "unclear":
        lead = (
            f"On {where}, this run does not show that leaving early makes {victim} weaker or stronger: its "
            f"robust "
            f"accuracy differs from full depth of the same weights by {_signed(points)} points "
            f"(95 % interval {_signed(low)} to {_signed(high)}{_why_unclear(finding)}; {basis}; {clean})"
        )
        return f"{lead}; {_exit_side(finding)}."
    side = "below" if points < 0 else "above"
    near, far = sorted((abs(low), abs(high)))
    return (
        f"On {where}, leaving early makes {victim} {finding.verdict}: its robust accuracy is "
        f"{abs(points):.1f} points "
        f"{side} full depth of the same weights (95 % interval {near:.1f} to {far:.1f} {side}; {basis}; "
        f"{clean}), "
        f"and {_exit_side(finding)}."
    )


def _why_unclear(finding: Finding) -> str:
    if not finding.comparison.difference.excludes_zero():
        return ", which includes 0"
    return f", but McNemar p = {p_value(finding.comparison.p_holm)} over {finding.family} comparisons"


def _exit_side(finding: Finding) -> str:
    (exit_before, exit_after), (speed_before, speed_after) = finding.exits, finding.speedups
    exits = (
        f"under attack its mean exit goes from {number(exit_before.value, 'exits')} to "
        f"{number(exit_after.value, 'exits')} of {finding.num_exits}"
    )
    if not (speed_before.defined and speed_after.defined):
        return exits
    return f"{exits} and its speed-up from {number(speed_before.value, 'x')} to {number(speed_after.value, 'x')}"


def _attacks(comparison: Comparison) -> str:
    count = len(comparison.attacks)
    if count == 1:
        recipe, goal, _, _ = comparison.attacks[0]
        return f"attack {recipe} with goal {goal}"
    return f"worst case over {count} attacks"


def _signed(points: float) -> str:
    text = f"{abs(points):.1f}"
    return text if float(text) == 0 else f"+{text}" if points > 0 else f"{MINUS}{text}"


VERDICT_WORDS: Final[dict[Verdict, str]] = {
    "weaker": "weaker",
    "stronger": "stronger",
    "unclear": "neither clearly weaker nor stronger",
}
NAMED: Final = 2
"""Victims of one verdict that the summary names with their numbers; of more it names the clearest."""


def _summary(findings: Sequence[Finding]) -> str:
    """Word the verdicts of several comparisons in one sentence, dataset by dataset."""
    datasets = dict.fromkeys(finding.comparison.dataset for finding in findings)
    parts = []
    for dataset in datasets:
        own = [finding for finding in findings if finding.comparison.dataset == dataset]
        groups = {verdict: [f for f in own if f.verdict == verdict] for verdict in VERDICT_WORDS}
        said = [f"{_listed(group)} {VERDICT_WORDS[verdict]}" for verdict, group in groups.items() if group]
        parts.append(f"on {dataset} it makes {' and '.join(said)}")
    return f"Leaving early against full depth of the same weights: {'; '.join(parts)}."


def _listed(findings: Sequence[Finding]) -> str:
    ordered = sorted(findings, key=lambda finding: -abs(finding.comparison.difference.value))
    if len(ordered) <= NAMED:
        return ", ".join(_numbers(finding) for finding in ordered)
    return f"{len(ordered)} victims, the most {_numbers(ordered[0])},"


def _numbers(finding: Finding) -> str:
    """Return a victim with its difference, interval, n and speed-ups."""
    found = finding.comparison
    value, low, high = (
        signed(end or 0.0, "points") for end in (found.difference.value, found.difference.low, found.difference.high)
    )
    speeds = " → ".join(number(speed.value, "x") for speed in finding.speedups if speed.defined)
    speed = f", speed-up {speeds}" if speeds else ""
    tested = f"adjusted McNemar p {p_value(found.p_holm)}"
    return (
        f"{found.victim} ({value} points of robust accuracy, 95 % interval {low} to {high}, {tested}, "
        f"n = {found.n}{speed})"
    )


def _no_answer(context: Context) -> str:
    """Say what is missing for an answer."""
    early = [victim.name for victim in context.facts.victims.values() if leaves_early(victim)]
    opening = "This run cannot say whether early exit makes the classifier weaker"
    if not early:
        return f"{opening}: no victim in it can leave before its last exit."
    left_out = {victim for _, victim in not_headline(context.flags)}
    if context.comparisons and all(c.victim in left_out for c in context.comparisons):
        return (
            f"{opening}: every early-exit victim has lost too much clean accuracy to be a headline victim "
            "(see the flags)."
        )
    if context.withheld:
        return f"{opening}: attack results are withheld where a victim is not clearly above the majority rate."
    if any(comparison.n == 0 for comparison in context.comparisons):
        return f"{opening}: no example was evaluated on both an early-exit victim and its full-depth control."
    return (
        f"{opening}: no early-exit victim stands beside full depth of the same weights under the same "
        f"attack; "
        "add that control to the campaign."
    )
