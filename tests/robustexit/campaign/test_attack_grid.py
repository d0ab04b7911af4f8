"""Campaigns with other searches, joined goals, views, worst cases, a goal for each exit, limits and languages."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from robustexit import load_run
from robustexit.campaign.cells import check_names
from robustexit.campaign.run import Settings, run_campaign_file
from robustexit.campaign.spec import GoalSpec, load_spec
from robustexit.errors import ConfigError, RunError
from robustexit.measures import Attempts, check, measure_named
from robustexit.reports import build_report

CAMPAIGN: dict[str, Any] = {
    "name": "grid",
    "datasets": {
        "reviews": {
            "data": {"builtin": "reviews", "split": "test", "n": 60},
            "calibration": {"fraction": 0.5},
            "attacked": {"sample": 4},
        }
    },
    "victims": {
        "full-depth": {"model": "tiny", "policy": "fixed"},
        "patience": {"model": "tiny", "policy": {"name": "patience", "t": 1}},
    },
    "recipes": ["pruthi", {"name": "deepwordbug", "search": "random-order"}, "deepwordbug(search=restore)"],
    "goals": ["deployed", "slowdown & keep-answer", {"name": "exit", "k": "each"}],
    "worst_case": {"both": [{"recipe": "pruthi", "goal": "final"}, {"recipe": "deepwordbug"}]},
    "views": ["scores", "label"],
    "limits": {"queries": 25},
}


def write(path: Path, tiny_model: Path, **changes: Any) -> Path:
    content = {**copy.deepcopy(CAMPAIGN), "models": {"tiny": {"path": str(tiny_model)}}, **changes}
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    run_campaign_file(write(folder / "grid.yaml", tiny_model), Settings(folder / "run", workers=1))
    return folder


def without_substitutes(recipe: str) -> str:
    return recipe.partition("+")[0]


def test_the_grid_is_whole_and_what_cannot_apply_is_dropped_with_its_reason(finished: Path) -> None:
    run = load_run(finished / "run")
    records = run.records
    assert not (records["outcome"] == "error").any(), records["error"].tolist()
    assert (records["queries"] <= 26 * 2).all()
    exits = int(records["num_exits"].max())
    assert {without_substitutes(recipe) for recipe in records["recipe"]} == {
        "pruthi",
        "deepwordbug(search=random-order)",
        "deepwordbug(search=restore)",
        "worst-case(both)",
    }
    each = [f"exit(k={k})" for k in range(1, exits + 1)]
    cells = {key: len(rows) for key, rows in records.groupby(["victim", "view", "goal"])}
    assert {goal for victim, view, goal in cells if (victim, view) == ("patience", "scores")} == {
        "deployed",
        "slowdown & keep-answer",
        *each,
        "worst-case",
    }
    assert {goal for victim, view, goal in cells if view == "label"} == {"deployed", "worst-case"}
    assert cells["patience", "scores", "deployed"] == 3 * 4
    reasons = {cell["reason"] for cell in run.manifest["dropped_cells"]}
    assert any("which the view 'label' does not show" in reason for reason in reasons)
    assert any("always runs to its last exit" in reason for reason in reasons)


def test_a_worst_case_says_who_broke_what(finished: Path) -> None:
    records = load_run(finished / "run").records
    worst = records[records["goal"] == "worst-case"]
    broken = worst["outcome"] == "succeeded"
    assert set(worst.loc[broken, "broken_by"]) <= {"pruthi / final", "deepwordbug / deployed"}
    assert worst.loc[~broken, "broken_by"].isna().all()
    assert (worst.loc[broken, "pred_attacked"] != worst.loc[broken, "label"]).all()


def test_weak_searches_are_told_and_the_crafting_matrix_is_whole(finished: Path) -> None:
    run = load_run(finished / "run")
    weak = {(without_substitutes(one["recipe"]), one["goal"], one["view"]) for one in run.manifest["weak_attacks"]}
    assert weak == {("pruthi", "deployed", "label"), ("deepwordbug(search=random-order)", "deployed", "label")}
    flags = {flag.attack for flag in check(run.records, run.manifest) if flag.code == "weak-search"}
    assert {without_substitutes(attack.partition(",")[0]) for attack in flags} == {recipe for recipe, _, _ in weak}
    rows = run.records[(run.records["victim"] == "patience") & (run.records["recipe"].str.startswith("pruthi"))]
    exits = int(rows["num_exits"].max())
    assert len(measure_named("crafting_matrix")(Attempts.of(rows))) == exits**2
    build_report(run.records, run.manifest)


def test_another_search_is_another_campaign(finished: Path, tiny_model: Path) -> None:
    changed = write(finished / "changed.yaml", tiny_model, recipes=["pruthi"])
    with pytest.raises(RunError, match=r"campaign\.recipes: was"):
        run_campaign_file(changed, Settings(finished / "run", workers=1))


def test_plain_recipes_are_written_as_names(tmp_path: Path, tiny_model: Path) -> None:
    spec = load_spec(write(tmp_path / "c.yaml", tiny_model))
    assert spec.model_dump(mode="json")["recipes"] == [
        "pruthi",
        {"name": "deepwordbug", "search": "random-order"},
        "deepwordbug(search=restore)",
    ]


def test_one_goal_for_each_exit() -> None:
    goal = GoalSpec(name="exit", k="each")
    assert [one.label for one in goal.for_exits(3)] == ["exit(k=1)", "exit(k=2)", "exit(k=3)"]
    assert GoalSpec(name="deployed").for_exits(3) == (GoalSpec(name="deployed"),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipes": ["deepwordbg"]}, "did you mean 'deepwordbug'"),
        ({"recipes": [{"name": "pwws", "search": "randm-order"}]}, "did you mean 'random-order'"),
        ({"recipes": ["french"]}, "made for texts in 'fr', the data's language is 'en'"),
        ({"goals": ["slowdown & keep-anser"]}, "did you mean 'keep-answer'"),
        ({"goals": ["slowdown &"]}, "expected a goal on both sides of every &"),
        ({"views": ["lable"]}, "did you mean 'label'"),
        ({"worst_case": {"w": [{"recipe": "pruthi", "goal": "finel"}]}}, "did you mean 'final'"),
        ({"worst_case": {"w": []}}, "expected at least one attack"),
        ({"recipes": [], "worst_case": None}, "expected at least one of recipes and worst_case"),
        ({"limits": {"queries": 0}}, "limits.queries"),
    ],
)
def test_mistakes_are_answered_with_what_is_expected(
    tmp_path: Path, tiny_model: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_names(load_spec(write(tmp_path / "c.yaml", tiny_model, **changes)))
    assert message in str(caught.value)


def test_a_campaign_of_which_nothing_is_left_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path / "c.yaml", tiny_model, recipes=["pruthi"], goals=["final"], views=["label"], worst_case=None)
    with pytest.raises(ConfigError, match=r"nothing is left to attack; .* which the view 'label' does not show"):
        run_campaign_file(path, Settings(tmp_path / "run", workers=1))


def test_a_resource_that_is_not_there_is_one_line(tmp_path: Path, tiny_model: Path) -> None:
    path = write(tmp_path / "c.yaml", tiny_model, resources={"counter-fitted-vectors": "nowhere.txt"}, recipes=["iga"])
    with pytest.raises(Exception, match=r"nowhere\.txt does not exist") as caught:
        run_campaign_file(path, Settings(tmp_path / "run", workers=1))
    assert "\n" not in str(caught.value)
