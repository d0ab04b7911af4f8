"""Commands on exit policies: fitting post-hoc modules, calibrating one policy, sweeping all of them."""

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
    Setting,
    checked,
    columns_of,
    load_data,
    network,
    out,
    parameters,
    progress,
)

app = typer.Typer()

Model = Annotated[str, typer.Argument(help="Folder of a multi-exit model (or Hub id).")]
Store = Annotated[
    Path | None, typer.Option(help="Folder that keeps the outputs of the one forward; used again if they fit.")
]
MaxLength = Annotated[int | None, typer.Option(min=8, help="Token limit; the model's own by default.")]


@app.command("fit-modules")
def fit_modules(
    model: Model,
    data: Annotated[str, typer.Option(help="Data to fit on: a file, or 'reviews'. Never what is attacked later.")],
    module: Annotated[list[str] | None, typer.Option(help="Module by name; every one by default.")] = None,
    setting: Setting = None,
    labels: Labels = None,
    fields: Fields = None,
    label: Label = "label",
    sample: Annotated[int | None, typer.Option(min=2, help="Fit on a stratified sample of this size.")] = None,
    duplicates: Duplicates = "error",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fits.")] = 0,
    store: Store = None,
    max_length: MaxLength = None,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Fit post-hoc modules on a frozen model's exits and save them beside its weights."""
    network(allow_network)
    from robustexit.modules import modules
    from robustexit.victims.fitting import fit_and_save

    deployed = _deployed(model, max_length, network=allow_network, remote_code=trust_remote_code)
    columns = columns_of(labels, fields, label)
    texts = _texts(deployed, data, "train", sample, columns, duplicates, allow_network)
    outputs = _outputs(deployed, texts, store)
    for name in module or modules.names():
        fitted = fit_and_save(deployed, name, texts, outputs, settings=parameters(setting or []), seed=seed)
        report = ", ".join(f"{key} {value:.4g}" for key, value in fitted.fitted_on.report.items())
        out.print(f"{name}: {fitted.seconds:.1f} s{f' ({report})' if report else ''}", highlight=False, markup=False)
    out.print(f"modules: {deployed.module_folder}", highlight=False, soft_wrap=True)


@app.command()
def calibrate(
    model: Model,
    data: Annotated[str, typer.Option(help="Held-out data: a file, or 'reviews'. Never what is attacked later.")],
    policy: Annotated[str, typer.Option(help="Exit policy to calibrate (see `robustexit list policies`).")],
    speedup: Annotated[float | None, typer.Option(help="Speed-up to aim at, e.g. 1.5.")] = None,
    accuracy_drop: Annotated[float | None, typer.Option(help="Or: accuracy it may lose, e.g. 0.01.")] = None,
    risk: Annotated[float | None, typer.Option(help="Or: risk that is promised on texts to come, e.g. 0.05.")] = None,
    delta: Annotated[float | None, typer.Option(help="Probability with which the promise may fail; 0.1.")] = None,
    control: Annotated[str | None, typer.Option(help="How it is made: learn-then-test or conformal.")] = None,
    loss: Annotated[str | None, typer.Option(help="What it bounds: disagreement (with exit K) or error-gap.")] = None,
    setting: Setting = None,
    labels: Labels = None,
    fields: Fields = None,
    label: Label = "label",
    sample: Annotated[int | None, typer.Option(min=2, help="Use a stratified sample of this size.")] = None,
    duplicates: Duplicates = "error",
    store: Store = None,
    max_length: MaxLength = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print; store no policy beside the weights.")] = False,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Choose a policy's threshold on held-out data and store the policy beside the weights."""
    network(allow_network)
    from robustexit.exits import Target
    from robustexit.exits import calibrate as choose
    from robustexit.exits.policy import policies
    from robustexit.victims.stored import StoredPolicy, save_stored_policy

    aims = {"speedup": speedup, "accuracy_drop": accuracy_drop, "risk": risk}
    target = checked(Target, {**aims, "delta": delta, "control": control, "loss": loss})
    deployed = _deployed(model, max_length, network=allow_network, remote_code=trust_remote_code)
    columns = columns_of(labels, fields, label)
    texts = _texts(deployed, data, "test", sample, columns, duplicates, allow_network)
    needed = policies.get(policy).module
    held_out = _outputs(deployed, texts, store).held_out(None if needed is None else deployed.module(needed))
    found = choose(policy, target, held_out, **parameters(setting or []))
    _print_exits(held_out, found.exit_shares)
    out.print(
        f"{found.make().describe()}: reaches {found.reached_speedup:.2f}x (asked: {found.target}), accuracy "
        f"{found.clean_accuracy:.3f} (full depth {found.full_depth_accuracy:.3f}) on {found.n} texts",
        highlight=False,
        markup=False,
    )
    if found.promise is not None:
        proposing, testing, lost = (found.promise[key] for key in ("proposing", "testing", "lost"))
        out.print(f"promised: {lost} of {testing} texts lost in the test; {proposing} others proposed the settings")
    if not dry_run:
        folder = Path(deployed.loaded.path)
        save_stored_policy(folder, StoredPolicy(found.make(), found))
        out.print(f"stored: {folder / 'exit_policy.json'} (use it as policy 'stored')", highlight=False, soft_wrap=True)


@app.command("scale-temperatures")
def scale_temperatures(
    model: Model,
    data: Annotated[str, typer.Option(help="Held-out data: a file, or 'reviews'. Never what is attacked later.")],
    folder: Annotated[Path, typer.Option("--out", help="Folder for the scaled model.")],
    labels: Labels = None,
    fields: Fields = None,
    label: Label = "label",
    sample: Annotated[int | None, typer.Option(min=2, help="Use a stratified sample of this size.")] = None,
    duplicates: Duplicates = "error",
    store: Store = None,
    max_length: MaxLength = None,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Fit one temperature an exit on held-out data and save a model whose logits are divided by them."""
    network(allow_network)
    from robustexit.exits.temperature import fit_temperatures
    from robustexit.victims.scaling import save_scaled

    deployed = _deployed(model, max_length, network=allow_network, remote_code=trust_remote_code)
    columns = columns_of(labels, fields, label)
    texts = _texts(deployed, data, "test", sample, columns, duplicates, allow_network)
    held_out = _outputs(deployed, texts, store).held_out()
    save_scaled(deployed.loaded, fit_temperatures(held_out.logits, held_out.labels).tolist(), folder)
    _print_exits(held_out)
    out.print(f"model: {folder}", highlight=False, soft_wrap=True)


@app.command()
def sweep(
    model: Model,
    data: Annotated[str, typer.Option(help="Texts to evaluate on: a file, or 'reviews'.")],
    calibration: Annotated[
        str | None,
        typer.Option(help="Other texts to tune thresholds on; half of --data by default, the other half is evaluated."),
    ] = None,
    calibration_sample: Annotated[
        int | None, typer.Option(min=2, help="Tune on a stratified sample of --calibration of this size.")
    ] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Policy by name; every one by default.")] = None,
    speedup: Annotated[
        list[float] | None, typer.Option(help="Speed-up in the table; 1.25, 1.5, 2, 3 by default.")
    ] = None,
    settings: Annotated[int, typer.Option(min=2, help="Settings of each policy on its curve.")] = 48,
    labels: Labels = None,
    fields: Fields = None,
    label: Label = "label",
    sample: Annotated[int | None, typer.Option(min=2, help="Use a stratified sample of --data of this size.")] = None,
    duplicates: Duplicates = "error",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split in halves.")] = 0,
    folder: Annotated[Path, typer.Option("--out", help="Folder for tables and figures.")] = Path("sweep"),
    store: Store = None,
    max_length: MaxLength = None,
    allow_network: Network = False,
    trust_remote_code: RemoteCode = False,
) -> None:
    """Draw accuracy against compute for every exit policy, from the stored outputs of one forward."""
    network(allow_network)
    from robustexit.data import split_half
    from robustexit.exits import policies
    from robustexit.exits.sweep import SPEEDUPS
    from robustexit.exits.sweep import sweep as run_sweep
    from robustexit.reports.sweep import About, left_out, summary, write_sweep
    from robustexit.victims.sweeping import refuse_shared_texts, split_outputs

    wanted = list(policy or policies.names())
    for name in wanted:
        policies.get(name)
    speedups = tuple(sorted(speedup)) if speedup else SPEEDUPS
    deployed = _deployed(model, max_length, network=allow_network, remote_code=trust_remote_code)
    columns = columns_of(labels, fields, label)

    def load(source: str, size: int | None) -> Any:
        return _texts(deployed, source, "test", size, columns, duplicates, allow_network)

    evaluated = load(data, sample)
    if calibration is None:
        tuned, evaluated = split_half(evaluated, 0.5, seed)
    else:
        tuned = load(calibration, calibration_sample)
    refuse_shared_texts(tuned, evaluated)
    outputs = split_outputs(deployed, _outputs(deployed, tuned, store), _outputs(deployed, evaluated, store))
    with progress("policies", len(wanted)) as advance:
        found = run_sweep(wanted, outputs, speedups=speedups, most=settings, advance=lambda name: advance(1))
    about = About(
        model=model,
        data=evaluated.name,
        n=len(evaluated),
        calibration=tuned.name,
        n_calibration=len(tuned),
        synthetic=evaluated.synthetic or tuned.synthetic,
        modules=deployed.modules_fitted_on(),
    )
    middle = min(speedups, key=lambda value: abs(value - 1.5))
    out.print(f"asked for {middle:g}x; full depth {100 * found.full_depth:.1f} %", highlight=False)
    for line in summary(found, middle):
        out.print(line, highlight=False, markup=False)
    for line in left_out(found):
        out.print(f"left out: {line}", highlight=False, markup=False, soft_wrap=True)
    out.print(f"{len(found.seconds)} policies in {sum(found.seconds.values()):.1f} s", highlight=False)
    for path in write_sweep(found, about, folder):
        out.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _deployed(model: str, max_length: int | None, *, network: bool, remote_code: bool) -> Any:
    from robustexit.models import load_model
    from robustexit.victims.model_victim import DeployedModel

    return DeployedModel(load_model(model, allow_network=network, trust_remote_code=remote_code), max_length)


def _texts(
    deployed: Any,
    source: str,
    split: str,
    sample: int | None,
    columns: dict[str, Any],
    duplicates: str,
    allow_network: bool,
) -> Any:
    """Read data for a model: without --labels, the file's labels are the model's classes in its order."""
    from robustexit.victims.labels import require_same_labels, stated_labels

    given = {**columns, "labels": columns["labels"] or stated_labels(deployed)}
    texts = load_data(
        source, split=split, sample=sample, columns=given, duplicates=duplicates, allow_network=allow_network
    )
    require_same_labels(deployed, texts)
    return texts


def _outputs(deployed: Any, texts: Any, store: Path | None) -> Any:
    from robustexit.victims.outputs import collect_outputs

    with progress(f"every exit on {texts.name}", len(texts)) as advance:
        return collect_outputs(deployed, texts, store, advance)


def _print_exits(held_out: Any, shares: list[float] | None = None) -> None:
    """Print accuracy, calibration error and fitted temperature of every exit, and where a policy leaves."""
    from rich.table import Table

    from robustexit.exits.temperature import calibration_error, fit_temperatures

    temperatures = fit_temperatures(held_out.logits, held_out.labels)
    before = calibration_error(held_out.logits, held_out.labels)
    after = calibration_error(held_out.logits / temperatures[None, :, None], held_out.labels)
    columns = ["exit", "accuracy, %", "ECE", "temperature", "ECE at that temperature"]
    table = Table(*columns, *([] if shares is None else ["leaves here, %"]))
    for index, temperature in enumerate(temperatures):
        right = 100 * held_out.correct[:, index].mean()
        cells = [f"{index + 1}", f"{right:.1f}", f"{before[index]:.3f}", f"{temperature:.2f}", f"{after[index]:.3f}"]
        table.add_row(*cells, *([] if shares is None else [f"{100 * shares[index]:.1f}"]))
    out.print(table)
