from __future__ import annotations

import json
import math
import re

import numpy as np
import pandas as pd
import pytest

from robustexit.errors import DataError
from robustexit.measures import Estimate
from robustexit.reports import REPORT_VERSION, build_report, to_html, to_json, to_markdown, write_report
from robustexit.reports.context import Context
from robustexit.reports.headline import first_line
from robustexit.reports.model import Withheld
from robustexit.reports.tables import headline


def renderings(report):
    return {"html": to_html(report), "markdown": to_markdown(report), "json": to_json(report)}


def test_answer_of_one_pair_names_difference_interval_n_and_speedup(pair, manifest):
    report = build_report(pair, manifest)
    assert re.match(
        r"On reviews, (leaving early makes early|this run does not show that leaving early makes early) "
        r".*95 % interval .*n = 60, attack textfooler with goal deployed; clean accuracy .*mean exit goes from .* of 6 "
        r"and its speed-up from [\d.]+× to [\d.]+×\.$",
        report.answer,
    )
    assert report.details == ()


def test_answer_is_the_paired_table(pair, manifest):
    report = build_report(pair, manifest)
    row = dict(
        zip((c.key for c in report.tables["paired"].columns), report.tables["paired"].rows[0].values, strict=True)
    )
    assert f"{abs(100 * row['difference'].value):.1f}" in report.answer
    assert row["both"].value + row["only_victim"].value + row["only_control"].value + row["neither"].value == 60


def flip(pair, victim, rows):
    broken = pair.copy()
    chosen = broken.index[broken["victim"] == victim][:rows]
    broken["pred_attacked"] = broken["label"].where(~broken.index.isin(chosen), 1 - broken["label"])
    return broken


def test_weaker_stronger_and_unclear_are_worded_by_the_interval(pair, manifest):
    weaker, _ = first_line(Context(flip(pair, "early", 20), manifest))
    assert "leaving early makes early weaker: its robust accuracy is 33.3 points below" in weaker
    stronger, _ = first_line(Context(flip(pair, "full", 20), manifest))
    assert "makes early stronger: its robust accuracy is 33.3 points above" in stronger
    same, _ = first_line(Context(flip(pair, "early", 0), manifest))
    assert "does not show that leaving early makes early weaker or stronger" in same
    assert "which includes 0" in same


def test_answer_over_several_victims_gives_each_in_full(many, manifest):
    manifest["victims"]["entropy"] = manifest["victims"]["early"]
    answer, details = first_line(Context(many, manifest))
    assert answer.startswith("Leaving early against full depth of the same weights: on reviews it makes ")
    assert len(details) == 2
    assert all("worst case over 2 attacks" in sentence for sentence in details)


def test_no_control_is_said(make_cell):
    report = build_report(make_cell(), {})
    assert "cannot say" in report.answer and "add that control" in report.answer
    assert not report.tables["paired"].rows
    renderings(report)


def test_plain_classifier_only(make_cell):
    report = build_report(make_cell("plain", "fixed(k=1)", None, exits=1), {})
    assert "no victim in it can leave before its last exit" in report.answer
    assert report.examples
    assert report.figures == {}
    renderings(report)


def test_all_errors(pair, manifest):
    columns = [
        c for c in pair.columns if c.endswith(("_clean", "_attacked")) or c in ("flipped", "goal_met", "num_exits")
    ]
    broken = pair.assign(outcome="error", error="it broke").assign(**dict.fromkeys(columns))
    report = build_report(broken, manifest)
    assert "no example was evaluated on both" in report.answer
    assert {flag.code for flag in report.flags} >= {"errors", "few-examples"}
    renderings(report)


def test_all_skipped(make_cell):
    cell = make_cell()
    right = cell["pred_clean"].where(cell["outcome"] != "skipped", cell["pred_clean"])
    report = build_report(cell.assign(outcome="skipped", pred_attacked=right, exit_attacked=cell["exit_clean"]), {})
    assert report.examples == ()
    renderings(report)


def test_some_errors_show_both_bounds(pair, manifest):
    pair.loc[pair.index[:3], "outcome"] = "error"
    report = build_report(pair, manifest)
    assert "with errors" in to_html(report)
    assert json.loads(to_json(report))["tables"]["headline"]["rows"][0]["clean_accuracy"]["bounds"]


def test_twenty_classes_and_pair_fields(make_cell):
    cells = make_cell(classes=20, fields=("premise", "hypothesis"), strength=2.0)
    report = build_report(cells, {"datasets": {"reviews": {"labels": [f"class {i}" for i in range(20)]}}})
    assert set(report.examples[0].diff) == {"premise", "hypothesis"}
    assert report.examples[0].label.startswith("class ")
    assert "hypothesis" in renderings(report)["html"]


def test_missing_similarity_and_probabilities(make_cell):
    cells = make_cell().assign(similarity=None, probs_clean=None, probs_attacked=None)
    report = build_report(cells, {})
    assert all(example.before.steps == () for example in report.examples)
    renderings(report)


