"""The plan of a campaign: which cells are attacked, and which are dropped for what reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from robustexit.attacks.goals import make_goal
from robustexit.attacks.recipes import recipes
from robustexit.campaign.spec import CampaignSpec, GoalSpec
from robustexit.victims.base import Victim

VIEW = "scores"


@dataclass(frozen=True)
class Cell:
    """One cell: dataset x victim x recipe x goal x view x seed."""

    dataset: str
    victim: str
    recipe: str
    goal: GoalSpec
    seed: int
    view: str = VIEW


@dataclass(frozen=True)
class Plan:
    """The cells to run, and those that cannot apply.

    Attributes:
        cells: Cells in the order they are run.
        dropped: Cells left out, each with its reason, as plain values for the manifest.
    """

    cells: tuple[Cell, ...]
    dropped: tuple[dict[str, Any], ...]


def check_names(spec: CampaignSpec) -> None:
    """Refuse unknown recipes and goals before anything is loaded or trained.

    Raises:
        ConfigError: With the nearest known name.
    """
    for recipe in spec.recipes:
        recipes.get(recipe)
    for goal in spec.goals:
        make_goal(goal.name, **goal.parameters)


def make_plan(spec: CampaignSpec, victims: Mapping[tuple[str, str], Victim]) -> Plan:
    """Lay out the grid.

    Args:
        spec: The campaign.
        victims: Victims by (dataset, victim name).
    """
    cells: list[Cell] = []
    dropped: list[dict[str, Any]] = []
    for seed in spec.seeds:
        for dataset, name in victims:
            for recipe in spec.recipes:
                for goal in _goals_of(recipe, spec.goals):
                    cell = Cell(dataset, name, recipe, goal, seed)
                    reason = make_goal(goal.name, **goal.parameters).refuses(victims[dataset, name])
                    if reason is None:
                        cells.append(cell)
                    else:
                        dropped.append({**asdict(cell), "goal": goal.label, "reason": reason})
    return Plan(tuple(cells), tuple(dropped))


def _goals_of(recipe: str, goals: tuple[GoalSpec, ...]) -> tuple[GoalSpec, ...]:
    """A recipe whose goal is part of it keeps it, whatever the campaign's goals."""
    own = recipes.get(recipe).own_goal
    return goals if own is None else (GoalSpec(name=own),)
