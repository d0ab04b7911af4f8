"""Transfer: a run's attacked texts shown to other victims, without attacking again."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from robustexit.attacks.goals import Goal, make_goal
from robustexit.attacks.goals.answers import InputReduction
from robustexit.attacks.views import View, get_view
from robustexit.campaign.attempts import side_columns
from robustexit.campaign.cells import WORST_CASE
from robustexit.campaign.manifest import changes, describe_victims
from robustexit.campaign.prepare import Splits, VictimBuilder, train_models
from robustexit.campaign.provenance import machine, versions
from robustexit.campaign.targets import (
    Targets,
    TargetsSpec,
    adopt_calibrations,
    adopt_models,
    datasets_of,
    originals,
    target_splits,
    with_labels_of,
)
from robustexit.campaign.worker import THREADS, describe_policy
from robustexit.data.types import Fields
from robustexit.errors import ConfigError, RunError, unknown_name
from robustexit.measures.transfer import MARK, transferred_recipe
from robustexit.permissions import Permissions
from robustexit.records import ATTEMPT_KEYS, COLUMNS
from robustexit.runs import Run, RunFolder, load_run
from robustexit.victims.base import Trace, Victim
from robustexit.victims.live import judged

CHUNK: Final = 256
"""Rows that are evaluated together and written as one part."""

_KEPT: Final = ("dataset", "example_id", "goal", "view", "text", "text_attacked")
_COUNTS: Final = ("label", "seed", "words_changed", "words_total", "char_edits")


@dataclass(frozen=True)
class Settings:
    """How a transfer is run.

    Attributes:
        out: Run folder of the result.
        permissions: What the user allowed.
        crafted_on: Victims of the source whose texts are taken; all if empty.
        console: Where progress goes.
    """

    out: Path
    permissions: Permissions = field(default_factory=Permissions)
    crafted_on: tuple[str, ...] = ()
    console: Console = field(default_factory=lambda: Console(stderr=True))


def run_transfer(source: Run, targets: Targets, settings: Settings) -> Run:
    """Evaluate a run's attacked texts on other victims; a second start continues the first.

    Originals and texts are those of the run, in the view they were crafted in; answers, exits, outcomes and goals are
    the target's own. Nothing is searched: `queries` is 0, `forwards` the one or two texts of the row. Rows of the
    source that ended in an error have no text and are left out; the manifest counts them. A victim that learns from
    its inputs is asked as it was deployed, and learns nothing.

    Args:
        source: A finished or unfinished run, another transfer, or an imported TextAttack log.
        targets: What to evaluate them on.
        settings: Where the result goes.

    Returns:
        The run of the result: `crafted_on` says whose texts a row holds, empty where the target is that very victim
        (equal name and fingerprint), ``run/victim`` where another victim has its name.

    Raises:
        ConfigError: Labels or fields do not agree, no target fits a dataset, or no goal can apply.
        RunError: The source has no texts, or the folder holds another transfer.
    """
    rows, left_out = _texts(source, settings.crafted_on)
    names = list(dict.fromkeys(row["dataset"] for row in rows))
    folder = RunFolder(settings.out)
    if folder.path.resolve() == source.path.resolve():
        raise RunError(f"{folder.path} is the run that is transferred; choose another --out")
    with folder.hold(), campaign_threads():
        spec = _meant(targets, names)
        targets = Targets(spec, targets.base, targets.where)
        data = {
            name: target_splits(
                name,
                originals(source.records[source.records["dataset"] == name], name, source.manifest),
                targets,
                settings.permissions,
            )
            for name in names
        }
        manifest = _described(source, targets, settings, left_out)
        refuse_changes(folder, manifest)
        victims, more = _build(targets, source, settings, names, data)
        plan = _plan(rows, victims, source)
        refuse_changes(folder, manifest | more)
        manifest |= {**more, "dropped_cells": list(plan.dropped), "recipes": _recipes(source, plan)}
        folder.write_manifest({**manifest, "status": "running"})
        _evaluate(plan, victims, folder, settings)
        folder.write_manifest({**manifest, "status": "complete"})
    return load_run(settings.out)


@contextmanager
def campaign_threads() -> Iterator[None]:
    """Compute with as many threads as campaigns do, so that equal victims give equal bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _texts(source: Run, crafted_on: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return the rows that have a text, and how many were left out by outcome."""
    records = source.records
    known = list(dict.fromkeys(records["victim"].astype(str)))
    for name in crafted_on:
        if name not in known:
            raise ConfigError(unknown_name(f"victim of {source.path}", name, known))
    if crafted_on:
        records = records[records["victim"].isin(list(crafted_on))]
    bare = (records["outcome"] == "error") | records["text_attacked"].isna()
    left_out = {str(name): int(count) for name, count in records.loc[bare, "outcome"].value_counts().items()}
    rows = [{str(key): value for key, value in row.items()} for row in records[~bare].to_dict("records")]
    if not rows:
        raise RunError(f"{source.path} holds no attacked text yet; run its campaign first")
    return rows, left_out


def _meant(targets: Targets, names: Sequence[str]) -> TargetsSpec:
    """Return the spec with those victims alone that are meant for one of the run's datasets.

    Raises:
        ConfigError: None is, or one has no data to be calibrated on.
    """
    spec = targets.spec
    kept = {name: victim for name, victim in spec.victims.items() if datasets_of(spec, name, list(names))}
    if not kept:
        raise ConfigError(f"no victim of {targets.where} is meant for the run's datasets ({', '.join(names)})")
    for name, victim in kept.items():
        for dataset in datasets_of(spec, name, list(names)):
            if victim.calibrate is not None and dataset not in spec.datasets:
                raise ConfigError(
                    f"victim {name!r} asks for a calibration, but nothing says where dataset {dataset!r} is; "
                    f"add it under `datasets` in {targets.where}, with a calibration share"
                )
    used = {victim.model for victim in kept.values()}
    models = {name: model for name, model in spec.models.items() if name in used}
    return spec.model_copy(update={"victims": kept, "models": models})


def _build(
    targets: Targets, source: Run, settings: Settings, names: list[str], data: Mapping[str, Splits]
) -> tuple[dict[tuple[str, str], Victim], dict[str, Any]]:
    """Build the targets, by (dataset, name), and describe them."""
    spec = adopt_models(targets, source, settings.out)
    train_models(spec, settings.out, targets.base, settings.permissions, progress=True)
    builder = VictimBuilder(spec, settings.out, targets.base, settings.permissions)
    adopt_calibrations(targets, source, settings.out, builder)
    victims: dict[tuple[str, str], Victim] = {}
    for name, victim in spec.victims.items():
        for dataset in datasets_of(spec, name, names):
            splits = data[dataset]
            if spec.models[victim.model].factory is None:
                splits = with_labels_of(builder.deployed(victim.model).label_names, splits)
            elif not splits.whole.label_names:
                raise ConfigError(
                    f"victim {name!r} comes from a factory, and the run does not know its labels' names; name them "
                    "with `robustexit import-textattack --labels`"
                )
            victims[dataset, name] = builder.build(name, dataset, splits)
    return victims, describe_victims(spec, settings.out, victims, builder)


@dataclass(frozen=True)
class _Task:
    """One row to make."""

    source: Mapping[str, Any]
    dataset: str
    victim: str
    recipe: str
    crafted_on: str | None
    goal: Goal
    view: View


@dataclass(frozen=True)
class _Plan:
    """The rows to make, and the cells that cannot apply."""

    tasks: tuple[_Task, ...]
    dropped: tuple[dict[str, Any], ...]


def _plan(rows: Sequence[Mapping[str, Any]], victims: Mapping[tuple[str, str], Victim], source: Run) -> _Plan:
    tasks: dict[tuple[Any, ...], _Task] = {}  # a transfer holds each text once for every victim: they are one here
    dropped: dict[tuple[Any, ...], dict[str, Any]] = {}
    goals = {label: _goal(label) for label in dict.fromkeys(row["goal"] for row in rows)}
    for (dataset, name), victim in victims.items():
        for row in rows:
            if row["dataset"] != dataset:
                continue
            crafted_on = _crafted_on(row, name, victim, source)
            recipe = transferred_recipe(str(row["recipe"]), crafted_on or name)
            goal = goals[row["goal"]]
            reason = goal.refuses(victim)
            if reason is None:
                task = _Task(row, dataset, name, recipe, crafted_on, goal, get_view(str(row["view"])))
                tasks.setdefault(_key(task), task)
                continue
            cell: dict[str, Any] = {"dataset": dataset, "victim": name, "recipe": recipe}
            cell |= {"goal": row["goal"], "view": row["view"], "seed": int(row["seed"])}
            dropped[tuple(cell.values())] = {**cell, "reason": reason}
    if not tasks:
        raise ConfigError(f"nothing is left to transfer: {next(iter(dropped.values()))['reason']}")
    return _Plan(tuple(tasks.values()), tuple(dropped.values()))


def _goal(label: str) -> Goal:
    """Return the goal of a record; worst cases are judged by the deployed answer."""
    return make_goal("deployed" if label == WORST_CASE else label)


def _crafted_on(row: Mapping[str, Any], name: str, victim: Victim, source: Run) -> str | None:
    """Whose text it is, as in the column; None where it is this very victim's own."""
    said = row.get("crafted_on")
    if isinstance(said, str):
        return said
    origin = str(row["victim"])
    if origin != name:
        return origin
    fingerprint = (source.manifest.get("fingerprints") or {}).get(f"{row['dataset']}.{origin}")
    return None if fingerprint == victim.fingerprint else f"{source.path.resolve().name}/{origin}"


def _evaluate(plan: _Plan, victims: Mapping[tuple[str, str], Victim], folder: RunFolder, settings: Settings) -> None:
    from rich.progress import Progress

    done = folder.finished()
    left = [task for task in plan.tasks if _key(task) not in done]
    if done:
        settings.console.print(f"continuing: {len(plan.tasks) - len(left)} of {len(plan.tasks)} rows are on disk")
    with Progress(console=settings.console) as progress:
        bar = progress.add_task("rows", total=len(plan.tasks), completed=len(plan.tasks) - len(left))
        for (dataset, name), victim in victims.items():
            mine = [task for task in left if (task.dataset, task.victim) == (dataset, name)]
            traces = _Traces(victim)
            for at in range(0, len(mine), CHUNK):
                chunk = mine[at : at + CHUNK]
                folder.write_part(_records(chunk, victim, traces))
                progress.advance(bar, len(chunk))


def _key(task: _Task) -> tuple[Any, ...]:
    found = {**task.source, "victim": task.victim, "recipe": task.recipe, "seed": int(task.source["seed"])}
    return tuple(found[key] for key in ATTEMPT_KEYS)


class _Traces:
    """What one victim says to texts, every exit, each distinct text run once."""

    def __init__(self, victim: Victim) -> None:
        self._victim = victim
        self._known: dict[tuple[tuple[str, str], ...], Trace | Exception] = {}

    def run(self, texts: Sequence[Fields]) -> None:
        """Run texts in batches; where one breaks the victim, each is run alone, so that only that one is lost."""
        new = {tuple(text.items()): text for text in texts if tuple(text.items()) not in self._known}
        try:
            found: Sequence[Trace | Exception] = judged(self._victim, list(new.values()), self._victim.num_exits)
        except Exception:
            found = [self._alone(text) for text in new.values()]
        self._known.update(zip(new, found, strict=True))

    def _alone(self, text: Fields) -> Trace | Exception:
        try:
            return judged(self._victim, [text], self._victim.num_exits)[0]
        except Exception as error:
            return error

    def __getitem__(self, text: Fields) -> Trace:
        found = self._known[tuple(text.items())]
        if isinstance(found, Exception):
            raise found
        return found


def _records(tasks: Sequence[_Task], victim: Victim, traces: _Traces) -> list[dict[str, Any]]:
    started = time.perf_counter()
    traces.run([task.source[side] for task in tasks for side in ("text", "text_attacked")])
    seconds = (time.perf_counter() - started) / len(tasks)
    policy = describe_policy(victim)
    return [_record(task, victim, policy, traces) | {"seconds": seconds} for task in tasks]


def _record(task: _Task, victim: Victim, policy: str, traces: _Traces) -> dict[str, Any]:
    source = task.source
    row: dict[str, Any] = dict.fromkeys((column.name for column in COLUMNS), None)
    row |= {name: source[name] for name in _KEPT} | {name: _whole(source[name]) for name in _COUNTS}
    row |= {
        "victim": task.victim,
        "policy": policy,
        "defense": "none",
        "recipe": task.recipe,
        "crafted_on": task.crafted_on,
        "num_exits": victim.num_exits,
        "similarity": None if _empty(source["similarity"]) else float(source["similarity"]),
        "queries": 0,
        "candidates": 1,  # the text itself: whether its recipe found any was the source's affair
        "candidates_kept": 1,
    }
    try:
        clean, final = traces[source["text"]], traces[source["text_attacked"]]
    except Exception as error:  # one bad text is a row, never the end of a run
        return row | {"outcome": "error", "error": f"{type(error).__name__}: {error}"}
    label = int(source["label"])
    distinct = [clean] if source["text"] == source["text_attacked"] else [clean, final]
    return row | {
        **side_columns("clean", clean),
        **side_columns("attacked", final),
        **_verdict(task, clean, final, label, victim.num_exits),
        "flipped": clean.answer == label and final.answer != label,
        "slower": final.exit > clean.exit,
        "truncated": clean.truncated or final.truncated,
        "forwards": len(distinct),
        "layer_forwards": sum(trace.layers for trace in distinct),
    }


def _verdict(task: _Task, clean: Trace, final: Trace, label: int, num_exits: int) -> dict[str, Any]:
    """Judge the goal on this victim: outcome and whether its condition holds on the final text."""
    start, seen = (task.view.show(trace, num_exits) for trace in (clean, final))
    met = task.goal.met(seen, label, start)
    if isinstance(task.goal, InputReduction):
        met = met and _words(task.source["text_attacked"]) <= 1
    if task.goal.skips(start, label):
        return {"outcome": "skipped", "goal_met": met}
    if task.goal.maximizable:
        return {"outcome": "maximized", "goal_met": met}
    return {"outcome": "succeeded" if met else "failed", "goal_met": met}


def _words(text: Fields) -> int:
    from robustexit.attacks.textattack_api import words_from_text

    return sum(len(words_from_text(value)) for value in text.values())


def _empty(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _whole(value: Any) -> int | None:
    return None if _empty(value) else int(value)


def _described(source: Run, targets: Targets, settings: Settings, left_out: Mapping[str, int]) -> dict[str, Any]:
    """Describe what is known before any model is loaded; all of it binds a run that is continued."""
    said = source.manifest.get("campaign") or {}
    origin = str(said.get("name") or source.path.resolve().name)
    named = {section: getattr(targets.spec, section) for section in ("models", "victims", "datasets")}
    return {
        "campaign": {
            "name": f"{origin}-transfer",
            "source": {
                "run": source.path.resolve().name,
                "manifest": manifest_hash(source.manifest),
                "crafted_on": list(settings.crafted_on),
            },
            **{key: {name: one.model_dump(mode="json") for name, one in part.items()} for key, part in named.items()},
        },
        "left_out": dict(left_out),
        "data_hashes": source.manifest.get("data_hashes") or {},
        "datasets": source.manifest.get("datasets") or {},
        "versions": versions(),
        "machine": machine(THREADS),
    }


def manifest_hash(manifest: Mapping[str, Any]) -> str:
    """Return a SHA-256 over a manifest without its status: the same for a run before and after it is finished."""
    content = {key: value for key, value in manifest.items() if key != "status"}
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def refuse_changes(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Refuse to continue a run folder that was started with something else.

    Raises:
        RunError: Naming what differs.
    """
    differences = changes(folder.read_manifest(), manifest) if folder.started else []
    if differences:
        listed = "\n".join(f"  {difference}" for difference in differences)
        raise RunError(
            f"{folder.path} holds another run:\n{listed}\nContinue it as it was started, or choose another --out"
        )


def _recipes(source: Run, plan: _Plan) -> dict[str, Any]:
    """Describe the recipes under their names here."""
    said = source.manifest.get("recipes") or {}
    names = dict.fromkeys(task.recipe for task in plan.tasks)
    return {name: {**(said.get(name.partition(MARK)[0]) or {}), "effective_name": name} for name in names}
