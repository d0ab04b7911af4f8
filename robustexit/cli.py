"""The command line. Commands only parse and print; what they do lives in the packages they call."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from robustexit.errors import RobustExitError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Does leaving early make a classifier weaker or stronger under attack? Train early-exit transformers, "
    "attack them and their full-depth control, and compare.",
)
out = Console()
err = Console(stderr=True)

Network = Annotated[bool, typer.Option("--allow-network", help="May download models and data from the Hub.")]
Code = Annotated[bool, typer.Option("--allow-code", help="May import victims given as module:factory.")]
RemoteCode = Annotated[bool, typer.Option("--trust-remote-code", help="May run code that ships with a Hub model.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Worker processes; one for each core by default.")]


def main() -> None:
    """Run the command line; problems the user can fix end with exit code 2 and no traceback."""
    try:
        app()
    except RobustExitError as error:
        err.print(f"[bold red]error:[/bold red] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _plain(text: object) -> str:
    from rich.markup import escape

    return escape(str(text))


def _network(allow: bool) -> None:
    from robustexit.network import set_network

    set_network(allowed=allow)


@app.command()
def quickstart(
    folder: Annotated[Path, typer.Option("--out", help="Folder for the campaign file and the run.")] = Path(
        "quickstart"
    ),
    workers: Workers = None,
) -> None:
    """Train a small early-exit model on generated reviews, attack it, and write the report. Offline."""
    from importlib.resources import files

    folder.mkdir(parents=True, exist_ok=True)
    campaign = folder / "quickstart.yaml"
    if not campaign.exists():
        campaign.write_text((files("robustexit") / "quickstart.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    out.print(f"campaign: {campaign} (edit it and start `robustexit run {campaign}` for your own data)")
    _run(campaign, folder / "run", workers, network=False, code=False, remote_code=False)


@app.command()
def run(
    campaign: Annotated[Path, typer.Argument(help="Campaign file (YAML).")],
    folder: Annotated[
        Path | None,
        typer.Option("--out", help="Run folder; runs/NAME by default. An unfinished run there continues."),
    ] = None,
    workers: Workers = None,
    allow_network: Network = False,
    allow_code: Code = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Run a campaign, or continue it, and write its report."""
    _run(campaign, folder, workers, network=allow_network, code=allow_code, remote_code=trust_remote_code)


def _run(campaign: Path, folder: Path | None, workers: int | None, **allowed: bool) -> None:
    _network(allowed["network"])
    from robustexit.campaign.spec import load_spec

    spec = load_spec(campaign)
    from robustexit.campaign.run import Settings, run_campaign
    from robustexit.permissions import Permissions

    settings = Settings(folder or Path("runs") / spec.name, workers, Permissions(**allowed), err)
    finished = run_campaign(spec, campaign.resolve().parent, settings)
    _report(finished, finished.path, texts=True)


def _report(run: Any, folder: Path, *, texts: bool) -> None:
    from robustexit.reports import build_report, render_report

    built = build_report(run.records, run.manifest)
    paths = render_report(built if texts else built.without_texts(), folder)
    out.print(f"\n[bold]{_plain(built.answer)}[/bold]", highlight=False)
    for flag in built.flags:
        err.print(f"[yellow]flag:[/yellow] {_plain(_flag(flag))}", highlight=False, soft_wrap=True)
    for path in paths:
        out.print(f"report: {path}", soft_wrap=True, highlight=False)


def _flag(flag: Any) -> str:
    about = " · ".join(part for part in (flag.dataset, flag.victim, flag.attack) if part)
    return f"{about}: {flag.message}" if about else str(flag.message)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    to: Annotated[Path | None, typer.Option("--out", help="Folder for the pages; the run folder by default.")] = None,
    no_texts: Annotated[bool, typer.Option("--no-texts", help="Leave out every text of the data.")] = False,
) -> None:
    """Write the report of a run as HTML, Markdown and JSON."""
    from robustexit.runs import load_run

    _report(load_run(folder), to or folder, texts=not no_texts)


