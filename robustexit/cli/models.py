"""Commands that make models: training them, and importing those of other projects."""

from __future__ import annotations

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
)

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

    columns = columns_of(labels, fields, label)

    def load(source: str, split: str, size: int | None) -> Any:
        return load_data(
            source, split=split, sample=size, columns=columns, duplicates=duplicates, allow_network=allow_network
        )

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
        checked(TrainSpec, wanted),
        load(data, "train", sample),
        load(evaluate, "test", None) if evaluate else None,
        folder,
        policy=policy,
        target=checked(Target, target) if target else None,
        permissions=Permissions(network=allow_network, remote_code=trust_remote_code),
    )
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
