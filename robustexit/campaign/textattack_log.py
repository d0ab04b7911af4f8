"""A run made of a TextAttack log: ``textattack attack ... --log-to-csv``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

from robustexit.attacks.goals import make_goal
from robustexit.attacks.views import get_view
from robustexit.campaign.provenance import versions
from robustexit.data.loading import content_id
from robustexit.data.tables import Table, read_path, short
from robustexit.data.types import Example, Fields, TextDataset
from robustexit.errors import ConfigError, DataError, RunError, did_you_mean, unknown_name
from robustexit.records import COLUMNS
from robustexit.runs import Run, RunFolder, load_run

RESULTS: Final[Mapping[str, str]] = {
    "Successful": "succeeded",
    "Failed": "failed",
    "Skipped": "skipped",
    "Maximized": "maximized",
    "Error": "error",
}
"""TextAttack's result types and our outcomes."""

_NEEDED: Final = (
    "original_text",
    "perturbed_text",
    "original_output",
    "perturbed_output",
    "ground_truth_output",
    "num_queries",
    "result_type",
)
_BREAK: Final = "<SPLIT>"
"""TextAttack's word for a line break: between the fields of a pair, and in texts."""

_INDEX: Final = re.compile(r"\d+(\.0+)?")
_KEY: Final = re.compile(rf"(?:^|{_BREAK})([A-Z][\w ]*): ")
_SET_OFF: Final = re.compile(r"\[\[((?:(?!\[\[|\]\]).)*)\]\]", re.DOTALL)
_MARKED_KEY: Final = re.compile(r"\[\[\[\[([\w ]+)\]\]\]\](?=: )")
_FONT: Final = re.compile(r"<font color = \w+>|</font>")
_ESCAPE: Final = re.compile(r"\x1b\[[0-9:;]*m")


def _plain(text: str) -> str:
    return text


def _brackets(text: str) -> str:
    return _SET_OFF.sub(r"\1", _MARKED_KEY.sub(r"\1", text))


MARKERS: Final[Mapping[str, Callable[[str], str]]] = {
    "plain": _plain,
    "file": _brackets,
    "html": lambda text: _FONT.sub("", text),
    "ansi": lambda text: _ESCAPE.sub("", text),
}
"""How a log may set changed words off (TextAttack's ``--csv-coloring-style``), and what takes that out again."""

AUTO: Final = "auto"


@dataclass(frozen=True)
class LogSpec:
    """What a log does not say of itself.

    Attributes:
        labels: Names of the classes in index order; unknown if empty.
        fields: Names of the text fields; if empty, those that the log names for pairs, else ``text``.
        dataset: Name of the dataset; the log's file name if None.
        victim: Name of the victim.
        recipe: Name of the attack recipe.
        goal: The attack's goal: ``deployed`` is TextAttack's untargeted classification.
        view: What the attacker saw.
        seed: TextAttack's ``--random-seed``.
        markers: How changed words are set off: one of `MARKERS`, or ``auto``.
    """

    labels: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    dataset: str | None = None
    victim: str = "textattack"
    recipe: str = "textattack"
    goal: str = "deployed"
    view: str = "scores"
    seed: int = 765
    markers: str = AUTO


