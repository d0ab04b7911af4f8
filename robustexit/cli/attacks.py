"""The command that attacks one text."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from robustexit.cli.shared import (
    Network,
    RemoteCode,
    Resource,
    Setting,
    configure_resources,
    network,
    out,
    parameters,
)

app = typer.Typer()


@app.command()
def attack(
    text: Annotated[str, typer.Argument(help="The text to attack.")],
    model: Annotated[str, typer.Option(help="Folder or Hub id of the model.")],
    label: Annotated[str, typer.Option(help="Its true label, by name or index.")],
    pair: Annotated[str | None, typer.Option(help="Second text of a pair (the first is then protected).")] = None,
    policy: Annotated[str, typer.Option(help="Exit policy; 'stored' takes the calibrated one.")] = "fixed",
    setting: Setting = None,
    recipe: Annotated[
        str, typer.Option(help="Attack recipe, e.g. pwws or 'pwws(search=random-order)'.")
    ] = "deepwordbug",
    goal: Annotated[str, typer.Option(help="Attack goal, e.g. deployed or 'slowdown & keep-answer'.")] = "deployed",
    view: Annotated[str, typer.Option(help="What the attacker sees: scores, label, label+exit, gradients.")] = "scores",
    language: Annotated[str, typer.Option(help="Language of the text (ISO 639-1).")] = "en",
    queries: Annotated[int | None, typer.Option(min=1, help="Query budget.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0, help="Time limit.")] = None,
    resource: Resource = None,
    seed: int = 0,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Attack one text and print every exit before and after."""
    network(allow_network)
    configure_resources(resource)
    from robustexit.attacks.limits import Limits
    from robustexit.campaign.one_text import Attack, attack_one
    from robustexit.permissions import Permissions

    shown = attack_one(
        [text] if pair is None else [text, pair],
        label,
        model=model,
        policy=policy,
        parameters=parameters(setting or []),
        attack=Attack(recipe, goal, view, language, Limits(queries=queries, seconds=seconds), seed),
        permissions=Permissions(network=allow_network, remote_code=trust_remote_code),
    )
    _print_attempt(shown)


def _print_attempt(shown: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    names = shown.label_names
    final = shown.final
    out.print(Text(f"before  {' | '.join(shown.example.fields.values())}"))
    out.print(Text(f"after   {' | '.join(shown.result.text_attacked.values())}"))
    table = Table(title=f"{shown.policy}: every exit before and after (> marks the exit taken)")
    for column in ("exit", "layer", "before", "", "after", ""):
        table.add_column(column, justify="left" if column in {"before", "after"} else "right")
    for index, layer in enumerate(shown.exit_layers):
        cells = [str(index + 1), str(layer)]
        for trace in (shown.clean, final):
            cells += _exit_cells(trace, index, names) if trace is not None else ["", ""]
        table.add_row(*cells)
    out.print(table)
    out.print(
        f"outcome: {shown.result.outcome}"
        + (f" ({shown.result.error})" if shown.result.error else "")
        + f"; {shown.result.queries} queries, {shown.result.words_changed} of {shown.result.words_total} words changed"
        + (
            f"; answer {names[shown.clean.answer]} -> {names[final.answer]}, exit {shown.clean.exit} -> {final.exit}, "
            f"cost {shown.clean.cost:.2f} -> {final.cost:.2f} of full depth"
            if final is not None
            else ""
        ),
        markup=False,
        highlight=False,
    )


def _exit_cells(trace: Any, index: int, names: tuple[str, ...]) -> list[str]:
    from robustexit.attacks.goals import softmax

    probabilities = softmax(trace.logits[index : index + 1])[0]
    best = int(probabilities.argmax())
    mark = ">" if trace.exit == index + 1 else " "
    return [f"{mark} {names[best]}", f"{probabilities[best]:.3f}"]
