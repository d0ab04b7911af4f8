"""A universal trigger as a run: searched on training texts, evaluated on others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from robustexit.attacks.goals import Goal, make_goal
from robustexit.attacks.triggers import Trigger, TriggerSpec, find_trigger, frequent_words, tokenizer_words
from robustexit.attacks.views import View, get_view
from robustexit.campaign.attempts import fill_similarity, side_columns
from robustexit.campaign.manifest import describe_victims
from robustexit.campaign.prepare import Splits, VictimBuilder
from robustexit.campaign.provenance import machine, versions
from robustexit.campaign.targets import NamedTarget, TargetsSpec
from robustexit.campaign.transfer import campaign_threads, refuse_changes
from robustexit.campaign.worker import THREADS, describe_policy, sentence_encoder
from robustexit.data import Example, TextDataset, stratified_sample
from robustexit.errors import ConfigError, DataError, unknown_name
from robustexit.measures import Estimate, measure_named
from robustexit.permissions import Permissions
from robustexit.records import COLUMNS
from robustexit.runs import Run, RunFolder, load_run
from robustexit.validation import validate
from robustexit.victims.base import Trace, Victim
from robustexit.victims.model_victim import DeployedModel

SOURCES: Final = ("data", "tokenizer")
"""Where candidate words come from: the training texts, or the model's tokenizer."""

EVALUATED: Final = (
    "clean_accuracy",
    "robust_accuracy",
    "exit_clean",
    "exit_attacked",
    "shift_mean",
    "speedup_clean",
    "speedup_attacked",
)
"""Measures of the trigger on every held-out text, without and with it."""

CHUNK: Final = 256


@dataclass(frozen=True)
class TriggerTask:
    """What is searched, and on what.

    Attributes:
        train: Texts to search on.
        evaluated: Texts to evaluate on; none of them in `train`.
        goal: What the trigger is after, as in campaigns.
        view: What the attacker sees.
        search: How the trigger is searched.
        source: Where candidate words come from: one of `SOURCES`.
        candidates: Words tried at each position.
        train_texts: Training texts used: a seeded stratified sample; all if None.
        true_class: Only texts of this class, by name; all if None (the paper searches one trigger a class).
        protect: Fields that the trigger must not go into.
        seed: Seed of the sample of training texts, and the records' seed.
    """

    train: TextDataset
    evaluated: TextDataset
    goal: str = "deployed"
    view: str = "scores"
    search: TriggerSpec = field(default_factory=TriggerSpec)
    source: str = "data"
    candidates: int = 200
    train_texts: int | None = 64
    true_class: str | None = None
    protect: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Settings:
    """How it is run; nothing here changes a record.

    Attributes:
        out: Run folder.
        permissions: What the user allowed.
        advance: Told the number of triggers tried, for progress.
    """

    out: Path
    permissions: Permissions = field(default_factory=Permissions)
    advance: Callable[[int], None] = lambda triggers: None


class TriggerVictim:
    """The victim of a trigger, and what a manifest says of it.

    Args:
        target: Model and policy.
        out: Run folder.
        permissions: What the user allowed.
    """

    def __init__(self, target: NamedTarget, out: Path, permissions: Permissions) -> None:
        self._spec = validate(TargetsSpec, target.sections(), "the model given")
        self._out = out
        self._builder = VictimBuilder(self._spec, out, Path.cwd(), permissions)
        (self.name, self._victim), *_ = self._spec.victims.items()

    @property
    def deployed(self) -> DeployedModel:
        """The weights."""
        return self._builder.deployed(self._victim.model)

    def build(self, data: TextDataset) -> Victim:
        """Build the victim for a dataset.

        Raises:
            ConfigError: Labels do not fit, or the policy cannot work.
        """
        return self._builder.build(self.name, data.name, Splits(data, None, data, ()))

    def describe(self, data: TextDataset, victim: Victim) -> dict[str, Any]:
        """Return the manifest's entries."""
        return describe_victims(self._spec, self._out, {(data.name, self.name): victim}, self._builder)


