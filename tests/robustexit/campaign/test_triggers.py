"""A trigger as a run: searched on one split, evaluated on another, recorded like every other attack."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robustexit.attacks.triggers import TriggerSpec
from robustexit.campaign.targets import NamedTarget, load_targets
from robustexit.campaign.transfer import Settings as TransferSettings
from robustexit.campaign.transfer import run_transfer
from robustexit.campaign.triggers import Settings, TriggerTask, TriggerVictim, run_trigger
from robustexit.data import DataSpec, Example, TextDataset, load_dataset_spec
from robustexit.errors import ConfigError, DataError, RobustExitError, RunError
from robustexit.permissions import Permissions
from robustexit.reports import build_report
from robustexit.runs import Run, RunFolder


def reviews(split: str, n: int) -> TextDataset:
    return load_dataset_spec(DataSpec(builtin="reviews", split=split, n=n), name="reviews", base=Path.cwd())


@pytest.fixture(scope="module")
def task() -> TriggerTask:
    search = TriggerSpec(length=2, passes=2)
    return TriggerTask(reviews("train", 80), reviews("test", 40), search=search, candidates=30, train_texts=24)


def run(task: TriggerTask, out: Path, model: Path, policy: str = "patience", **parameters: Any) -> Run:
    owner = TriggerVictim(NamedTarget(str(model), policy, parameters, "tiny"), out, Permissions())
    return run_trigger(owner, task, Settings(out))


@pytest.fixture(scope="module")
def flipped(task: TriggerTask, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run(task, tmp_path_factory.mktemp("trigger") / "run", tiny_model, t=1)


def test_the_trigger_does_on_other_texts_what_it_was_searched_for(flipped: Run) -> None:
    found = flipped.manifest["trigger"]
    assert found["score"] > found["score_without"]
    assert found["score"] >= found["score_of_start"]
    evaluation = found["evaluation"]
    assert evaluation["robust_accuracy"]["n"] == evaluation["clean_accuracy"]["n"] == 40
    assert evaluation["robust_accuracy"]["value"] < evaluation["clean_accuracy"]["value"]


def test_records_hold_the_trigger(flipped: Run) -> None:
    words = flipped.manifest["trigger"]["text"]
    records = flipped.records
    assert len(records) == 40
    assert set(records["recipe"]) == {"universal-trigger(length=2, place=prefix)"}
    right = records["pred_clean"] == records["label"]
    wrong = records["pred_attacked"] != records["label"]
    assert (records["outcome"] == np.where(~right, "skipped", np.where(wrong, "succeeded", "failed"))).all()
    for row in records.to_dict("records"):
        expected = row["text"]["text"] if row["outcome"] == "skipped" else f"{words} {row['text']['text']}"
        assert row["text_attacked"]["text"] == expected
    assert (records["words_changed"] == 0).all()
    assert (records["char_edits"] == np.where(right, len(words) + 1, 0)).all()
    assert (records["forwards"] == records["queries"]).all()


def test_the_evaluation_counts_every_text(flipped: Run, task: TriggerTask, tiny_model: Path) -> None:
    """Recomputed from scratch: the trigger before all 40 texts, those wrong already too."""
    from robustexit.exits import make_policy
    from robustexit.models import load_model
    from robustexit.victims.model_victim import DeployedModel, ModelVictim

    victim = ModelVictim(DeployedModel(load_model(str(tiny_model))), make_policy("patience", t=1))
    words = flipped.manifest["trigger"]["text"]
    texts = [{"text": f"{words} {example.fields['text']}"} for example in task.evaluated.examples]
    traces = victim.trace(texts)
    right = np.mean([trace.answer == label for trace, label in zip(traces, task.evaluated.labels, strict=True)])
    evaluation = flipped.manifest["trigger"]["evaluation"]
    assert evaluation["robust_accuracy"]["value"] == pytest.approx(right)
    assert evaluation["exit_attacked"]["value"] == pytest.approx(np.mean([trace.exit for trace in traces]))
    costs = np.mean([trace.cost for trace in traces])
    assert evaluation["speedup_attacked"]["value"] == pytest.approx(1 / costs)


def test_reports_and_transfer_read_it(flipped: Run, tiny_model: Path, tmp_path: Path) -> None:
    report = build_report(flipped.records, flipped.manifest)
    assert not [flag for flag in report.flags if flag.code == "no-candidates"]
    targets = load_targets(None, NamedTarget(str(tiny_model), "patience", {"t": 1}, "tiny"), flipped)
    made = run_transfer(flipped, targets, TransferSettings(tmp_path / "moved"))
    assert not [flag for flag in build_report(made.records, made.manifest).flags if flag.code == "no-candidates"]
    moved = made.records
    assert moved["crafted_on"].isna().all()
    same = ["pred_clean", "pred_attacked", "exit_clean", "exit_attacked", "outcome", "goal_met"]
    assert moved[same].equals(flipped.records[same])


def test_a_slowdown_makes_texts_leave_later(task: TriggerTask, tiny_model: Path, tmp_path: Path) -> None:
    slow = replace(task, goal="slowdown-position", search=TriggerSpec(length=2, place="suffix", passes=1))
    made = run(slow, tmp_path / "run", tiny_model, policy="entropy", t=0.3)
    evaluation = made.manifest["trigger"]["evaluation"]
    assert evaluation["exit_attacked"]["value"] > evaluation["exit_clean"]["value"]
    assert evaluation["speedup_attacked"]["value"] < evaluation["speedup_clean"]["value"]
    assert evaluation["shift_mean"]["value"] == pytest.approx(
        evaluation["exit_attacked"]["value"] - evaluation["exit_clean"]["value"]
    )
    words = made.manifest["trigger"]["text"]
    attacked = made.records[made.records["outcome"] != "skipped"]
    assert all(text["text"].endswith(f" {words}") for text in attacked["text_attacked"])


def test_one_class_and_words_of_the_tokenizer(task: TriggerTask, tiny_model: Path, tmp_path: Path) -> None:
    one = replace(task, true_class="positive", source="tokenizer", candidates=9, search=TriggerSpec(1, passes=1))
    made = run(one, tmp_path / "run", tiny_model, t=1)
    assert set(made.records["label"]) == {1}
    assert len(made.records) == task.evaluated.labels.count(1)
    assert made.manifest["trigger"]["candidates"] == 9
    assert made.manifest["datasets"]["reviews"]["majority_rate"] < 1


def test_the_same_twice_and_a_finished_run_is_kept(
    flipped: Run, task: TriggerTask, tiny_model: Path, tmp_path: Path
) -> None:
    again = run(task, tmp_path / "run", tiny_model, t=1)
    assert again.manifest["trigger"] == flipped.manifest["trigger"]
    assert again.records["text_attacked"].equals(flipped.records["text_attacked"])
    parts = [path.stat().st_mtime_ns for path in (flipped.path / "parts").iterdir()]
    run(task, flipped.path, tiny_model, t=1)
    assert parts == [path.stat().st_mtime_ns for path in (flipped.path / "parts").iterdir()]
    with pytest.raises(RunError, match=r"campaign\.search\.seed: was 0, now 1"):
        run(replace(task, seed=1), flipped.path, tiny_model, t=1)


def test_a_run_that_was_cut_off_is_done_again(
    flipped: Run, task: TriggerTask, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise RunError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_part", full)
        with pytest.raises(RunError, match="disk full"):
            run(task, tmp_path / "run", tiny_model, t=1)
    assert len(run(task, tmp_path / "run", tiny_model, t=1).records) == 40


def test_training_texts_are_not_evaluated(task: TriggerTask, tiny_model: Path, tmp_path: Path) -> None:
    shared = task.evaluated.with_examples((*task.evaluated.examples, task.train.examples[3]))
    with pytest.raises(DataError, match="1 of 41 texts of reviews are also training texts"):
        run(replace(task, evaluated=shared), tmp_path / "run", tiny_model, t=1)
    assert not (tmp_path / "run").exists()


def pair(i: int) -> Example:
    return Example(str(i), {"premise": f"the story was {i}", "hypothesis": f"a fine end {i}"}, i % 2)


def test_pairs_get_it_in_the_field_that_is_not_protected(tiny_model: Path, tmp_path: Path) -> None:
    names = ("negative", "positive")
    train = TextDataset("pairs", tuple(map(pair, range(8))), names, "here")
    held = TextDataset("pairs", tuple(map(pair, range(8, 16))), names, "here")
    both = TriggerTask(train, held, search=TriggerSpec(1, passes=1), candidates=4)
    for protect, free in (((), "hypothesis"), (("premise",), "hypothesis"), (("hypothesis",), "premise")):
        made = run(replace(both, protect=protect), tmp_path / f"run-{'-'.join(protect)}", tiny_model, t=1)
        other = "premise" if free == "hypothesis" else "hypothesis"
        attacked = made.records[made.records["outcome"] != "skipped"]
        assert len(attacked)
        for row in attacked.to_dict("records"):
            assert row["text_attacked"][other] == row["text"][other]
            assert row["text_attacked"][free].endswith(row["text"][free]) and row["text_attacked"] != row["text"]
        assert made.manifest["datasets"]["pairs"]["protected"] == [other]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": "slowdown-unifrom"}, "did you mean 'slowdown-uniform'"),
        ({"view": "label", "goal": "average"}, "does not show"),
        ({"true_class": "positiv"}, "did you mean 'positive'"),
        ({"protect": ("premise",)}, "the fields of reviews are text"),
        ({"protect": ("text",)}, "every field is protected"),
        ({"source": "tokens"}, "did you mean 'tokenizer'"),
    ],
)
def test_what_does_not_fit_is_refused(
    changes: dict[str, Any], message: str, task: TriggerTask, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(RobustExitError, match=message):
        run(replace(task, **changes), tmp_path / "run", tiny_model, t=1)


def test_savings_that_are_not_there_cannot_be_attacked(task: TriggerTask, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to slow down"):
        run(replace(task, goal="slowdown-uniform"), tmp_path / "run", tiny_model, policy="fixed")


def test_other_labels_are_refused(task: TriggerTask, tiny_model: Path, tmp_path: Path) -> None:
    other = replace(task.train, label_names=("bad", "good"))
    with pytest.raises(DataError, match="the same label names"):
        run(replace(task, train=other), tmp_path / "run", tiny_model, t=1)
