"""Commands that tell what there is: names for campaigns, and what can run here."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from robustexit.cli.shared import out

app = typer.Typer()


class Kind(str, Enum):
    """What `robustexit list` can list."""

    policies = "policies"
    modules = "modules"
    goals = "goals"
    recipes = "recipes"
    regimes = "regimes"
    heads = "heads"
    formats = "formats"


@app.command("list")
def list_names(
    kind: Annotated[Kind | None, typer.Argument(help="What to list; everything by default.")] = None,
) -> None:
    """List the names that campaigns may use."""
    from importlib import import_module

    for one in [kind] if kind else list(Kind):
        module, registry = _REGISTRIES[one]
        members = getattr(import_module(module), registry)
        out.print(f"[bold]{one.value}[/bold]")
        for name in members.names():
            out.print(f"  {name:28} {_about(members.get(name))}", highlight=False, markup=False, soft_wrap=True)


def _about(member: Any) -> str:
    """Where a member comes from: its stated source, else the first line of its documentation."""
    stated = getattr(member, "source", None) or getattr(member, "citation", None)
    return str(stated or (member.__doc__ or "").strip().partition("\n")[0])


_REGISTRIES = {
    Kind.policies: ("robustexit.exits", "policies"),
    Kind.modules: ("robustexit.modules", "modules"),
    Kind.goals: ("robustexit.attacks.goals", "goals"),
    Kind.recipes: ("robustexit.attacks.recipes", "recipes"),
    Kind.regimes: ("robustexit.training.regimes", "regimes"),
    Kind.heads: ("robustexit.models", "heads"),
    Kind.formats: ("robustexit.models.imported", "formats"),
}


@app.command()
def doctor() -> None:
    """Show which attack recipes can run here, and what each of the others lacks."""
    from rich.table import Table

    from robustexit.attacks.recipes import check, recipes

    table = Table("recipe", "here", "what that means")
    table.columns[0].no_wrap = True
    for name in recipes.names():
        found = check(name)
        if not found.ready:
            state, note = "missing", f"{', '.join(found.missing)}: {found.fix}"
        elif found.substitutes:
            state, note = "ready with substitution", f"recorded as {found.effective_name}"
        else:
            state, note = "ready", ""
        table.add_row(name, state, note)
    out.print(table)
