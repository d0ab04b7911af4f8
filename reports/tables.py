"""The tables of a report, each built from the cells by measures alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pandas as pd

from robustexit.measures import Attempts, Comparison, Estimate, Measure, VictimFacts, measure_named, worst_case
from robustexit.measures.statistics import proportion
from robustexit.reports.attack_sets import crafting, who_broke_what
from robustexit.reports.context import CellGroup, Context, attack_name
from robustexit.reports.formats import p_value
from robustexit.reports.headline import guarded
from robustexit.reports.model import Change, Column, Label, Row, Table, Value, Withheld

VICTIM: Final = Column("victim", "Victim")
SUCCEEDED: Final = "Over attempts whose outcome is `succeeded`."


def _column(name: str, title: str = "", note: str = "", key: str = "") -> Column:
    one: Measure[Estimate] = measure_named(name)
    return Column(key or name, title or one.title, one.unit, name, note)


def _value(name: str, attempts: Attempts) -> Estimate:
    result: Estimate = measure_named(name)(attempts)
    return result


def _change(stem: str, attempts: Attempts) -> Change:
    return Change(_value(f"{stem}_clean", attempts), _value(f"{stem}_attacked", attempts))


def build_tables(context: Context) -> dict[str, Table]:
    """Build every table, in the order in which they are read."""
    tables = (
        headline(context),
        paired(context),
        paired_by_attack(context),
        worst_cases(context),
        who_broke_what(context),
        crafting(context),
        by_outcome(context),
        quadrants(context),
        accuracy_by_exit(context),
        depth(context),
        cost(context),
        dropped(context),
    )
    return {table.key: table for table in tables}


def headline(context: Context) -> Table:
    """Build the headline table: dataset x victim x recipe x goal."""
    columns = (
        VICTIM,
        _column("evaluated"),
        _column("skipped"),
        _column("errors"),
        _column("clean_accuracy"),
        _column("robust_accuracy"),
        _column("goal_success"),
        Column("exit", "Mean exit", "exits", "exit_attacked", "Clean → attacked."),
        _column("shift_mean"),
        Column("speedup", "Speed-up", "x", "speedup_attacked", "Clean → attacked."),
        Column("efficacy", "Efficacy", "number", "efficacy_attacked", "Clean → attacked."),
        _column("queries_mean"),
        _column("words_changed", "Words changed, succeeded", SUCCEEDED),
        _column("similarity", "Similarity, succeeded", SUCCEEDED),
    )
    return Table(
        "headline",
        "Every victim under every attack",
        "Full-depth controls stand beside the early-exit victims of the same weights. Arrows read clean → attacked.",
        columns,
        tuple(Row(_headline_row(context, cell), cell.heading) for cell in context.cells),
        _headline_notes(context),
    )


def _headline_row(context: Context, cell: CellGroup) -> tuple[Value, ...]:
    attempts = cell.attempts
    known: list[Value] = [
        _victim(context, cell.victim),
        *(_value(name, attempts) for name in ("evaluated", "skipped", "errors", "clean_accuracy")),
    ]
    reason = context.withheld.get((cell.dataset, cell.victim.name))
    if reason is not None:
        return (*known, *[Withheld(reason)] * 9)
    succeeded = attempts.by_outcome().get("succeeded", attempts.where(attempts.skipped & ~attempts.skipped))
    return (
        *known,
        _value("robust_accuracy", attempts),
        _value("goal_success", attempts),
        _change("exit", attempts),
        _value("shift_mean", attempts),
        _change("speedup", attempts),
        _change("efficacy", attempts),
        _value("queries_mean", attempts),
        _value("words_changed", succeeded),
        _value("similarity", succeeded),
    )


def _headline_notes(context: Context) -> tuple[str, ...]:
    notes = []
    if any(len(cell.seeds) > 1 for cell in context.cells):
        notes.append("Seeds are pooled: an example's attempts are drawn together in every interval.")
    if any(cell.attempts.errors for cell in context.cells):
        notes.append(
            "Where attempts ended in errors, shares also show the value if all of them had counted against or for."
        )
    substituted = sorted({cell.recipe for cell in context.cells if "+" in cell.recipe})
    if substituted:
        notes.append(f"Recipes that run with a substituted resource carry its name: {', '.join(substituted)}.")
    if "final" in {cell.goal for cell in context.cells}:
        notes.append("Goal `final` attacks exit K alone: for an early-exit victim that is a transfer attack.")
    notes.append("Recipes search different spaces: compare victims within a recipe, not recipes with each other.")
    return tuple(notes)


def _victim(context: Context, victim: VictimFacts) -> Label:
    label = context.label(victim)
    detail = f"{label.detail} · full depth" if victim.full_depth and victim.num_exits > 1 else label.detail
    return Label(label.main, detail)


PAIR_COLUMNS: Final = (
    VICTIM,
    Column("control", "Full depth"),
    Column("n", "n", "count", "difference"),
    Column("both", "Both robust", "count", "difference"),
    Column("only_victim", "Only early exit", "count", "difference"),
    Column("only_control", "Only full depth", "count", "difference"),
    Column("neither", "Neither", "count", "difference"),
    Column("difference", "Difference in robust accuracy", "points", "difference"),
    Column("clean_difference", "Difference in clean accuracy", "points", "difference", "On the originals."),
    Column("p_value", "McNemar p", "", "p_value"),
    Column("p_holm", "p, Holm", "", "p_value"),
)


def _pair_row(context: Context, pair: Comparison, group: str) -> Row:
    counts = (pair.n, pair.both, pair.only_victim, pair.only_control, pair.neither)
    return Row(
        (
            _victim(context, context.facts.victims[pair.victim]),
            pair.control,
            *(Estimate(float(count), n=pair.n) for count in counts),
            pair.difference,
            pair.clean_difference,
            p_value(pair.p_value),
            p_value(pair.p_holm),
        ),
        group,
    )


NO_PAIRS: Final = "No early-exit victim stands beside full depth of the same weights under the same attack."


def paired(context: Context) -> Table:
    """Build the paired comparisons behind the first line: worst case over the attacks that both had."""
    rows = [
        _pair_row(context, pair, f"{pair.dataset} · worst case over {_count(len(pair.attacks), 'attack')}")
        for pair in context.comparisons
    ]
    return Table(
        "paired",
        "Early exit against full depth, worst case",
        "The same weights, the same examples, the same attacks; an example is robust if it withstands all of "
        "them. "
        "Below zero: leaving early is weaker.",
        PAIR_COLUMNS,
        tuple(rows),
        (*_unmatched(context.comparisons), *_unguarded(context)),
        NO_PAIRS,
    )


def _unguarded(context: Context) -> tuple[str, ...]:
    """Warn that a gain may be the attack's failure where only the policy's own output was queried."""
    if not context.comparisons or guarded(context):
        return ()
    return (
        "The score of the goal `deployed` jumps where the exit changes, which can mislead a search: early exit may "
        "look stronger than it is. The guard is to attack exit K as well (goal `final`) and to read the worst case of "
        "both; it was not run here.",
    )


def paired_by_attack(context: Context) -> Table:
    """Build the paired comparisons of every attack and seed apart."""
    rows = []
    for pair in context.comparisons_by_attack:
        recipe, goal, view, seed = pair.attacks[0]
        rows.append(_pair_row(context, pair, f"{pair.dataset} · {attack_name(recipe, goal, view)} · seed {seed}"))
    return Table(
        "paired_by_attack",
        "Early exit against full depth, attack by attack",
        "The same comparison for each attack alone; p-values are adjusted over all rows of this table.",
        PAIR_COLUMNS,
        tuple(sorted(rows, key=lambda row: row.group)),
        _unmatched(context.comparisons_by_attack),
        NO_PAIRS,
    )


def _unmatched(pairs: Iterable[Comparison]) -> tuple[str, ...]:
    return tuple(
        f"{pair.victim} and {pair.control} on {pair.dataset}: {_count(pair.unmatched, 'example')} left out, "
        "evaluated on one of the two only."
        for pair in pairs
        if pair.unmatched
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def worst_cases(context: Context) -> Table:
    """Build the worst case over every attack on each victim."""
    rows = []
    for (dataset, victim), records in context.records.groupby(["dataset", "victim"], sort=False):
        if (dataset, victim) in context.withheld:
            continue
        attacks = records[["recipe", "goal", "view", "seed"]].drop_duplicates()
        robust = worst_case(records).to_numpy(dtype=bool)
        share = proportion(robust, pd.RangeIndex(len(robust)).to_numpy())
        known = context.facts.victims[str(victim)]
        values = (_victim(context, known), Estimate(float(len(attacks))), Estimate(float(len(robust))), share)
        rows.append(Row(values, str(dataset)))
    return Table(
        "worst_cases",
        "Worst case over all attacks",
        "An example counts as robust only if the deployed answer withstands every attack that was run on the victim.",
        (
            VICTIM,
            Column("attacks", "Attacks and seeds", "count"),
            Column("n", "n", "count"),
            Column("worst_case", "Robust accuracy, worst case", "%", "robust_accuracy", "Robust under every attack."),
        ),
        tuple(rows),
        ("Victims with more attacks have a harder worst case; the paired tables compare on equal attacks only.",),
    )


def by_outcome(context: Context) -> Table:
    """Build the exit side, split by outcome."""
    stems = ("exit", "confidence")
    rows = [
        Row(
            (
                Label(cell.victim.name, outcome),
                _value("evaluated", part),
                _change(stems[0], part),
                *(_value(name, part) for name in ("shift_mean", "shift_median", "later", "earlier", "at_last_exit")),
                _value("wasserstein", part),
                _change(stems[1], part),
            ),
            cell.heading,
        )
        for cell in context.early_cells
        for outcome, part in cell.attempts.by_outcome().items()
    ]
    return Table(
        "by_outcome",
        "Where texts leave, by outcome",
        "The exit side of every early-exit victim, for all attempts and for each outcome alone.",
        (
            Column("victim", "Victim and outcome"),
            _column("evaluated"),
            Column("exit", "Mean exit", "exits", "exit_attacked", "Clean → attacked."),
            *(
                _column(name)
                for name in ("shift_mean", "shift_median", "later", "earlier", "at_last_exit", "wasserstein")
            ),
            Column("confidence", "Confidence", "%", "confidence_attacked", "Clean → attacked."),
        ),
        tuple(rows),
    )


QUADRANTS: Final = tuple((answer, exit) for answer in ("kept", "flipped") for exit in ("earlier", "same", "later"))


def quadrants(context: Context) -> Table:
    """Build the crosstab of answer kept or flipped by exit earlier, same or later."""
    rows = []
    for cell in context.early_cells:
        table = measure_named("quadrants")(cell.attempts)
        right = Estimate(float(cell.attempts.right_clean.sum()))
        rows.append(Row((_victim(context, cell.victim), right, *table["share"]), cell.heading))
    columns = (Column(f"{answer}_{exit}", f"{answer.title()}, {exit}", "%", "quadrants") for answer, exit in QUADRANTS)
    return Table(
        "quadrants",
        "Answer kept or flipped, exit earlier or later",
        "Kept and later is the harm that a success rate cannot see: the answer survives, the saving does not.",
        (VICTIM, Column("n", "Right on the original", "count", "quadrants"), *columns),
        tuple(rows),
    )


def accuracy_by_exit(context: Context) -> Table:
    """Build per-exit accuracy, with what leaves there."""
    rows = []
    for cell in context.early_cells:
        accuracy = measure_named("accuracy_by_exit")(cell.attempts)
        shares = measure_named("exit_shares")(cell.attempts)
        for at, leaving in zip(accuracy.itertuples(), shares.itertuples(), strict=True):
            name = Label(f"exit {at.exit}", "" if at.layer == at.exit else f"layer {at.layer}")
            moved = Change(Estimate(leaving.clean), Estimate(leaving.attacked))
            rows.append(Row((name, at.clean, at.attacked, moved), f"{cell.victim.name} · {cell.heading}"))
    return Table(
        "accuracy_by_exit",
        "Accuracy of every exit",
        "What each exit alone would answer on originals and on the final texts, and what share of texts leaves there.",
        (
            Column("exit", "Exit"),
            Column("clean", "Accuracy on originals", "%", "accuracy_by_exit"),
            Column("attacked", "Accuracy on final texts", "%", "accuracy_by_exit"),
            Column("leaving", "Leaves here", "%", "exit_shares", "Clean → attacked."),
        ),
        tuple(rows),
    )


DEPTH_NAMES: Final = ("rescued", "harmed", "net_rescued", "transfer_to_last", "transfer_to_deployed")


def depth(context: Context) -> Table:
    """Build the deployed answer against exit K on the same final texts, and overthinking."""
    rows = [
        Row(
            (
                _victim(context, cell.victim),
                *(_value(name, cell.attempts) for name in DEPTH_NAMES),
                _change("wasteful", cell.attempts),
                _change("destructive", cell.attempts),
            ),
            cell.heading,
        )
        for cell in context.early_cells
    ]
    return Table(
        "depth",
        "Deployed exit against exit K on the same final texts",
        "Final texts were made against one of the two, so this is transfer, not a second attack.",
        (
            VICTIM,
            *(_column(name) for name in DEPTH_NAMES),
            Column("wasteful", "Wasteful overthinking", "%", "wasteful_attacked", "Clean → attacked."),
            Column("destructive", "Destructive overthinking", "%", "destructive_attacked", "Clean → attacked."),
        ),
        tuple(rows),
    )


COST_NAMES: Final = ("cost_inflation", "inflation_depth", "inflation_length", "efficiency_lost")
EFFORT_NAMES: Final = ("queries_median", "forwards_mean", "layer_forwards_mean", "char_edits")


def cost(context: Context) -> Table:
    """Build the cost of answering, and the cost of attacking."""
    shown = [cell for cell in context.cells if (cell.dataset, cell.victim.name) not in context.withheld]
    rows = [
        Row(
            (
                _victim(context, cell.victim),
                _change("speedup", cell.attempts),
                _change("macs", cell.attempts),
                *(_value(name, cell.attempts) for name in (*COST_NAMES, *EFFORT_NAMES)),
            ),
            cell.heading,
        )
        for cell in shown
    ]
    return Table(
        "cost",
        "Cost of answering, cost of attacking",
        "Cost inflation is depth part times length part. Costs are multiply-accumulates (MACs), not measured time.",
        (
            VICTIM,
            Column("speedup", "Speed-up", "x", "speedup_attacked", "Clean → attacked."),
            Column("macs", "MACs a text", "MACs", "macs_attacked", "Clean → attacked."),
            *(_column(name) for name in (*COST_NAMES, *EFFORT_NAMES)),
        ),
        tuple(rows),
    )


def dropped(context: Context) -> Table:
    """Build the list of cells that were planned away, with the reason."""
    cells = list(context.manifest.get("dropped_cells") or ())
    keys = ("dataset", "victim", "recipe", "goal", "view", "seed")
    rows = []
    for cell in cells:
        nested = cell.get("cell")
        named = nested if isinstance(nested, dict) else cell
        name = str(nested) if isinstance(nested, str) else " · ".join(str(named[k]) for k in keys if k in named)
        rows.append(Row((name, str(cell.get("reason", "no reason given")))))
    return Table(
        "dropped",
        "Cells that were not run",
        "Combinations that the plan left out because they cannot mean anything.",
        (Column("cell", "Cell"), Column("reason", "Reason")),
        tuple(rows),
        empty="None: every combination of the campaign was run.",
    )
