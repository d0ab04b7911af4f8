"""Run a campaign: prepare, plan, attack in worker processes, report. A second start continues the first."""

from __future__ import annotations

import multiprocessing
import os
import queue
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from robustexit.attacks.resources import configure
from robustexit.campaign.cells import Plan, check_names, make_plan, weak_attacks
from robustexit.campaign.manifest import changes, describe_campaign, describe_victims
from robustexit.campaign.prepare import Splits, VictimBuilder, load_splits, train_models
from robustexit.campaign.spec import CampaignSpec, load_spec
from robustexit.campaign.worker import Failed, Finished, Share, work
from robustexit.errors import RunError
from robustexit.permissions import Permissions
from robustexit.runs import Run, RunFolder, load_run
from robustexit.victims.base import Victim

LOG_SECONDS = 60.0
"""How often progress is a line of text where there is no terminal to draw a bar on."""


@dataclass(frozen=True)
class Settings:
    """How a campaign is run; nothing here changes a record.

    Attributes:
        out: Run folder.
        workers: Worker processes; one for each core if None.
        permissions: What the user allowed.
        console: Where progress goes.
    """

    out: Path
    workers: int | None = None
    permissions: Permissions = field(default_factory=Permissions)
    console: Console = field(default_factory=lambda: Console(stderr=True))

    @property
    def worker_count(self) -> int:
        """Number of worker processes."""
        return self.workers or os.cpu_count() or 1


def run_campaign_file(path: Path, settings: Settings) -> Run:
    """Run the campaign in a YAML file; relative paths in it count from its folder.

    Raises:
        RobustExitError: Anything the user can fix; nothing finished is lost.
    """
    return run_campaign(load_spec(path), path.resolve().parent, settings)


def run_campaign(spec: CampaignSpec, base: Path, settings: Settings) -> Run:
    """Run a campaign, or continue it where it stopped.

    Args:
        spec: The campaign.
        base: Folder that relative paths in it count from.
        settings: Where and how to run it.

    Raises:
        RobustExitError: Anything the user can fix; nothing finished is lost.
    """
    configure(spec.resources or {}, base)
    check_names(spec)
    _check_resources(spec, settings.console)
    folder = RunFolder(settings.out)
    with folder.hold():
        splits = {
            name: load_splits(name, dataset, base, settings.permissions) for name, dataset in spec.datasets.items()
        }
        manifest = describe_campaign(spec, splits, base)
        if folder.started:
            _refuse_changes(folder.read_manifest(), manifest, settings.out)
        else:
            folder.write_manifest({**manifest, "status": "preparing"})
        train_models(spec, settings.out, base, settings.permissions, progress=True)
        builder = VictimBuilder(spec, settings.out, base, settings.permissions)
        victims = {
            (dataset, name): builder.build(name, dataset, splits[dataset])
            for name in spec.victims
            for dataset in spec.datasets_of(name)
        }
        plan = make_plan(spec, victims)
        manifest |= describe_victims(spec, settings.out, victims, builder)
        _show_victims(manifest, settings.console)
        manifest |= {"dropped_cells": list(plan.dropped), "weak_attacks": weak_attacks(plan)}
        if folder.started:
            _refuse_changes(folder.read_manifest(), manifest, settings.out)
        folder.write_manifest({**manifest, "status": "running"})
        _attack(spec, base, settings, plan, splits, victims)
        folder.write_manifest({**manifest, "status": "complete"})
    return load_run(settings.out)


def _check_resources(spec: CampaignSpec, console: Console) -> None:
    """Refuse a recipe whose resources are missing before anything is trained."""
    from robustexit.attacks.recipes import require_ready

    for recipe in spec.all_recipes:
        name = require_ready(recipe)
        if name != recipe.label:
            console.print(
                f"recipe [bold]{recipe.label}[/bold] runs with a substitute and is recorded as [bold]{name}[/bold]"
            )


def _refuse_changes(old: Mapping[str, Any], new: Mapping[str, Any], out: Path) -> None:
    differences = changes(old, new)
    if differences:
        listed = "\n".join(f"  {difference}" for difference in differences)
        raise RunError(
            f"{out} holds a run of another campaign:\n{listed}\n"
            "Continue it with the old campaign, or choose another folder with --out"
        )


def _show_victims(manifest: Mapping[str, Any], console: Console) -> None:
    """Print what each calibration reached, so that nobody takes the target for the result."""
    for name, victim in manifest["victims"].items():
        for dataset, found in (victim.get("calibrations") or {}).items():
            console.print(
                f"victim [bold]{name}[/bold] on {dataset}: {victim['policies'][dataset]} reaches "
                f"[bold]{found['reached_speedup']:.2f}x[/bold] (asked: {found['target']}), clean accuracy "
                f"[bold]{found['clean_accuracy']:.3f}[/bold] (full depth {found['full_depth_accuracy']:.3f}) "
                f"on {found['n']} held-out texts"
            )


def _attack(
    spec: CampaignSpec,
    base: Path,
    settings: Settings,
    plan: Plan,
    splits: Mapping[str, Splits],
    victims: Mapping[tuple[str, str], Victim],
) -> None:
    """Start the workers, show their progress, and stop all if one cannot go on."""
    total = sum(len(splits[cell.dataset].attacked) for cell in plan.cells)
    already = len(RunFolder(settings.out).finished())
    if already >= total:
        settings.console.print(f"all {total} attempts are on disk already")
        return
    if already:
        settings.console.print(f"continuing: {already} of {total} attempts are on disk")
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    count = min(settings.worker_count, max(len(data.attacked) for data in splits.values()))
    workers = [
        context.Process(
            target=work,
            args=(Share(spec, settings.out, base, settings.permissions, plan.cells, index, count), messages),
            daemon=True,
        )
        for index in range(count)
    ]
    for worker in workers:
        worker.start()
    try:
        _follow(workers, messages, total, already, settings.console)
    except KeyboardInterrupt:
        settings.console.print("stopped; finished attempts are on disk, start the same command again to continue")
        raise
    finally:
        for worker in workers:
            worker.terminate()
            worker.join()


def _follow(workers: list[Any], messages: Any, total: int, already: int, console: Console) -> None:
    """Show progress until every worker has ended.

    Raises:
        RunError: A worker failed or died; what it finished is on disk.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    outcomes: Counter[str] = Counter()
    said = time.monotonic()
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("attempts", total=total, completed=already)
        while True:
            running = any(worker.is_alive() for worker in workers)
            try:
                message = messages.get(timeout=0.5)
            except queue.Empty:
                if not running:
                    break
                _require_healthy(workers)
                continue
            if isinstance(message, Failed):
                text = message.message if message.actionable else f"a worker failed:\n{message.message}"
                raise RunError(f"{text}\nFinished attempts are on disk; start the same command again to continue")
            if isinstance(message, Finished):
                outcomes.update(message.outcomes)
                if not console.is_terminal and time.monotonic() - said > LOG_SECONDS:
                    said = time.monotonic()
                    console.print(f"{already + outcomes.total()} of {total} attempts")
                progress.update(task, advance=len(message.outcomes), description=message.cell.label)
    _require_healthy(workers)
    console.print("outcomes: " + ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())))


def _require_healthy(workers: list[Any]) -> None:
    for worker in workers:
        if worker.exitcode not in (None, 0):
            raise RunError(
                f"a worker process died (exit code {worker.exitcode}; -9 usually means out of memory). "
                "Finished attempts are on disk; start the same command again to continue, with fewer --workers "
                "if memory was short"
            )