def import_log(path: Path, out: Path, spec: LogSpec | None = None) -> Run:
    """Make a run of a TextAttack CSV log. Nothing is written unless the whole log can be read.

    The log has texts, answers, queries and result types; exits, probabilities and costs are unknown and stay empty.
    Words changed and character edits are counted anew from the texts, as campaigns count them. Line breaks come back
    where the log writes ``<SPLIT>``. Repeated texts get a number behind their id.

    Args:
        path: The log, written with any of TextAttack's colouring styles.
        out: Run folder to make.
        spec: What the log does not say.

    Raises:
        DataError: Not such a log, or damaged; the message names the line.
        ConfigError: Unknown goal, view or markers.
        RunError: `out` holds another run.
    """
    spec = spec or LogSpec()
    goal, view = make_goal(spec.goal).label, get_view(spec.view).name
    if spec.markers not in (AUTO, *MARKERS):
        raise ConfigError(unknown_name("markers", spec.markers, (AUTO, *MARKERS)))
    log = _read(path, spec)
    _check_goal(log, goal)
    dataset = _dataset(log, spec)
    rows = [_record(log, i, example, spec, goal, view) for i, example in enumerate(dataset.examples)]
    manifest = _manifest(path, log, dataset, spec)
    folder = RunFolder(out)
    with folder.hold():
        if folder.started:
            _refuse_other(folder, manifest)
        folder.write_manifest({**manifest, "status": "running"})
        done = folder.finished()
        if not done:
            _fill_similarity(rows)
            folder.write_part(rows)  # one part: all of it or nothing
        folder.write_manifest({**manifest, "status": "complete"})
    return load_run(out)


def summary(records: pd.DataFrame) -> dict[str, float]:
    """Return TextAttack's own summary of its results, from the records of an imported log.

    As in ``textattack.metrics``: shares in percent, everything rounded to two digits; maximized results count as
    successful; changed words are counted position by position, over successful results with at least one.

    Args:
        records: Records of `import_log`; rows that ended in an error are left out.
    """
    rows = records[records["outcome"] != "error"]
    outcome = rows["outcome"]
    skipped, failed = int((outcome == "skipped").sum()), int((outcome == "failed").sum())
    successful = len(rows) - skipped - failed
    words = [_words(text) for text in rows["text"]]
    finals = [_words(text) for text in rows["text_attacked"]]
    changed = [
        100 * sum(a != b for a, b in zip(before, after, strict=False)) / max(len(before), 1)
        for before, after, one in zip(words, finals, outcome, strict=True)
        if one not in ("failed", "skipped")
    ]
    return {
        "successful_attacks": successful,
        "failed_attacks": failed,
        "skipped_attacks": skipped,
        "original_accuracy": _percent(len(rows) - skipped, len(rows)),
        "attack_accuracy_perc": _percent(failed, len(rows)),
        "attack_success_rate": _percent(successful, successful + failed) if successful + failed else 0.0,
        "avg_word_perturbed_perc": _mean([share for share in changed if share > 0]),
        "avg_word_perturbed": _mean([len(one) for one in words]),
        "avg_num_queries": _mean(rows.loc[outcome != "skipped", "queries"].tolist()),
    }


def _percent(part: int, whole: int) -> float:
    return round(part * 100.0 / whole, 2) if whole else float("nan")


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 2) if values else float("nan")


def _words(text: Fields) -> list[str]:
    from robustexit.attacks.textattack_api import words_from_text

    return words_from_text("\n".join(text.values()))


@dataclass(frozen=True)
class _Log:
    """A log, read and checked.

    Attributes:
        table: As it stands in the file.
        markers: How changed words are set off.
        texts: Originals and final texts.
        outputs: Answers on both, and true labels.
        queries: Queries of each attempt.
        outcomes: Outcomes of ours.
    """

    table: Table
    markers: str
    texts: tuple[list[dict[str, str]], list[dict[str, str]]]
    outputs: tuple[list[int], list[int], list[int]]
    queries: list[int]
    outcomes: list[str]

    def line(self, i: int) -> str:
        return f"{self.table.where}: {self.table.position(i)}"


