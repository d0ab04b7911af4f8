"""What every part of a report reads: the records cut into cells, the facts of the run, the flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from robustexit.measures import Attempts, Comparison, Facts, Flag, VictimFacts, adjusted, check, compare, withheld
from robustexit.reports.formats import policy
from robustexit.reports.model import Label


@dataclass(frozen=True, eq=False)
class CellGroup:
    """The attempts of one victim under one attack, its seeds pooled.

    Attributes:
        dataset: Dataset name.
        victim: What is known of the victim.
        recipe: Attack recipe.
        goal: Attack goal.
        view: Attacker's view.
        seeds: Seeds pooled.
        attempts: The evaluated attempts.
    """

    dataset: str
    victim: VictimFacts
    recipe: str
    goal: str
    view: str
    seeds: tuple[int, ...]
    attempts: Attempts

    @property
    def attack(self) -> str:
        """Name of the attack, as it stands in headings."""
        return attack_name(self.recipe, self.goal, self.view)

    @property
    def heading(self) -> str:
        """Dataset and attack, as it stands over a group of rows."""
        pooled = f" · seeds {', '.join(map(str, self.seeds))} pooled" if len(self.seeds) > 1 else ""
        return f"{self.dataset} · {self.attack}{pooled}"

    @property
    def early(self) -> bool:
        """Whether the victim can leave before its last exit."""
        return leaves_early(self.victim)


def attack_name(recipe: str, goal: str, view: str) -> str:
    """Name an attack: recipe, goal, and the view unless it is the usual one."""
    return f"{recipe}, goal {goal}" + ("" if view == "scores" else f", view {view}")


def leaves_early(victim: VictimFacts) -> bool:
    """Whether a victim can leave before its last exit."""
    return victim.num_exits > 1 and not victim.full_depth


@dataclass(frozen=True, eq=False)
class Context:
    """One run, ready to be reported."""

    records: pd.DataFrame
    manifest: Mapping[str, Any]

    @cached_property
    def facts(self) -> Facts:
        """Victims and datasets."""
        return Facts.of(self.records, self.manifest)

    @cached_property
    def flags(self) -> list[Flag]:
        """What the self-checks found."""
        return check(self.records, self.manifest)

    @cached_property
    def withheld(self) -> dict[tuple[str, str], str]:
        """Why a victim's attack results must not be shown, by (dataset, victim)."""
        return withheld(self.flags)

    @cached_property
    def cells(self) -> list[CellGroup]:
        """Every cell, seeds pooled: attacks of a dataset together, each control after its early-exit victims."""
        keys = ["dataset", "recipe", "goal", "view", "victim"]
        cells = []
        for (dataset, recipe, goal, view, victim), rows in self.records.groupby(keys, sort=False):
            known = self.facts.victims[str(victim)]
            seeds = tuple(sorted(int(seed) for seed in rows["seed"].unique()))
            attempts = Attempts.of(rows, known.exit_layers)
            cells.append(CellGroup(str(dataset), known, str(recipe), str(goal), str(view), seeds, attempts))
        datasets, victims = list(self.facts.datasets), self._victim_order
        return sorted(
            cells, key=lambda c: (datasets.index(c.dataset), c.recipe, c.goal, c.view, victims.index(c.victim.name))
        )

    @cached_property
    def _victim_order(self) -> list[str]:
        """Victims by weights: those that share a control stand together, the control last."""
        names = list(self.facts.victims)
        weights = {name: self.facts.victims[name].control or name for name in names}
        first = {weight: place for place, weight in reversed(list(enumerate(weights.values())))}
        return sorted(names, key=lambda name: (first[weights[name]], name == weights[name], names.index(name)))

    @property
    def early_cells(self) -> list[CellGroup]:
        """Cells of victims that can leave early and whose results may be shown."""
        return [c for c in self.cells if c.early and (c.dataset, c.victim.name) not in self.withheld]

    @cached_property
    def comparisons(self) -> list[Comparison]:
        """Every early-exit victim against full depth of its weights, worst case over the attacks both had.

        Holm over all of them; pairs of which one is withheld are left out.
        """
        found = []
        for dataset, rows in self.records.groupby("dataset", sort=False):
            for victim, control in self._pairs(str(dataset), rows):
                comparison = compare(rows.loc[rows["victim"] == victim], rows.loc[rows["victim"] == control])
                if comparison.attacks:
                    found.append(comparison)
        return adjusted(found)

    @cached_property
    def comparisons_by_attack(self) -> list[Comparison]:
        """The same for every attack and seed apart; Holm over all of them."""
        found = []
        for pair in self.comparisons:
            rows = self.records.loc[self.records["dataset"] == pair.dataset]
            for recipe, goal, view, seed in pair.attacks:
                mask = (rows["recipe"] == recipe) & (rows["goal"] == goal)
                cell = rows.loc[mask & (rows["view"] == view) & (rows["seed"] == seed)]
                found.append(compare(cell.loc[cell["victim"] == pair.victim], cell.loc[cell["victim"] == pair.control]))
        return adjusted(found)

    def _pairs(self, dataset: str, rows: pd.DataFrame) -> list[tuple[str, str]]:
        present = set(rows["victim"])
        return [
            (name, victim.control)
            for name, victim in self.facts.victims.items()
            if name in present
            and victim.control in present
            and victim.control is not None
            and victim.control != name
            and not {(dataset, name), (dataset, victim.control)} & set(self.withheld)
        ]

    def label(self, victim: VictimFacts) -> Label:
        """Name a victim with its policy in words."""
        return Label(victim.name, policy(victim.policy))

    def answer_name(self, dataset: str, index: int) -> str:
        """Name a class."""
        labels = self.facts.datasets[dataset].labels
        return labels[index] if 0 <= index < len(labels) else str(index)
