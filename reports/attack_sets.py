"""The tables of sets of attacks: worst cases, and attacks on one exit each."""

from __future__ import annotations

from typing import Final

from robustexit.measures import Attempts, measure_named
from robustexit.measures.crafting import crafted_exit
from robustexit.reports.context import Context
from robustexit.reports.model import Column, Label, Row, Table

ATTACK_KEYS: Final = ["dataset", "victim", "recipe", "view"]


def who_broke_what(context: Context) -> Table:
    """Build, for every worst case that was run as one, which attack broke which share."""
    rows = []
    for cell in context.cells:
        if (cell.dataset, cell.victim.name) in context.withheld:
            continue
        found = measure_named("broken_by")(cell.attempts) if "broken_by" in cell.attempts.frame else None
        for one in found.itertuples() if found is not None else ():
            rows.append(Row((Label(str(one.attack)), one.broken), f"{cell.victim.name} · {cell.heading}"))
    return Table(
        "who_broke_what",
        "Worst cases: who broke what",
        "The attacks of a worst case run cheapest first, later ones only on examples still standing: each example "
        "counts for the first that broke it.",
        (Column("attack", "Attack"), Column("broken", "Broken first by it", "%", "broken_by")),
        tuple(rows),
        (),
        "No worst case was run as a set (key worst_case in the campaign).",
    )


def crafting(context: Context) -> Table:
    """Build the crafting matrices: one row for each exit crafted against and each exit read."""
    rows = []
    crafted = context.records.loc[[crafted_exit(str(goal)) is not None for goal in context.records["goal"]]]
    for (dataset, victim, recipe, view), part in crafted.groupby(ATTACK_KEYS, sort=False):
        if (dataset, victim) in context.withheld:
            continue
        known = context.facts.victims[str(victim)]
        group = f"{victim} · {dataset} · {recipe}" + ("" if view == "scores" else f" · {view}")
        for one in measure_named("crafting_matrix")(Attempts.of(part, known.exit_layers)).itertuples():
            name = Label(f"exit {one.crafted} → {one.exit}")
            rows.append(Row((name, one.accuracy, one.transfer if one.transfer.defined else None), group))
    return Table(
        "crafting",
        "Crafting matrix: texts made against one exit, read at every exit",
        "Accuracy of an exit on texts crafted against another (or itself), and how often texts that break the one "
        "break the other. Pooled over seeds; a victim's policy plays no part in it.",
        (
            Column("exits", "Crafted → read"),
            Column("accuracy", "Accuracy", "%", "crafting_matrix"),
            Column("transfer", "Transfer", "%", "crafting_matrix"),
        ),
        tuple(rows),
        (),
        "No goal attacked one exit alone ({name: exit, k: each} among the goals).",
    )