def _read(path: Path, spec: LogSpec) -> _Log:
    table = read_path(str(path), None, Path.cwd())
    if not table.untyped:
        raise DataError(f"{path}: expected a TextAttack log as CSV (--log-to-csv)")
    for name in _NEEDED:
        if name not in table.columns:
            raise DataError(
                f"{path}: line 1: no column {name!r}{did_you_mean(name, table.columns)}; expected the columns of a "
                f"TextAttack log (--log-to-csv): {', '.join(_NEEDED)}"
            )
    if not len(table):
        raise DataError(f"{path}: line 2: expected at least one result, got none")
    outcomes = [_outcome(table, i, str(name)) for i, name in enumerate(table.values("result_type"))]
    outputs = tuple(_indices(table, name, spec.labels) for name in _NEEDED[2:5])
    queries = _indices(table, "num_queries", ())
    raw = [[str(text) for text in table.values(name)] for name in _NEEDED[:2]]
    markers = _markers(*raw) if spec.markers == AUTO else spec.markers
    clean = [[MARKERS[markers](text) for text in side] for side in raw]
    fields = spec.fields or _fields(clean[0])
    texts = tuple([_split(table, i, text, fields) for i, text in enumerate(side)] for side in clean)
    return _Log(table, markers, (texts[0], texts[1]), (outputs[0], outputs[1], outputs[2]), queries, outcomes)


def _outcome(table: Table, i: int, result: str) -> str:
    if result not in RESULTS:
        raise DataError(f"{table.where}: {table.position(i)}: {unknown_name('result type', result, RESULTS)}")
    return RESULTS[result]


def _indices(table: Table, column: str, labels: Sequence[str]) -> list[int]:
    found = []
    for i, value in enumerate(table.values(column)):
        text = str(value)
        where = f"{table.where}: {table.position(i)}: column {column!r}"
        if not _INDEX.fullmatch(text):
            raise DataError(
                f"{where}: expected a whole number, got {short(text)}; only logs of attacks on classifiers can be "
                "imported, and the line may be damaged"
            )
        index = int(float(text))
        if labels and index >= len(labels):
            raise DataError(f"{where}: class {index} has no name; the names given are {', '.join(labels)}")
        found.append(index)
    return found


def _markers(originals: Sequence[str], finals: Sequence[str]) -> str:
    """Tell how changed words are set off: by what the texts hold, double brackets only where they explain a change."""
    both = [*originals, *finals]
    if any(_ESCAPE.search(text) for text in both):
        return "ansi"
    if any(_FONT.search(text) for text in both):
        return "html"
    if any(_MARKED_KEY.search(text) for text in both):
        return "file"
    for original, final in zip(originals, finals, strict=True):
        rests = {"".join(_SET_OFF.sub("", text).split()) for text in (original, final)}
        if original != final and len(rests) == 1:
            return "file"
    return "plain"


