"""Commands that make models: training them, and importing those of other projects."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from robustexit.cli.shared import (
    Duplicates,
    Fields,
    Label,
    Labels,
    Network,
    RemoteCode,
    checked,
    columns_of,
    load_data,
    network,
    out,
    parameters,
)
from robustexit.errors import ConfigError

app = typer.Typer()


@app.command()
def train(
    data: Annotated[str, typer.Option(help="Training data: a file, or 'reviews' for the generated corpus.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the trained model.")],
    backbone: Annotated[str, typer.Option(help="Folder or Hub id of an encoder, or embedded:minilm.")],
    evaluate: Annotated[
        str | None, typer.Option("--eval", help="Held-out data, for accuracies and thresholds.")
    ] = None,
    labels: Labels = None,
    fields: Fields = None,
    label: Label = "label",
    sample: Annotated[int | None, typer.Option(min=2, help="Train on a stratified sample of this size.")] = None,
    duplicates: Duplicates = "error",
    regime: Annotated[str, typer.Option(help="Training regime (see `robustexit list regimes`).")] = "joint",
    head: Annotated[str, typer.Option(help="Kind of head.")] = "linear",
    pooling: Annotated[str, typer.Option(help="mean or cls.")] = "mean",
    exits: Annotated[str | None, typer.Option(help="Layers with an exit, e.g. 2,4,6; all by default.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option(min=0)] = 5e-5,
    max_length: Annotated[int | None, typer.Option(min=8, help="Token limit.")] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    regime_option: Annotated[
        list[str] | None, typer.Option(help="An option of the regime by name, e.g. --regime-option alpha=0.3.")
    ] = None,
    head_option: Annotated[
        list[str] | None, typer.Option(help="An option of the head by name, e.g. --head-option projection=32.")
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other training setting by name, e.g. --set head_learning_rate=1e-3."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="Texts of the domain to adapt to (regime domain-adapted); labels, if any, only report."),
    ] = None,
    target_sample: Annotated[int | None, typer.Option(min=2, help="Adapt to a sample of this size.")] = None,
    policy: Annotated[str | None, typer.Option(help="Exit policy to calibrate on --eval and store.")] = None,
    speedup: Annotated[float | None, typer.Option(help="Speed-up the stored policy aims at, e.g. 1.5.")] = None,
    accuracy_drop: Annotated[float | None, typer.Option(help="Or: accuracy it may lose, e.g. 0.01.")] = None,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Train an early-exit model; with --policy, calibrate an exit policy and store it beside the weights."""
    network(allow_network)
    from robustexit.exits import Target
    from robustexit.permissions import Permissions
    from robustexit.training import TrainSpec
    from robustexit.victims.training import train_victim

    load = partial(
        load_data, columns=columns_of(labels, fields, label), duplicates=duplicates, allow_network=allow_network
    )
    named = {
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
        "regime_options": parameters(regime_option or [], "--regime-option"),
        "head_options": parameters(head_option or [], "--head-option"),
    }
    if target_sample is not None and target is None:
        raise ConfigError("--target-sample: expected --target, the texts to choose from, got none")
    spec = checked(TrainSpec, {**named, **_other_settings(setting or [], named)})
    aim = {"speedup": speedup, "accuracy_drop": accuracy_drop} if policy else None
    train_data = load(data, split="train", sample=sample)
    target_data = None
    if target is not None:
        target_data = load(target, split="train", sample=target_sample, unlabelled=train_data.label_names)
    held_out = load(evaluate, split="test") if evaluate else None
    result, found = train_victim(
        spec,
        train_data,
        held_out,
        folder,
        target_data=target_data,
        policy=policy,
        aim=checked(Target, aim) if aim else None,
        permissions=Permissions(network=allow_network, remote_code=trust_remote_code),
    )
    _print_accuracies(result.exits, held_out, "")
    _print_accuracies(result.target_exits, target_data, "on the target texts ")
    if target_data is not None and not result.target_exits:
        out.print("the target texts have no labels: no accuracy on them", highlight=False)
    _print_training(result, found, folder)


@app.command("import-checkpoint")
def import_checkpoint(
    source: Annotated[Path, typer.Argument(help="Folder with config.json and weights, or the weights file.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the imported model.")],
    format: Annotated[
        str | None, typer.Option(help="Its format (see `robustexit list formats`); told from its tensors by default.")
    ] = None,
    labels: Labels = None,
    fields: Fields = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the tokenizer, if its files are not beside the weights.")
    ] = None,
    max_length: Annotated[int | None, typer.Option(min=8, help="Token limit; the encoder's own by default.")] = None,
) -> None:
    """Read a DeeBERT, PABEE, BERxiT, ElasticBERT or Past-Future checkpoint into a multi-exit model."""
    from robustexit.victims.importing import import_with_modules

    report, modules = import_with_modules(
        source,
        format,
        folder,
        label_names=labels.split(",") if labels else None,
        field_names=tuple(fields.split(",")) if fields else ("text",),
        tokenizer=tokenizer,
        max_length=max_length,
    )
    out.print(
        f"{report.format}: {report.num_exits} exits, {len(report.placed)} tensors placed, {len(report.unplaced)} not",
        highlight=False,
        markup=False,
    )
    for name, reason in report.unplaced.items():
        out.print(f"not placed: {name}: {reason}", highlight=False, markup=False, soft_wrap=True)
    for name in modules:
        out.print(f"post-hoc module: {name} (policy {name!r})", highlight=False, markup=False)
    out.print(f"model: {folder}", highlight=False, soft_wrap=True)


def _other_settings(settings: list[str], named: dict[str, Any]) -> dict[str, Any]:
    """Read the training settings that have no option of their own; those that do would contradict it."""
    found = parameters(settings)
    renamed = {"exit_layers": "--exits", "regime_options": "--regime-option", "head_options": "--head-option"}
    for name in found:
        if name in named:
            instead = renamed.get(name, "--" + name.replace("_", "-"))
            raise ConfigError(f"--set: expected a setting without an option of its own, got {name!r}; use {instead}")
    return found


def _print_accuracies(exits: Any, data: Any, where: str) -> None:
    """Print each exit's accuracy; say so where it may be no better than always the most frequent label."""
    for exit in exits:
        shown = f"{exit.accuracy:.3f} [{exit.low:.3f}, {exit.high:.3f}]"
        majority = max(map(data.labels.count, set(data.labels))) / len(data)
        weak = f"; the most frequent label alone: {majority:.3f}" if exit.low <= majority else ""
        line = f"exit {exit.exit} (layer {exit.layer}): accuracy {where}{shown}{weak}"
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _brief(value: Any) -> str:
    """Return what a regime learned on one line, numbers to three digits."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_brief(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_brief(inner) for inner in value) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _print_training(result: Any, found: Any, folder: Path) -> None:
    for stage, facts in result.learned.items():
        for name, value in facts.items():
            shown = f"learned ({stage}): {name}: {_brief(value)}"
            out.print(shown, highlight=False, markup=False, soft_wrap=True)
    if found is not None:
        out.print(
            f"stored {found.make().describe()}: reaches {found.reached_speedup:.2f}x (asked: {found.target}), clean "
            f"accuracy {found.clean_accuracy:.3f} (full depth {found.full_depth_accuracy:.3f}) on {found.n} texts",
            highlight=False,
        )
    out.print(f"model: {folder}", highlight=False)
