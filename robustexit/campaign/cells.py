"""The plan of a campaign: which cells are attacked, and which are dropped for what reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from robustexit.attacks.goals import make_goal
from robustexit.attacks.recipes import Recipe, effective_name, refused_combination, refused_language
from robustexit.attacks.views import get_view
from robustexit.campaign.spec import CampaignSpec, GoalSpec, MemberSpec, RecipeSpec
from robustexit.errors import ConfigError
from robustexit.victims.base import Victim

if TYPE_CHECKING:
    from robustexit.attacks.ensembles import AnyAttacker
    from robustexit.attacks.limits import Limits

WORST_CASE = "worst-case"
"""In the column `goal`: whatever its attacks are after, a worst case is judged by the deployed answer."""


@dataclass(frozen=True)
class Setting:
    """Where an attack runs.

    Attributes:
        view: What the attacker sees.
        language: Language of the texts.
        field_names: Fields of the examples.
        limits: What one attempt may cost.
    """

    view: str
    language: str
    field_names: tuple[str, ...]
    limits: Limits


@dataclass(frozen=True)
class RecipeAttack:
    """A recipe with a goal."""

    recipe: RecipeSpec
    goal: GoalSpec

    @property
    def recipe_label(self) -> str:
        """The recipe, for people; records have the recipe's effective name."""
        return self.recipe.make().label

    @property
    def goal_label(self) -> str:
        """The goal, as in records."""
        return self.goal.label

    def refused(self, victim: Victim, view: str, language: str) -> str | None:
        """Return why recipe, goal, view, language and victim do not go together, or None if they do."""
        recipe, goal = self.recipe.make(), make_goal(self.goal.name, **self.goal.parameters)
        return (
            refused_language(recipe, language)
            or refused_combination(recipe, goal, get_view(view))
            or goal.refuses(victim)
            or (_without_gradients(recipe, victim) if recipe.white_box else None)
        )

    def attacker(self, victim: Victim, at: Setting) -> AnyAttacker:
        """Build the attack around a victim (loads TextAttack)."""
        from robustexit.attacks.ensembles import make_attacker

        goal = make_goal(self.goal.name, **self.goal.parameters)
        return make_attacker(
            victim, self.recipe.make(), goal, view=at.view, field_names=at.field_names, limits=at.limits
        )


def _without_gradients(recipe: Recipe, victim: Victim) -> str | None:
    from robustexit.victims.gradients import differentiable

    return None if differentiable(victim) else f"recipe {recipe.name!r} needs gradients, which the victim does not have"


@dataclass(frozen=True)
class WorstCase:
    """A set of attacks, cheapest first, on the examples still standing."""

    name: str
    members: tuple[MemberSpec, ...]

    @property
    def recipe_label(self) -> str:
        """The set's name as a recipe."""
        return f"{WORST_CASE}({self.name})"

    @property
    def goal_label(self) -> str:
        """The goal, as in records."""
        return WORST_CASE

    def _attacks(self, victim: Victim) -> list[RecipeAttack]:
        return [
            RecipeAttack(member.recipe, goal)
            for member in self.members
            for goal in member.goal.for_exits(victim.num_exits)
        ]

    def _usable(self, victim: Victim, view: str, language: str) -> list[RecipeAttack]:
        return [attack for attack in self._attacks(victim) if attack.refused(victim, view, language) is None]

    def refused(self, victim: Victim, view: str, language: str) -> str | None:
        """Refused where none of the attacks can apply, with the first one's reason."""
        if self._usable(victim, view, language):
            return None
        return f"none of its attacks can apply: {self._attacks(victim)[0].refused(victim, view, language)}"

    def attacker(self, victim: Victim, at: Setting) -> AnyAttacker:
        """Build the attacks that can apply."""
        from robustexit.attacks.ensembles import Member, WorstCaseAttacker

        members = [
            Member(attack.recipe.make(), make_goal(attack.goal.name, **attack.goal.parameters))
            for attack in self._usable(victim, at.view, at.language)
        ]
        return WorstCaseAttacker(victim, self.name, members, view=at.view, field_names=at.field_names, limits=at.limits)