def _fields(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names that every text puts before its parts (``Premise: ...``), in lower case; else ``text``."""
    found = [[match[1] for match in _KEY.finditer(text)] for text in texts]
    common = [key for key in found[0] if all(key in keys for keys in found)]
    starts = len(common) >= 2 and all(text.startswith(f"{common[0]}: ") for text in texts)
    return tuple(key.lower() for key in common) if starts else ("text",)


def _split(table: Table, i: int, text: str, fields: Sequence[str]) -> dict[str, str]:
    if len(fields) == 1:
        return {fields[0]: text.replace(_BREAK, "\n")}
    keys = [re.escape(name.capitalize()) for name in fields]
    match = re.fullmatch(_BREAK.join(f"{key}: (.*?)" for key in keys), text, re.DOTALL)
    if match is None:
        expected = _BREAK.join(f"{name.capitalize()}: ..." for name in fields)
        raise DataError(f"{table.where}: {table.position(i)}: expected a text like {expected!r}, got {short(text)}")
    return {name: value.replace(_BREAK, "\n") for name, value in zip(fields, match.groups(), strict=True)}


def _check_goal(log: _Log, goal: str) -> None:
    """Refuse a log whose results are not what an untargeted attack would call them."""
    if goal != "deployed":
        return
    for i, outcome in enumerate(log.outcomes):
        before, after, label = (side[i] for side in log.outputs)
        expected = "skipped" if before != label else "succeeded" if after != label else "failed"
        if outcome not in (expected, "error"):
            raise DataError(
                f"{log.line(i)}: result {log.table.values('result_type')[i]}, with answers {before} and {after} where "
                f"{label} is right: that is no untargeted attack; name the attack's goal with --goal "
                "(input-reduction, ...)"
            )


def _dataset(log: _Log, spec: LogSpec) -> TextDataset:
    """Return the originals as a dataset; their ids are those of a dataset without ids, numbered where they repeat."""
    seen: dict[str, int] = {}
    examples = []
    for text, label in zip(log.texts[0], log.outputs[2], strict=True):
        key = content_id(text)
        seen[key] = seen.get(key, 0) + 1
        examples.append(Example(key if seen[key] == 1 else f"{key}-{seen[key]}", text, label))
    name = spec.dataset or Path(log.table.where).stem
    return TextDataset(name, tuple(examples), spec.labels, Path(log.table.where).name)


def _record(log: _Log, i: int, example: Example, spec: LogSpec, goal: str, view: str) -> dict[str, Any]:
    from robustexit.attacks.attempt import count_words

    outcome, final = log.outcomes[i], log.texts[1][i]
    row: dict[str, Any] = dict.fromkeys((column.name for column in COLUMNS), None)
    row |= {
        "dataset": spec.dataset or Path(log.table.where).stem,
        "example_id": example.example_id,
        "label": example.label,
        "victim": spec.victim,
        "policy": "unknown",
        "defense": "none",
        "recipe": spec.recipe,
        "goal": goal,
        "view": view,
        "seed": spec.seed,
        "outcome": outcome,
        "text": dict(example.fields),
        "text_attacked": final,
        "queries": log.queries[i],
    }
    if outcome == "error":
        return row | {"error": "TextAttack's result type is Error"}
    before, after = log.outputs[0][i], log.outputs[1][i]
    changed, total = count_words(example.fields, final)
    return row | {
        "goal_met": after != example.label if goal == "deployed" else {"succeeded": True, "failed": False}.get(outcome),
        "flipped": before == example.label and after != example.label,
        "pred_clean": before,
        "pred_attacked": after,
        "words_changed": changed,
        "words_total": total,
        "char_edits": sum(Levenshtein.distance(text, final[name]) for name, text in example.fields.items()),
    }


def _fill_similarity(rows: list[dict[str, Any]]) -> None:
    from robustexit.campaign.attempts import fill_similarity
    from robustexit.campaign.worker import sentence_encoder

    fill_similarity(rows, sentence_encoder())


def _manifest(path: Path, log: _Log, dataset: TextDataset, spec: LogSpec) -> dict[str, Any]:
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    counts = np.bincount(dataset.labels)
    return {
        "campaign": {
            "name": path.stem,
            "log": {"file": path.name, "sha256": digest, "markers": log.markers},
        },
        "datasets": {
            dataset.name: {
                "labels": list(spec.labels),
                "fields": list(dataset.field_names),
                "protected": [],
                "synthetic": False,
                "source": f"TextAttack log {path.name}",
                "notes": [],
                "n": len(dataset),
                "hash": dataset.content_hash(),
                "majority_rate": float(counts.max() / counts.sum()),
            }
        },
        "data_hashes": {dataset.name: dataset.content_hash()},
        "victims": {spec.victim: {"model": "unknown: attacked by TextAttack", "policy": "unknown"}},
        "recipes": {spec.recipe: {"effective_name": spec.recipe}},
        "versions": versions(),
        "dropped_cells": [],
    }


def _refuse_other(folder: RunFolder, manifest: Mapping[str, Any]) -> None:
    old = folder.read_manifest()
    same = all(old.get(key) == manifest[key] for key in ("campaign", "datasets", "victims", "recipes"))
    if not same or old.get("status") == "complete":
        raise RunError(f"{folder.path} holds a run already; choose another folder with --out")