def run_trigger(owner: TriggerVictim, task: TriggerTask, settings: Settings) -> Run:
    """Search a trigger and evaluate it; a finished run of the same task is returned as it is.

    Records follow the rule of every other attack: an example that the goal skips (it is met already) keeps its
    original. The manifest's `trigger` entry has the words, what the search took and, under `evaluation`, the measures
    with the trigger on every held-out text, skipped ones included.

    Args:
        owner: The victim.
        task: What is searched, and on what.
        settings: Where the result goes.

    Raises:
        ConfigError: A goal, view, class or field that does not fit.
        DataError: Training texts among the evaluated ones.
        RunError: The folder holds another run.
    """
    goal, view = make_goal(task.goal), get_view(task.view)
    _require_alike(task.train, task.evaluated)
    train, evaluated = (_of_class(data, task.true_class) for data in (task.train, task.evaluated))
    _refuse_shared(task.train, evaluated)
    into = _field(evaluated, task.protect)
    sample = train
    if task.train_texts is not None and task.train_texts < len(train):
        sample = stratified_sample(train, task.train_texts, task.seed)
    folder = RunFolder(settings.out)
    with folder.hold(), campaign_threads():
        victim = owner.build(evaluated)
        manifest = _manifest(task, goal.label, into, sample, evaluated) | owner.describe(evaluated, victim)
        refuse_changes(folder, manifest)
        if folder.started and folder.read_manifest().get("status") == "complete":
            return load_run(settings.out)
        folder.write_manifest({**manifest, "status": "running"})
        words = _words(task, train, into, owner)
        found = find_trigger(
            victim, sample.examples, words, goal=goal, view=view, field=into, spec=task.search, advance=settings.advance
        )
        shown = _show(victim, evaluated, task.search, found.words, into)
        key = {"dataset": evaluated.name, "victim": owner.name, "policy": describe_policy(victim), "defense": "none"}
        key |= {"recipe": task.search.label, "goal": goal.label, "view": view.name}
        rows = [_record(one, {**key, "seed": task.seed}, goal, view, victim.num_exits) for one in shown]
        fill_similarity(rows, sentence_encoder())
        if not folder.finished():
            folder.write_part(rows)  # one part: all of it or nothing
        manifest["trigger"] = _described(found, len(words), shown)
        folder.write_manifest({**manifest, "status": "complete"})
    return load_run(settings.out)


def _of_class(data: TextDataset, name: str | None) -> TextDataset:
    if name is None:
        return data
    if name not in data.label_names:
        raise ConfigError(unknown_name("class", name, data.label_names))
    wanted = data.label_names.index(name)
    kept = tuple(example for example in data.examples if example.label == wanted)
    if not kept:
        raise DataError(f"{data.name}: expected texts of class {name!r}, got none")
    return data.with_examples(kept, f"class {name} only")


def _refuse_shared(train: TextDataset, evaluated: TextDataset) -> None:
    """A trigger evaluated on the texts that it was searched on would look stronger than it is."""
    known = {tuple(text.values()) for text in train.texts}
    shared = [one.example_id for one in evaluated.examples if tuple(one.fields.values()) in known]
    if shared:
        raise DataError(
            f"{len(shared)} of {len(evaluated)} texts of {evaluated.name} are also training texts of the trigger "
            f"(first: {shared[0]}); evaluate on other texts, or remove the repeated ones"
        )


def _require_alike(train: TextDataset, evaluated: TextDataset) -> None:
    """Refuse two datasets of other labels or fields."""
    for what in ("label_names", "field_names"):
        ours, theirs = getattr(train, what), getattr(evaluated, what)
        if ours != theirs:
            words = what.replace("_", " ")
            raise DataError(f"training and evaluated texts must have the same {words}, got {ours} and {theirs}")


def _field(data: TextDataset, protect: Sequence[str]) -> str:
    """Return the last field that is not protected: the hypothesis of a pair, as in the paper."""
    for name in protect:
        if name not in data.field_names:
            raise ConfigError(f"cannot protect {name!r}; the fields of {data.name} are {', '.join(data.field_names)}")
    free = [name for name in data.field_names if name not in protect]
    if not free:
        raise ConfigError(f"every field is protected ({', '.join(data.field_names)}); leave one for the trigger")
    return free[-1]


def _words(task: TriggerTask, train: TextDataset, into: str, owner: TriggerVictim) -> list[str]:
    if task.source not in SOURCES:
        raise ConfigError(unknown_name("source of candidates", task.source, SOURCES))
    if task.source == "tokenizer":
        return tokenizer_words(owner.deployed.tokenizer, task.candidates)
    return frequent_words((text[into] for text in train.texts), task.candidates)


