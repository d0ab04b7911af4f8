"""Commands that take attacked texts elsewhere: to other victims, from TextAttack, and one text for all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustexit.cli.shared import Code, Labels, Network, RemoteCode, Setting, err, network, out, parameters

app = typer.Typer()


@app.command()
def transfer(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder whose attacked texts are taken.")],
    victims: Annotated[
        Path | None, typer.Option(help="Campaign file whose models and victims they are shown to.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Or one model: a folder or Hub id.")] = None,
    policy: Annotated[str, typer.Option(help="Its exit policy; 'stored' takes the calibrated one.")] = "fixed",
    setting: Setting = None,
    name: Annotated[str | None, typer.Option(help="Its name in the records.")] = None,
    crafted_on: Annotated[
        list[str] | None, typer.Option("--crafted-on", help="Take only texts crafted on this victim of the run.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", help="Run folder of the result; RUN-transfer by default.")
    ] = None,
    allow_network: Network = False,
    allow_code: Code = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Evaluate a run's attacked texts on other victims, without attacking again."""
    network(allow_network)
    from robustexit.campaign.targets import NamedTarget, load_targets
    from robustexit.campaign.transfer import Settings, run_transfer
    from robustexit.permissions import Permissions
    from robustexit.runs import load_run

    source = load_run(run)
    named = None if model is None else NamedTarget(model, policy, parameters(setting or []), name)
    targets = load_targets(victims, named, source)
    permissions = Permissions(network=allow_network, code=allow_code, remote_code=trust_remote_code)
    home = folder or run.resolve().with_name(f"{run.resolve().name}-transfer")
    made = run_transfer(source, targets, Settings(home, permissions, tuple(crafted_on or ()), err))
    _print_transfer(made, source)
    out.print(f"run: {home} (`robustexit report {home}` writes its report)", soft_wrap=True, highlight=False)


def _print_transfer(made: Any, source: Any) -> None:
    from rich.table import Table

    from robustexit.measures.transfer import transfer_matrix

    evaluated = made.records[made.records["outcome"] != "error"]
    table = Table(title="texts crafted on one victim, shown to another")
    for column in ("dataset", "attack", "crafted on", "victim"):
        table.add_column(column)
    for column in ("n", "accuracy, %", "transferred, %", "slower, %"):
        table.add_column(column, justify="right")
    for row in transfer_matrix(evaluated, source.records).to_dict("records") if len(evaluated) else ():
        attack = f"{row['recipe']}, {row['goal']}" + ("" if row["view"] == "scores" else f", {row['view']}")
        rates = [_share(row[name]) for name in ("accuracy", "transfer_rate", "slowdown_rate")]
        table.add_row(row["dataset"], attack, row["crafted_on"], row["victim"], str(row["n"]), *rates)
    out.print(table)
    errors = len(made.records) - len(evaluated)
    for reason in dict.fromkeys(cell["reason"] for cell in made.manifest["dropped_cells"]):
        err.print(f"left out: {reason}", markup=False, highlight=False, soft_wrap=True)
    if errors:
        err.print(f"{errors} of {len(made.records)} rows ended in an error (see column `error`)", highlight=False)


def _share(estimate: Any) -> str:
    if not estimate.defined:
        return "–"
    ends = "" if estimate.low is None else f" [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{100 * estimate.value:.1f}{ends} (n = {estimate.n})"


@app.command("import-textattack")
def import_textattack(
    log: Annotated[Path, typer.Argument(metavar="LOG.csv", help="What `textattack attack --log-to-csv` wrote.")],
    folder: Annotated[Path, typer.Option("--out", "-o", help="Run folder to make.")],
    labels: Labels = None,
    fields: Annotated[
        str | None, typer.Option(help="Names of the text fields, e.g. premise,hypothesis; those in the log by default.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset; the log's file name by default.")] = None,
    victim: Annotated[str, typer.Option(help="Name of the model that was attacked.")] = "textattack",
    recipe: Annotated[str, typer.Option(help="Name of the attack recipe.")] = "textattack",
    goal: Annotated[str, typer.Option(help="The attack's goal; 'deployed' is untargeted classification.")] = "deployed",
    view: Annotated[str, typer.Option(help="What the attacker saw: scores, label, ...")] = "scores",
    seed: Annotated[int, typer.Option(help="TextAttack's --random-seed.")] = 765,
    markers: Annotated[
        str, typer.Option(help="How changed words are set off: file ([[ ]]), html, ansi, plain; auto looks.")
    ] = "auto",
) -> None:
    """Make a run of a TextAttack CSV log, for reports and transfer."""
    from robustexit.campaign.textattack_log import LogSpec, import_log

    given = LogSpec(
        labels=tuple(labels.split(",")) if labels else (),
        fields=tuple(fields.split(",")) if fields else (),
        dataset=dataset,
        victim=victim,
        recipe=recipe,
        goal=goal,
        view=view,
        seed=seed,
        markers=markers,
    )
    _print_log(import_log(log, folder, given))
    out.print(f"run: {folder} (`robustexit report {folder}` writes its report)", soft_wrap=True, highlight=False)


_SUMMARY = {
    "successful_attacks": "successful attacks",
    "failed_attacks": "failed attacks",
    "skipped_attacks": "skipped attacks",
    "original_accuracy": "original accuracy, %",
    "attack_accuracy_perc": "accuracy under attack, %",
    "attack_success_rate": "attack success rate, %",
    "avg_word_perturbed_perc": "average perturbed words, %",
    "avg_word_perturbed": "average words of an input",
    "avg_num_queries": "average queries",
}


def _print_log(run: Any) -> None:
    from rich.table import Table

    from robustexit.campaign.textattack_log import summary

    said = run.manifest["campaign"]["log"]
    (name, data), *_ = run.manifest["datasets"].items()
    out.print(
        f"{name}: {data['n']} results, fields {', '.join(data['fields'])}, changed words marked: {said['markers']}",
        markup=False,
        highlight=False,
    )
    table = Table("as TextAttack counts", "")
    for key, value in summary(run.records).items():
        table.add_row(_SUMMARY[key], f"{value:g}")
    out.print(table)
