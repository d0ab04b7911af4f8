"""Commands that tell what there is: names for campaigns, and what can run here."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, Any

import typer

from robustexit.cli.shared import Resource, configure_resources, err, network, out, plain

app = typer.Typer()


class Kind(str, Enum):
    """What `robustexit list` can list."""

    policies = "policies"
    modules = "modules"
    goals = "goals"
    recipes = "recipes"
    searches = "searches"
    views = "views"
    sets = "sets"
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
        for name in sorted(members):
            out.print(f"  {name:28} {_about(members.get(name))}", highlight=False, markup=False, soft_wrap=True)


def _about(member: Any) -> str:
    """Where a member comes from: its stated source, else the first line of its documentation."""
    stated = next((said for name in ("about", "source", "citation") if (said := getattr(member, name, None))), None)
    return str(stated or (member.__doc__ or "").strip().partition("\n")[0])


_REGISTRIES = {
    Kind.policies: ("robustexit.exits", "policies"),
    Kind.modules: ("robustexit.modules", "modules"),
    Kind.goals: ("robustexit.attacks.goals", "goals"),
    Kind.recipes: ("robustexit.attacks.recipes", "recipes"),
    Kind.searches: ("robustexit.attacks.searches", "searches"),
    Kind.views: ("robustexit.attacks.views", "VIEWS"),
    Kind.sets: ("robustexit.attacks.sets", "perturbation_sets"),
    Kind.regimes: ("robustexit.training.regimes", "regimes"),
    Kind.heads: ("robustexit.models", "heads"),
    Kind.formats: ("robustexit.models.imported", "formats"),
}


class Form(str, Enum):
    """How `robustexit doctor` prints what it finds."""

    text = "text"
    markdown = "markdown"
    json = "json"


@app.command()
def doctor(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE]...", help="Recipes; all by default.")] = None,
    resource: Resource = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download what is missing; allows the network for it.")
    ] = False,
    form: Annotated[Form, typer.Option("--format", help="How to print it.")] = Form.text,
) -> None:
    """Show which attack recipes can run here, and the one thing that would make each of the others ready.

    Ends with exit code 2 if a recipe that was asked for is not ready, or a download failed.
    """
    configure_resources(resource)
    from robustexit.attacks.diagnosis import diagnose_all, refuse_unready

    failed = _fetch(names) if fetch else None
    found = diagnose_all(names or None)
    _SHOW[form](found)
    for one in found if names else ():
        refuse_unready(one)
    if failed is not None:
        raise failed


def _fetch(names: list[str] | None) -> Exception | None:
    """Download what recipes lack, one after another; returns the first failure, after all were tried."""
    from robustexit.attacks import resources
    from robustexit.attacks.diagnosis import fetchable
    from robustexit.errors import RobustExitError

    network(True)
    first: Exception | None = None
    for name in fetchable(names or None):
        try:
            resources.fetch(name)
        except RobustExitError as error:
            err.print(f"{name}: {plain(error)}", highlight=False, soft_wrap=True)
            first = first or error
    return first


def _as_text(found: list[Any]) -> None:
    """A block of lines a recipe rather than a table, whose columns would break the commands."""
    colours = {"ready": "green", "ready with substitution": "yellow", "missing": "red", "unsupported": "dim"}
    for one in found:
        head = f"{one.recipe:28} {one.textattack_class:27}"
        out.print(f"{plain(head)} [{colours[one.state]}]{one.state}[/]", highlight=False, soft_wrap=True)
        for line in one.lines:
            out.print(f"    {line}", highlight=False, markup=False, soft_wrap=True)


def _as_markdown(found: list[Any]) -> None:
    out.print("| recipe | TextAttack | here | what that means |\n| --- | --- | --- | --- |", soft_wrap=True)
    for one in found:
        cells = (one.recipe, one.textattack_class, one.state, "; ".join(one.lines).replace("|", "\\|"))
        out.print(f"| {' | '.join(cells)} |", highlight=False, markup=False, soft_wrap=True)


def _as_json(found: list[Any]) -> None:
    import json

    out.print(json.dumps([one.as_dict() for one in found], indent=2), highlight=False, markup=False, soft_wrap=True)


_SHOW = {Form.text: _as_text, Form.markdown: _as_markdown, Form.json: _as_json}
