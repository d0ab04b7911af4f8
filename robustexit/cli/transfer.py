"""Commands that take attacked texts elsewhere: to other victims, from TextAttack, and one text for all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustexit.cli.shared import (
    Code,
    Duplicates,
    Fields,
    Label,
    Labels,
    Network,
    RemoteCode,
    Setting,
    columns_of,
    err,
    load_data,
    network,
    out,
    parameters,
    progress,
)

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


@app.command()
def trigger(
    model: Annotated[str, typer.Argument(help="Folder or Hub id of the model.")],
    train: Annotated[str, typer.Option(help="Texts to search on: a file, or 'reviews'.")],
    evaluate: Annotated[str, typer.Option("--eval", help="Other texts to evaluate on: a file, or 'reviews'.")],
    policy: Annotated[str, typer.Option(help="Exit policy; 'stored' takes the calibrated one.")] = "fixed",
    setting: Setting = None,
    goal: Annotated[str, typer.Option(help="What it is after: deployed, slowdown-uniform, ...")] = "deployed",
    view: Annotated[str, typer.Option(help="What the attacker sees: scores, label, label+exit.")] = "scores",
    length: Annotated[int, typer.Option(min=1, help="Words of the trigger.")] = 3,
    place: Annotated[str, typer.Option(help="Before the text (prefix) or behind it (suffix).")] = "prefix",
    true_class: Annotated[str | None, typer.Option("--class", help="Only texts of this class.")] = None,
    protect: Annotated[str | None, typer.Option(help="Fields that it must not go into, e.g. premise.")] = None,
    source: Annotated[str, typer.Option("--words", help="Words to try: of the data, or the tokenizer.")] = "data",
    candidates: Annotated[int, typer.Option(min=1, help="Words tried at each position.")] = 200,
    beam: Annotated[int, typer.Option(min=1, help="Triggers kept from position to position.")] = 1,
    passes: Annotated[int, typer.Option(min=1, help="Times over all positions at most.")] = 5,
    start: Annotated[str, typer.Option(help="Word that it starts from, repeated.")] = "the",
    train_texts: Annotated[int, typer.Option(min=1, help="Training texts used, a stratified sample.")] = 64,
    labels: Labels = None,
    fields: Fields = None,
    label: Label = "label",
    sample: Annotated[int | None, typer.Option(min=1, help="Evaluate on a stratified sample of this size.")] = None,
    duplicates: Duplicates = "error",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sample of training texts.")] = 0,
    folder: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("trigger"),
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Search one short text that fools or slows the victim on every input, and evaluate it on other texts."""
    network(allow_network)
    from robustexit.attacks.triggers import TriggerSpec
    from robustexit.campaign.targets import NamedTarget
    from robustexit.campaign.triggers import Settings, TriggerTask, TriggerVictim, run_trigger
    from robustexit.permissions import Permissions
    from robustexit.victims.labels import stated_labels

    search = TriggerSpec(length, place, beam, passes, start)
    permissions = Permissions(network=allow_network, remote_code=trust_remote_code)
    owner = TriggerVictim(NamedTarget(model, policy, parameters(setting or [])), folder, permissions)
    columns = columns_of(labels, fields, label)
    columns["labels"] = columns["labels"] or stated_labels(owner.deployed)
    common: dict[str, Any] = {"columns": columns, "duplicates": duplicates, "allow_network": allow_network}
    task = TriggerTask(
        train=load_data(train, split="train", **common),
        evaluated=load_data(evaluate, split="test", sample=sample, **common),
        goal=goal,
        view=view,
        search=search,
        source=source,
        candidates=candidates,
        train_texts=train_texts,
        true_class=true_class,
        protect=tuple(protect.split(",")) if protect else (),
        seed=seed,
    )
    with progress("triggers (at most)", passes * length * (candidates * beam + 1)) as advance:
        made = run_trigger(owner, task, Settings(folder, permissions, advance))
    _print_trigger(made)
    out.print(f"run: {folder} (`robustexit report {folder}` writes its report)", soft_wrap=True, highlight=False)


def _print_trigger(run: Any) -> None:
    from rich.table import Table

    from robustexit.campaign.triggers import EVALUATED
    from robustexit.measures import measure_named

    found = run.manifest["trigger"]
    out.print(
        f"trigger: {found['text']!r}; mean score on the training texts {found['score_without']:.3f} without it, "
        f"{found['score']:.3f} with it; {found['triggers']} triggers tried in {found['queries']} queries",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    table = Table("on every held-out text", "", "95 % interval", "n")
    for name in EVALUATED:
        one, known = found["evaluation"][name], measure_named(name)
        scale = 100 if known.unit == "%" else 1
        shown = "–" if one["value"] is None else f"{scale * one['value']:.2f}"
        ends = "" if one["low"] is None else f"{scale * one['low']:.2f} to {scale * one['high']:.2f}"
        table.add_row(f"{known.title}, {known.unit}", shown, ends, str(one["n"]))
    out.print(table)