def test_frame_as_it_comes_from_parquet(pair, manifest, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from robustexit.records import SCHEMA

    pair.loc[0, ["outcome", "error"]] = ["error", "it broke"]
    for name in ("pred_clean", "probs_clean", "flipped", "goal_met", "text_attacked", "exit_clean"):
        pair[name] = pair[name].astype(object)
        pair.at[0, name] = None
    rows = [
        {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}
        for row in pair.to_dict("records")
    ]
    pq.write_table(
        pa.Table.from_pylist([{name: row.get(name) for name in SCHEMA.names} for row in rows], SCHEMA), tmp_path / "r"
    )
    report = build_report(pq.read_table(tmp_path / "r").to_pandas(), manifest)
    assert report.examples[0].diff["text"]
    assert len(json.loads(to_json(report))["tables"]["headline"]["rows"]) == 2


def test_withheld_victims_show_no_attack_result(pair, manifest):
    weak = pair.copy()
    chosen = (weak["victim"] == "early") & (np.arange(len(weak)) % 2 == 0)
    weak.loc[chosen, "pred_clean"] = 1 - weak.loc[chosen, "label"]
    report = build_report(weak, manifest)
    row = next(row for row in report.tables["headline"].rows if row.values[0].main == "early")
    assert [type(value) for value in row.values[5:]] == [Withheld] * 9
    assert isinstance(row.values[4], Estimate)
    assert all(example.victim != "early" for example in report.examples)
    for key in ("paired", "by_outcome", "quadrants", "depth", "accuracy_by_exit"):
        assert not report.tables[key].rows, key
    assert all(row.values[0].main != "early" for row in report.tables["cost"].rows)
    assert report.figures == {}
    assert "withheld: clean accuracy" in to_html(report)
    assert "withheld: clean accuracy" in to_markdown(report)


def test_control_stands_after_its_victims(many, manifest):
    manifest["victims"]["entropy"] = manifest["victims"]["early"]
    shuffled = many.sample(frac=1, random_state=1)
    rows = headline(Context(shuffled, manifest)).rows
    first = [row.values[0].main for row in rows if row.group == rows[0].group]
    assert first[-1] == "full" and set(first[:2]) == {"early", "entropy"}
    assert [row.group for row in rows] == sorted(row.group for row in rows)


def test_seeds_are_pooled_and_said(make_cell):
    both = pd.concat([make_cell(n=40), make_cell(n=40, seed=1)], ignore_index=True)
    table = build_report(both, {}).tables["headline"]
    assert len(table.rows) == 1 and "seeds 0, 1 pooled" in table.rows[0].group
    assert any("Seeds are pooled" in note for note in table.notes)


def test_same_records_same_report(pair, manifest):
    first, second = (renderings(build_report(pair, manifest)) for _ in range(2))
    assert first == second


def test_every_table_is_in_every_rendering(pair, manifest):
    report = build_report(pair, manifest)
    shown = renderings(report)
    for table in report.tables.values():
        assert f'id="{table.key}"' in shown["html"]
        assert f"## {table.title}" in shown["markdown"].replace("\\", "")
        assert table.key in json.loads(shown["json"])["tables"]
        assert all(len(row.values) == len(table.columns) for row in table.rows)
    assert "SYNTHETIC DATA" in shown["html"] and "SYNTHETIC DATA" in shown["markdown"]
    assert "the victim never leaves early" in shown["html"]


def test_every_referenced_definition_is_there_with_an_anchor(pair, manifest):
    report = build_report(pair, manifest)
    known = {definition.key for definition in report.definitions}
    used = {column.definition for table in report.tables.values() for column in table.columns if column.definition}
    assert used <= known
    page = to_html(report)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'id="([^"]+)"', page))
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_policies_read_naturally(many, manifest):
    page = to_html(build_report(many, manifest))
    assert "entropy, t = 0.312" in page and "max probability, t = 0.8" in page
    assert "entropy(t=" not in page.replace(json.dumps(manifest), "")


def test_json_schema(pair, manifest):
    document = json.loads(to_json(build_report(pair, manifest)))
    assert (document["schema"], document["version"]) == ("robustexit.report", REPORT_VERSION)
    row = document["tables"]["headline"]["rows"][0]
    assert set(row["robust_accuracy"]) == {"value", "low", "high", "n", "bounds"}
    assert 0 <= row["robust_accuracy"]["low"] <= row["robust_accuracy"]["value"] <= row["robust_accuracy"]["high"] <= 1
    assert document["provenance"]["campaign"] == {"name": "films"}


def test_write_report(pair, manifest, tmp_path):
    written = write_report(pair, manifest, tmp_path / "new" / "folder")
    assert [path.name for path in written] == ["report.html", "report.md", "report.json"]
    assert all(path.stat().st_size > 1000 for path in written)


def test_unusable_records_are_refused(pair, manifest):
    with pytest.raises(DataError, match="empty table"):
        build_report(pair.iloc[:0], manifest)
    with pytest.raises(DataError, match="stand in the table twice"):
        build_report(pd.concat([pair, pair.iloc[:2]]), manifest)
    with pytest.raises(DataError, match="recipe"):
        build_report(pair.drop(columns="recipe"), manifest)


def test_a_report_without_texts_holds_none(pair, manifest):

    built = build_report(pair, manifest).without_texts()
    texts = {
        text for column in ("text", "text_attacked") for fields in pair[column].dropna() for text in fields.values()
    }
    assert texts
    for rendered in (to_html(built), to_markdown(built), json.dumps(json.loads(to_json(built)), ensure_ascii=False)):
        assert not [text for text in texts if text in rendered]


def test_a_gain_without_the_guard_is_named(pair, manifest):
    guard = "can mislead a search"
    assert any(guard in note for note in build_report(pair, manifest).tables["paired"].notes)
    both = pd.concat([pair, pair.assign(goal="final")], ignore_index=True)
    assert not any(guard in note for note in build_report(both, manifest).tables["paired"].notes)


def test_stronger_without_the_guard_is_read_with_care(make_cell, manifest):
    early, full = make_cell(), make_cell("full", "fixed(k=6)", None)
    early["pred_attacked"], early["flipped"] = early["label"], False
    full["pred_attacked"], full["flipped"] = 1 - full["label"], True
    pair = pd.concat([early, full], ignore_index=True)
    assert "Read with care" in build_report(pair, manifest).answer
    both = pd.concat([pair, pair.assign(goal="final")], ignore_index=True)
    answer = build_report(both, manifest).answer
    assert "stronger" in answer and "Read with care" not in answer