@dataclass(frozen=True)
class Cell:
    """One cell: dataset x victim x attack (recipe and goal) x view x seed."""

    dataset: str
    victim: str
    attack: RecipeAttack | WorstCase
    seed: int
    view: str = "scores"

    @property
    def label(self) -> str:
        """The cell in one line."""
        parts = (self.dataset, self.victim, self.attack.recipe_label, self.attack.goal_label)
        return " · ".join(parts if self.view == "scores" else (*parts, self.view))


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
    """Refuse unknown recipes, goals and views, and recipes for no dataset's language, before anything is trained.

    Raises:
        ConfigError: With the nearest known name.
    """
    members = [member for members in (spec.worst_case or {}).values() for member in members]
    for goal in (*spec.goals, *(member.goal for member in members)):
        for one in goal.for_exits(1):
            make_goal(one.name, **one.parameters)
    for view in spec.all_views:
        get_view(view)
    for recipe in spec.all_recipes:
        reasons = [refused_language(recipe, dataset.language) for dataset in spec.datasets.values()]
        if all(reasons):
            raise ConfigError(f"{reasons[0]}; say `language:` in the dataset if that is wrong, or leave the recipe out")


def make_plan(spec: CampaignSpec, victims: Mapping[tuple[str, str], Victim]) -> Plan:
    """Lay out the grid.

    Args:
        spec: The campaign.
        victims: Victims by (dataset, victim name).

    Raises:
        ConfigError: Nothing is left to attack.
    """
    cells: list[Cell] = []
    dropped: list[dict[str, Any]] = []
    for cell in _grid(spec, victims):
        language = spec.datasets[cell.dataset].language
        reason = cell.attack.refused(victims[cell.dataset, cell.victim], cell.view, language)
        if reason is None:
            cells.append(cell)
        else:
            dropped.append(_described(cell, reason))
    if not cells:
        raise ConfigError(f"nothing is left to attack; the first cell was dropped because {dropped[0]['reason']}")
    return Plan(tuple(cells), tuple(dropped))


def _grid(spec: CampaignSpec, victims: Mapping[tuple[str, str], Victim]) -> Iterator[Cell]:
    for seed in spec.seeds:
        for (dataset, name), victim in victims.items():
            for view in spec.all_views:
                for attack in _attacks(spec, victim.num_exits):
                    yield Cell(dataset, name, attack, seed, view)


def _attacks(spec: CampaignSpec, num_exits: int) -> Iterator[RecipeAttack | WorstCase]:
    for recipe in spec.recipes:
        for goal in _goals_of(recipe, spec.goals):
            for one in goal.for_exits(num_exits):
                yield RecipeAttack(recipe, one)
    for name, members in (spec.worst_case or {}).items():
        yield WorstCase(name, members)


def _goals_of(recipe: RecipeSpec, goals: tuple[GoalSpec, ...]) -> tuple[GoalSpec, ...]:
    """A recipe whose goal is part of it keeps it, whatever the campaign's goals."""
    own = recipe.make().own_goal
    return goals if own is None else (GoalSpec(name=own),)


def weak_attacks(plan: Plan) -> list[dict[str, str]]:
    """Return recipe (as in records), goal and view of every attack whose search the view leaves without a score."""
    found = {
        (effective_name(recipe), cell.attack.goal_label, cell.view): None
        for cell in plan.cells
        if isinstance(cell.attack, RecipeAttack)
        for recipe in [cell.attack.recipe.make()]
        if recipe.weak_under(get_view(cell.view), make_goal(cell.attack.goal.name, **cell.attack.goal.parameters))
    }
    return [dict(zip(("recipe", "goal", "view"), key, strict=True)) for key in found]


def _described(cell: Cell, reason: str) -> dict[str, Any]:
    return {
        "dataset": cell.dataset,
        "victim": cell.victim,
        "recipe": cell.attack.recipe_label,
        "goal": cell.attack.goal_label,
        "view": cell.view,
        "seed": cell.seed,
        "reason": reason,
    }
