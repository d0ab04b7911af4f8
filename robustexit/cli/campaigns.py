"""Commands that run campaigns and write their reports."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from robustexit.cli.shared import Code, Network, RemoteCode, Workers, err, network, out, plain

app = typer.Typer()


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
    network(allowed["network"])
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
    out.print(f"\n[bold]{plain(built.answer)}[/bold]", highlight=False)
    for flag in built.flags:
        err.print(f"[yellow]flag:[/yellow] {plain(_flag(flag))}", highlight=False, soft_wrap=True)
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
