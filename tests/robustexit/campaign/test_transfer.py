"""Transfer: other victims see a run's texts, nothing is searched, and the victim they were crafted on says the same."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from robustexit import load_run
from robustexit.campaign.run import Settings as RunSettings
from robustexit.campaign.run import run_campaign_file
from robustexit.campaign.targets import NamedTarget, load_targets
from robustexit.campaign.transfer import Settings, manifest_hash, run_transfer
from robustexit.errors import ConfigError, RobustExitError, RunError
from robustexit.permissions import Permissions
from robustexit.runs import Run, RunFolder

CAMPAIGN: dict[str, Any] = {
    "name": "tiny",
    "datasets": {
        "reviews": {
            "data": {"builtin": "reviews", "split": "test", "n": 60},
            "calibration": {"fraction": 0.5},
            "attacked": {"sample": 6},
        }
    },
    "victims": {
        "full-depth": {"model": "tiny", "policy": "fixed"},
        "entropy": {"model": "tiny", "policy": "entropy", "calibrate": {"speedup": 1.5}},
        "patience": {"model": "tiny", "policy": {"name": "patience", "t": 1}},
    },
    "recipes": ["deepwordbug", "input-reduction"],
    "goals": ["deployed", "slowdown-uniform"],
}
SIDES = ("pred", "exit", "probs", "confidence", "cost", "tokens", "macs")
MEASURED = [f"{name}_{side}" for name in SIDES for side in ("clean", "attacked")]
KEYS = ["dataset", "victim", "goal", "view", "seed", "example_id"]


def write(path: Path, tiny_model: Path, **changes: Any) -> Path:
    content = {**copy.deepcopy(CAMPAIGN), "models": {"tiny": {"path": str(tiny_model)}}, **changes}
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Run:
    folder = tmp_path_factory.mktemp("transfer")
    return run_campaign_file(write(folder / "tiny.yaml", tiny_model), RunSettings(folder / "run", workers=1))


@pytest.fixture(scope="module")
def moved(source: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """All texts on all victims of their own campaign."""
    targets = load_targets(source.path.parent / "tiny.yaml", None, source)
    return run_transfer(source, targets, Settings(tmp_path_factory.mktemp("moved") / "run"))


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    frame = frame.copy()
    for column in ("probs_clean", "probs_attacked"):
        frame[column] = [[list(map(float, row)) for row in value] for value in frame[column]]
    return frame


def deepwordbug(source: Run) -> str:
    """The recipe as it is recorded on this machine: a resource may have a substitute."""
    return next(name for name in source.manifest["recipes"] if name.startswith("deepwordbug"))


def test_the_victim_it_was_crafted_on_says_the_same_bit_for_bit(source: Run, moved: Run) -> None:
    own = moved.records[moved.records["crafted_on"].isna()].copy()
    assert set(own["victim"]) == {"full-depth", "entropy", "patience"}
    own["recipe"] = own["recipe"].str.partition("@")[0]
    order = [*KEYS, "recipe"]
    here, there = (plain(frame.sort_values(order).reset_index(drop=True)) for frame in (own, source.records))
    columns = [*order, "policy", "label", "num_exits", "text", "text_attacked", "flipped", "slower", "goal_met"]
    columns += [*MEASURED, "outcome", "truncated", "words_changed", "words_total", "char_edits", "similarity"]
    pd.testing.assert_frame_equal(here[columns], there[columns], check_dtype=False)


def test_every_text_meets_every_victim_its_goal_applies_to(source: Run, moved: Run) -> None:
    crafted = source.records.groupby(["victim", "recipe", "goal"]).size()
    slowdown = [key for key in crafted.index if key[2] == "slowdown-uniform"]
    expected = 6 * (len(crafted) * 3 - len(slowdown))  # the full-depth control cannot be slowed down
    assert len(moved.records) == expected
    dropped = moved.manifest["dropped_cells"]
    assert {cell["victim"] for cell in dropped} == {"full-depth"}
    recipe = deepwordbug(source)
    assert {cell["recipe"] for cell in dropped} == {f"{recipe}@entropy", f"{recipe}@patience"}
    assert (moved.records["queries"] == 0).all()
    same = moved.records["text"] == moved.records["text_attacked"]
    assert (moved.records["forwards"] == np.where(same, 1, 2)).all()
    assert (moved.records["layer_forwards"] == 4 * moved.records["forwards"]).all()


def test_goals_are_judged_on_the_target(moved: Run) -> None:
    rows = moved.records
    answers = rows[rows["goal"] == "deployed"]
    right = answers["pred_clean"] == answers["label"]
    wrong = answers["pred_attacked"] != answers["label"]
    expected = np.where(~right, "skipped", np.where(wrong, "succeeded", "failed"))
    assert (answers["outcome"] == expected).all()
    assert (answers["goal_met"] == wrong).all()
    slow = rows[rows["goal"] == "slowdown-uniform"]
    expected = np.where(slow["exit_clean"] == 4, "skipped", np.where(slow["exit_attacked"] == 4, "succeeded", "failed"))
    assert (slow["outcome"] == expected).all()
    assert set(rows.loc[rows["goal"] == "input-reduction", "outcome"]) <= {"maximized", "skipped"}


def test_the_manifest_says_what_it_was_made_from(source: Run, moved: Run) -> None:
    manifest = moved.manifest
    assert manifest["status"] == "complete"
    assert manifest["campaign"]["source"]["manifest"] == manifest_hash(source.manifest)
    assert manifest["fingerprints"] == source.manifest["fingerprints"]
    assert manifest["victims"]["entropy"]["calibrations"] == source.manifest["victims"]["entropy"]["calibrations"]
    assert manifest["victims"]["entropy"]["full_depth_of_same_weights"] == "full-depth"
    assert manifest["recipes"][f"{deepwordbug(source)}@entropy"]["citation"] == "Gao et al. 2018"


def test_reports_read_it(source: Run, moved: Run) -> None:
    from robustexit.reports import build_report

    report = build_report(moved.records, moved.manifest)
    headings = {row.group for row in report.tables["headline"].rows}
    assert f"reviews · {deepwordbug(source)}@entropy, goal deployed" in headings


def test_a_second_start_makes_what_is_missing_and_nothing_else(source: Run, moved: Run, tmp_path: Path) -> None:
    targets = load_targets(source.path.parent / "tiny.yaml", None, source)
    first = run_transfer(source, targets, Settings(tmp_path / "run"))
    parts = sorted((tmp_path / "run" / "parts").iterdir())
    parts[0].unlink()
    kept = {path.name: path.stat().st_mtime_ns for path in parts[1:]}
    again = run_transfer(source, targets, Settings(tmp_path / "run"))
    pd.testing.assert_frame_equal(
        plain(again.records).drop(columns="seconds"), plain(first.records).drop(columns="seconds")
    )
    pd.testing.assert_frame_equal(
        plain(again.records).drop(columns="seconds"), plain(moved.records).drop(columns="seconds")
    )
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run" / "parts").iterdir()}
    assert kept.items() <= after.items()


def test_an_unfinished_run_can_be_transferred_and_continued(source: Run, tmp_path: Path) -> None:
    targets = load_targets(None, NamedTarget(_model(source)), source)
    half = Run(source.records.iloc[:10], {**source.manifest, "status": "running"}, source.path)
    settings = Settings(tmp_path / "run")
    assert len(run_transfer(half, targets, settings).records) <= 10
    assert len(run_transfer(source, targets, settings).records) > 10


def _model(source: Run) -> str:
    return str(source.manifest["campaign"]["models"]["tiny"]["path"])


def test_one_model_given_directly(source: Run, tmp_path: Path) -> None:
    named = NamedTarget(_model(source), "patience", {"t": 2}, "patient")
    settings = Settings(tmp_path / "run", crafted_on=("entropy",))
    records = run_transfer(source, load_targets(None, named, source), settings).records
    assert set(records["victim"]) == {"patient"}
    assert set(records["crafted_on"]) == {"entropy"}
    assert set(records["policy"]) == {"patience(t=2)"}


def test_another_victim_of_the_same_name_is_told_apart(source: Run, tmp_path: Path) -> None:
    named = NamedTarget(_model(source), "patience", {"t": 2}, "patience")
    settings = Settings(tmp_path / "run", crafted_on=("patience",))
    records = run_transfer(source, load_targets(None, named, source), settings).records
    assert set(records["crafted_on"]) == {"run/patience"}
    assert f"{deepwordbug(source)}@run/patience" in set(records["recipe"])


def test_transfer_of_a_transfer_keeps_whose_texts_they_are(source: Run, moved: Run, tmp_path: Path) -> None:
    named = NamedTarget(_model(source), name="again")
    twice = run_transfer(moved, load_targets(None, named, moved), Settings(tmp_path / "run")).records
    assert set(twice["crafted_on"]) == {"full-depth", "entropy", "patience"}
    once = moved.records[moved.records["victim"] == "full-depth"]
    assert sorted(once["text_attacked"].map(str)) == sorted(
        twice.loc[twice["recipe"].isin(set(once["recipe"])), "text_attacked"].map(str)
    )


def test_models_that_the_source_trained_are_not_trained_again(tmp_path: Path, tiny_encoder: Path) -> None:
    data = {"builtin": "reviews", "split": "train", "n": 40}
    training = {"backbone": str(tiny_encoder), "regime": "frozen-heads", "max_length": 48, "data": data}
    path = write(
        tmp_path / "c.yaml",
        tiny_encoder,
        models={"m": {"train": training}},
        victims={"v": {"model": "m", "policy": {"name": "patience", "t": 1}}},
        recipes=["deepwordbug"],
        goals=["deployed"],
    )
    run = run_campaign_file(path, RunSettings(tmp_path / "run", workers=1))
    moved = run_transfer(run, load_targets(path, None, run), Settings(tmp_path / "moved"))
    assert moved.manifest["weights"] == run.manifest["weights"]
    assert moved.manifest["campaign"]["models"]["m"]["train"]["regime"] == "frozen-heads"
    assert not (tmp_path / "moved" / "models").exists()
    assert moved.records["crafted_on"].isna().all()


def test_the_dataset_may_be_the_runs_own(source: Run, tmp_path: Path) -> None:
    targets = tmp_path / "victims.yaml"
    victim = {"model": "m", "policy": "entropy", "calibrate": {"speedup": 1.5}}
    targets.write_text(yaml.safe_dump({"models": {"m": {"path": _model(source)}}, "victims": {"other": victim}}))
    moved = run_transfer(source, load_targets(targets, None, source), Settings(tmp_path / "run"))
    assert set(moved.records["policy"]) == set(source.records.query("victim == 'entropy'")["policy"])


PLAIN = {"v": {"model": "tiny"}}


def two(**columns: Any) -> dict[str, Any]:
    return {"reviews": {"data": {"path": "two.csv", **columns}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"victims": {"v": {"model": "other"}}}, "unknown model 'other'"),
        ({"victimz": {}}, "did you mean 'victims'"),
        ({"datasets": two(labels=["positive", "negative"]), "victims": PLAIN}, "in the same order"),
        (
            {"datasets": two(fields=["review"], labels=["negative", "positive"]), "victims": PLAIN},
            r"have the fields \['text'\]",
        ),
        (
            {
                "datasets": {
                    "reviews": {
                        "data": {"builtin": "reviews", "split": "test", "n": 60},
                        "calibration": {"fraction": 0.5, "seed": 1},
                    }
                }
            },
            "also in the calibration data",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str, source: Run, tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("review,text,label\nfine,fine,positive\nbad,bad,negative\n")
    path = write(tmp_path / "victims.yaml", Path(_model(source)), **changes)
    with pytest.raises(ConfigError, match=message):
        run_transfer(source, load_targets(path, None, source), Settings(tmp_path / "run"))
    assert not (tmp_path / "run" / "manifest.json").exists()


def test_other_classes_are_refused(source: Run, tmp_path: Path) -> None:
    labels = {"reviews": {**source.manifest["datasets"]["reviews"], "labels": ["bad", "fair", "good"]}}
    other = Run(source.records, {**source.manifest, "datasets": labels}, source.path)
    targets = load_targets(None, NamedTarget(_model(source)), other)
    with pytest.raises(ConfigError, match="must be the same classes"):
        run_transfer(other, targets, Settings(tmp_path / "run"))


def test_nothing_to_transfer(source: Run, tmp_path: Path) -> None:
    targets = load_targets(None, NamedTarget(_model(source)), source)
    empty = Run(source.records.iloc[:0], source.manifest, source.path)
    with pytest.raises(RunError, match="no attacked text"):
        run_transfer(empty, targets, Settings(tmp_path / "run"))
    with pytest.raises(ConfigError, match="did you mean 'entropy'"):
        run_transfer(source, targets, Settings(tmp_path / "run", crafted_on=("entropi",)))
    with pytest.raises(RunError, match="is the run that is transferred"):
        run_transfer(source, targets, Settings(source.path))
    with pytest.raises(ConfigError, match="--victims"):
        load_targets(None, None, source)


def test_goals_that_cannot_apply_leave_nothing(source: Run, tmp_path: Path) -> None:
    slow = Run(source.records[source.records["goal"] == "slowdown-uniform"], source.manifest, source.path)
    with pytest.raises(ConfigError, match="nothing to slow down"):
        run_transfer(slow, load_targets(None, NamedTarget(_model(source)), slow), Settings(tmp_path / "run"))


def test_a_changed_transfer_is_refused(source: Run, tmp_path: Path) -> None:
    settings = Settings(tmp_path / "run")
    run_transfer(source, load_targets(None, NamedTarget(_model(source), name="v"), source), settings)
    other = load_targets(None, NamedTarget(_model(source), "patience", {"t": 1}, "v"), source)
    with pytest.raises(RunError, match=r"campaign\.victims\.v\.policy"):
        run_transfer(source, other, settings)


def test_rows_without_a_text_are_counted_and_one_bad_text_is_a_row(source: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    rows = source.records[(source.records["goal"] == "deployed") & (source.records["victim"] == "entropy")].copy()
    rows.iloc[0, rows.columns.get_loc("outcome")] = "error"
    bad = next(iter(rows.iloc[1]["text_attacked"].values()))
    path = tmp_path / "victims.yaml"
    model = {"factory": "mine:make", "arguments": {"bad": bad}}
    path.write_text(yaml.safe_dump({"models": {"m": model}, "victims": {"mine": {"model": "m"}}}))
    part = Run(rows, source.manifest, source.path)
    targets = load_targets(path, None, part)
    with pytest.raises(ConfigError, match="--allow-code"):
        run_transfer(part, targets, Settings(tmp_path / "run"))
    moved = run_transfer(part, targets, Settings(tmp_path / "run", Permissions(code=True)))
    assert moved.manifest["left_out"] == {"error": 1}
    assert len(moved.records) == len(rows) - 1
    errors = moved.records[moved.records["outcome"] == "error"]
    assert len(errors) == 1
    assert errors["error"].tolist() == ["RuntimeError: not this one"]


FACTORY = """
import numpy as np
from robustexit.victims.custom import FunctionVictim

def make(bad):
    def logits(texts):
        if any(bad in text.values() for text in texts):
            raise RuntimeError("not this one")
        return np.array([[[0.0, 1.0 + len(text["text"]) % 7]] * 3 for text in texts])
    return FunctionVictim(logits, num_classes=2, num_exits=3)
"""


def test_a_held_folder_is_refused(source: Run, tmp_path: Path) -> None:
    targets = load_targets(None, NamedTarget(_model(source)), source)
    with RunFolder(tmp_path / "run").hold(), pytest.raises(RunError, match="being written by another process"):
        run_transfer(source, targets, Settings(tmp_path / "run"))


def test_names_are_given_once(source: Run, tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", Path(_model(source)))
    with pytest.raises(ConfigError, match="choose another --name"):
        load_targets(path, NamedTarget(_model(source), name="entropy"), source)
    with pytest.raises(RobustExitError, match="no campaign file"):
        load_targets(tmp_path / "nowhere.yaml", None, source)


def test_the_source_run_reads_as_it_did(source: Run, moved: Run) -> None:
    assert load_run(source.path).manifest == source.manifest
    assert sorted(path.name for path in source.path.iterdir() if path.suffix == ".yaml") == []