@dataclass(frozen=True)
class _Shown:
    """One held-out text, without and with the trigger."""

    example: Example
    final: dict[str, str]
    clean: Trace
    after: Trace

    def sides(self, skipped: bool = False) -> dict[str, Any]:
        """Return the columns of both sides; the original on both where it was skipped."""
        label, after = self.example.label, self.clean if skipped else self.after
        return {
            "example_id": self.example.example_id,
            "label": label,
            **side_columns("clean", self.clean),
            **side_columns("attacked", after),
            "flipped": self.clean.answer == label and after.answer != label,
            "slower": after.exit > self.clean.exit,
            "truncated": self.clean.truncated or after.truncated,
        }


def _show(victim: Victim, data: TextDataset, search: TriggerSpec, words: tuple[str, ...], into: str) -> list[_Shown]:
    shown: list[_Shown] = []
    for at in range(0, len(data), CHUNK):
        examples = data.examples[at : at + CHUNK]
        finals = [search.apply(words, example.fields, into) for example in examples]
        traces = victim.trace([*(example.fields for example in examples), *finals], victim.num_exits)
        pairs = zip(examples, finals, traces[: len(examples)], traces[len(examples) :], strict=True)
        shown += [_Shown(*pair) for pair in pairs]
    return shown


def _record(one: _Shown, key: Mapping[str, Any], goal: Goal, view: View, num_exits: int) -> dict[str, Any]:
    from robustexit.attacks.attempt import count_words

    start = view.show(one.clean, num_exits)
    skipped = goal.skips(start, one.example.label)
    met = goal.met(start if skipped else view.show(one.after, num_exits), one.example.label, start)
    text = dict(one.example.fields) if skipped else one.final
    changed, total = count_words(one.example.fields, text)
    asked = [one.clean] if skipped else [one.clean, one.after]
    row: dict[str, Any] = dict.fromkeys((column.name for column in COLUMNS), None)
    return {
        **row,
        **key,
        **one.sides(skipped),
        "outcome": "skipped" if skipped else "succeeded" if met else "failed",
        "goal_met": met,
        "text": dict(one.example.fields),
        "text_attacked": text,
        "num_exits": num_exits,
        "queries": len(asked),
        "forwards": len(asked),
        "layer_forwards": sum(trace.layers for trace in asked),
        "candidates": len(asked) - 1,
        "candidates_kept": len(asked) - 1,
        "words_changed": changed,
        "words_total": total,
        "char_edits": sum(len(value) - len(one.example.fields[name]) for name, value in text.items()),
    }


def _described(found: Trigger, candidates: int, shown: Sequence[_Shown]) -> dict[str, Any]:
    """Describe the trigger, measured on every held-out text, also those that the goal skips."""
    applied = pd.DataFrame([{**one.sides(), "outcome": "failed"} for one in shown])
    measured: dict[str, Estimate] = {name: measure_named(name)(applied) for name in EVALUATED}
    return {
        "text": found.text,
        "candidates": candidates,
        **{key: value for key, value in asdict(found).items() if key != "words"},
        "evaluation": {
            name: {"value": one.value if one.defined else None, "low": one.low, "high": one.high, "n": one.n}
            for name, one in measured.items()
        },
    }


def _manifest(task: TriggerTask, goal: str, into: str, sample: TextDataset, data: TextDataset) -> dict[str, Any]:
    counts = np.bincount(task.evaluated.labels)  # of all classes, also where one is attacked
    search = {
        **asdict(task.search),
        "goal": goal,
        "view": task.view,
        "field": into,
        "true_class": task.true_class,
        "source": task.source,
        "candidates": task.candidates,
        "seed": task.seed,
        "train_texts": len(sample),
        "train": task.train.source,
    }
    return {
        "campaign": {"name": f"{data.name}-trigger", "search": search},
        "data_hashes": {data.name: data.content_hash(), "trigger-training": sample.content_hash()},
        "datasets": {
            data.name: {
                "labels": list(data.label_names),
                "fields": list(data.field_names),
                "protected": [name for name in data.field_names if name != into],
                "synthetic": data.synthetic or task.train.synthetic,
                "source": data.source,
                "notes": list(data.notes),
                "n": len(data),
                "hash": data.content_hash(),
                "majority_rate": float(counts.max() / counts.sum()),
            }
        },
        "recipes": {
            task.search.label: {
                "effective_name": task.search.label,
                "citation": "Wallace et al. 2019",
                "url": "https://arxiv.org/abs/1908.07125",
                "bibtex_key": "wallace2019universal",
                "settings": asdict(task.search),
            }
        },
        "versions": versions(),
        "machine": machine(THREADS),
        "dropped_cells": [],
    }