@app.command()
def train(
    data: Annotated[str, typer.Option(help="Training data: a file, or 'reviews' for the generated corpus.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the trained model.")],
    backbone: Annotated[str, typer.Option(help="Folder or Hub id of an encoder, or embedded:minilm.")],
    evaluate: Annotated[
        str | None, typer.Option("--eval", help="Held-out data, for accuracies and thresholds.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Label names in index order, e.g. negative,positive.")] = None,
    fields: Annotated[str | None, typer.Option(help="Text columns, e.g. text or premise,hypothesis.")] = None,
    label: Annotated[str, typer.Option(help="Label column.")] = "label",
    sample: Annotated[int | None, typer.Option(min=2, help="Train on a stratified sample of this size.")] = None,
    regime: Annotated[str, typer.Option(help="Training regime (see `robustexit list regimes`).")] = "joint",
    head: Annotated[str, typer.Option(help="Kind of head.")] = "linear",
    pooling: Annotated[str, typer.Option(help="mean or cls.")] = "mean",
    exits: Annotated[str | None, typer.Option(help="Layers with an exit, e.g. 2,4,6; all by default.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option(min=0)] = 5e-5,
    max_length: Annotated[int | None, typer.Option(min=8, help="Token limit.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    policy: Annotated[str | None, typer.Option(help="Exit policy to calibrate on --eval and store.")] = None,
    speedup: Annotated[float | None, typer.Option(help="Speed-up the stored policy aims at, e.g. 1.5.")] = None,
    accuracy_drop: Annotated[float | None, typer.Option(help="Or: accuracy it may lose, e.g. 0.01.")] = None,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Train an early-exit model; with --policy, calibrate an exit policy and store it beside the weights."""
    _network(allow_network)
    from robustexit.data import DataSpec, load_dataset_spec
    from robustexit.exits import Target
    from robustexit.permissions import Permissions
    from robustexit.training import TrainSpec
    from robustexit.victims.training import train_victim

    columns = {
        "labels": labels.split(",") if labels else None,
        "fields": fields.split(",") if fields else None,
        "label": label,
    }

    def load(source: str, split: str, size: int | None) -> Any:
        given = {"builtin": source, "split": split, "n": size} if source == "reviews" else {"path": source, **columns}
        spec = _checked(DataSpec, {**given, "sample": None if source == "reviews" else size})
        return load_dataset_spec(spec, name=Path(source).stem, base=Path.cwd(), allow_network=allow_network)

    wanted = {
        "backbone": backbone,
        "regime": regime,
        "head": head,
        "pooling": pooling,
        "exit_layers": exits.split(",") if exits else None,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_length": max_length,
        "seed": seed,
    }
    target = {"speedup": speedup, "accuracy_drop": accuracy_drop} if policy else None
    result, found = train_victim(
        _checked(TrainSpec, wanted),
        load(data, "train", sample),
        load(evaluate, "test", None) if evaluate else None,
        folder,
        policy=policy,
        target=_checked(Target, target) if target else None,
        permissions=Permissions(network=allow_network, remote_code=trust_remote_code),
    )
    _print_training(result, found, folder)


def _checked(kind: Any, values: dict[str, Any]) -> Any:
    """Check settings; a problem becomes one readable line for each."""
    from robustexit.validation import validate

    return validate(kind, {key: value for key, value in values.items() if value is not None}, "settings")


def _print_training(result: Any, found: Any, folder: Path) -> None:
    for exit in result.exits:
        out.print(
            f"exit {exit.exit} (layer {exit.layer}): accuracy {exit.accuracy:.3f} [{exit.low:.3f}, {exit.high:.3f}]",
            highlight=False,
        )
    if found is not None:
        out.print(
            f"stored {found.make().describe()}: reaches {found.reached_speedup:.2f}x (asked: {found.target}), clean "
            f"accuracy {found.clean_accuracy:.3f} (full depth {found.full_depth_accuracy:.3f}) on {found.n} texts",
            highlight=False,
        )
    out.print(f"model: {folder}", highlight=False)


@app.command()
def attack(
    text: Annotated[str, typer.Argument(help="The text to attack.")],
    model: Annotated[str, typer.Option(help="Folder or Hub id of the model.")],
    label: Annotated[str, typer.Option(help="Its true label, by name or index.")],
    pair: Annotated[str | None, typer.Option(help="Second text of a pair (the first is then protected).")] = None,
    policy: Annotated[str, typer.Option(help="Exit policy; 'stored' takes the calibrated one.")] = "fixed",
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="A parameter of the policy, e.g. --set t=0.3.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Attack recipe.")] = "deepwordbug",
    goal: Annotated[str, typer.Option(help="Attack goal.")] = "deployed",
    seed: int = 0,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Attack one text and print every exit before and after."""
    _network(allow_network)
    from robustexit.campaign.one_text import attack_one
    from robustexit.permissions import Permissions

    shown = attack_one(
        [text] if pair is None else [text, pair],
        label,
        model=model,
        policy=policy,
        parameters=_parameters(setting or []),
        recipe=recipe,
        goal=goal,
        seed=seed,
        permissions=Permissions(network=allow_network, remote_code=trust_remote_code),
    )
    _print_attempt(shown)


def _parameters(settings: list[str]) -> dict[str, Any]:
    """Read ``name=value`` settings; values are YAML scalars."""
    import yaml

    from robustexit.errors import ConfigError

    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise ConfigError(f"--set: expected name=value, got {setting!r}")
        found[name.strip()] = yaml.safe_load(value)
    return found


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


class Kind(str, Enum):
    """What `robustexit list` can list."""

    policies = "policies"
    goals = "goals"
    recipes = "recipes"
    regimes = "regimes"
    heads = "heads"


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
    Kind.goals: ("robustexit.attacks.goals", "goals"),
    Kind.recipes: ("robustexit.attacks.recipes", "recipes"),
    Kind.regimes: ("robustexit.training.regimes", "regimes"),
    Kind.heads: ("robustexit.models", "heads"),
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


if __name__ == "__main__":
    main()
