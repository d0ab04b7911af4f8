"""TextAttack's logs become runs: the texts it attacked, its own numbers, and one clear line where a log is damaged."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robustexit import load_run
from robustexit.attacks.textattack_api import ModelWrapper, stock_attack
from robustexit.campaign.targets import NamedTarget, load_targets
from robustexit.campaign.textattack_log import LogSpec, import_log, summary
from robustexit.campaign.transfer import Settings, run_transfer
from robustexit.data import DataSpec, load_dataset_spec
from robustexit.errors import ConfigError, DataError, RobustExitError, RunError
from robustexit.measures import measure_named
from robustexit.reports import build_report

TEXTS = (
    "The film is a warm and funny portrait of a small town in winter.",
    "A slow, clumsy thriller that never finds its rhythm.",
    "It's neither good nor bad; it's just \"there\".",
    "Two hours of empty noise,\nand shaky pictures.",
    "Her performance carries the whole picture with quiet grace.",
    "Strong acting turns a simple tale into something special.",
)


class Bag(ModelWrapper):  # type: ignore[misc]
    """Two classes; words have fixed weights."""

    model = None

    def __call__(self, texts: Sequence[Any]) -> np.ndarray:
        scores = np.array([self.score(text if isinstance(text, str) else " ".join(text)) for text in texts])
        return np.stack([1 - scores, scores], axis=1)

    @staticmethod
    def score(text: str) -> float:
        total = sum((zlib.crc32(word.encode()) % 200 - 100) / 100 for word in text.split())
        return float(1 / (1 + np.exp(-total)))


@dataclass(frozen=True)
class Attacked:
    log: Path
    results: list[Any]

    @property
    def texts(self) -> list[tuple[dict[str, str], dict[str, str]]]:
        return [
            (dict(one.original_result.attacked_text._text_input), dict(one.perturbed_result.attacked_text._text_input))
            for one in self.results
        ]


def attack(path: Path, style: str, pair: bool = False, recipe: str = "DeepWordBugGao2018") -> Attacked:
    """Run stock TextAttack, its own logger writing the log."""
    from textattack import AttackArgs, Attacker
    from textattack.datasets import Dataset

    columns = ["premise", "hypothesis"] if pair else ["text"]
    inputs = [(text, TEXTS[i - 1]) if pair else text for i, text in enumerate(TEXTS)]
    answers = Bag()(inputs).argmax(axis=1)
    labels = [int(answer) if i != 2 else 1 - int(answer) for i, answer in enumerate(answers)]
    data = Dataset(list(zip(inputs, labels, strict=True)), input_columns=columns)
    arguments = AttackArgs(
        num_examples=-1, log_to_csv=str(path), csv_coloring_style=style, disable_stdout=True, silent=True
    )
    attacker = Attacker(stock_attack(recipe, Bag(), {}), data, arguments)
    return Attacked(path, list(attacker.attack_dataset()))


STYLES = ("file", "plain", "html", "ansi")


@pytest.fixture(scope="module", params=[f"{kind}-{style}" for kind in ("single", "pair") for style in STYLES])
def attacked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    kind, style = request.param.split("-")
    return attack(tmp_path_factory.mktemp(request.param) / f"{style}.csv", style, pair=kind == "pair")


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Attacked:
    return attack(tmp_path_factory.mktemp("single") / "films.csv", "file")


def test_texts_answers_and_outcomes_are_those_of_the_attack(attacked: Attacked, tmp_path: Path) -> None:
    run = import_log(attacked.log, tmp_path / "run")
    assert run.manifest["campaign"]["log"]["markers"] == attacked.log.stem
    rows = load_run(tmp_path / "run").records.set_index("example_id")
    assert len(rows) == len(TEXTS)
    outcomes = {"SuccessfulAttackResult": "succeeded", "FailedAttackResult": "failed", "SkippedAttackResult": "skipped"}
    for (original, final), result in zip(attacked.texts, attacked.results, strict=True):
        row = next(row for _, row in rows.iterrows() if row["text"] == original)
        assert row["text_attacked"] == final
        assert row["outcome"] == outcomes[type(result).__name__]
        assert row["pred_clean"] == result.original_result.output
        assert row["pred_attacked"] == result.perturbed_result.output
        assert row["label"] == result.original_result.ground_truth_output
        assert row["queries"] == result.num_queries
    assert rows["exit_clean"].isna().all()
    assert rows["num_exits"].isna().all()
    assert rows["probs_clean"].isna().all()


def test_the_summary_is_textattacks_own(attacked: Attacked, tmp_path: Path) -> None:
    from textattack.metrics.attack_metrics import AttackQueries, AttackSuccessRate, WordsPerturbed

    records = import_log(attacked.log, tmp_path / "run").records
    expected = {
        **AttackSuccessRate().calculate(attacked.results),
        **WordsPerturbed().calculate(attacked.results),
        **AttackQueries().calculate(attacked.results),
    }
    assert expected["successful_attacks"] and expected["skipped_attacks"]
    for name, value in summary(records).items():
        assert value == expected[name], name
    assert measure_named("answer_success")(records).value * 100 == pytest.approx(
        expected["attack_success_rate"], abs=0.005
    )
    assert measure_named("robust_accuracy")(records).value * 100 == pytest.approx(
        expected["attack_accuracy_perc"], abs=0.005
    )
    assert measure_named("queries_mean")(records).value == pytest.approx(expected["avg_num_queries"], abs=0.005)
    succeeded = records[records["outcome"] == "succeeded"]
    assert measure_named("words_changed")(succeeded).value * 100 == pytest.approx(
        expected["avg_word_perturbed_perc"], abs=0.005
    )


def test_input_reduction_is_imported_under_its_own_goal(tmp_path: Path) -> None:
    attacked = attack(tmp_path / "reduced.csv", "file", recipe="InputReductionFeng2018")
    with pytest.raises(DataError, match=r"line 2: result Maximized.*--goal"):
        import_log(attacked.log, tmp_path / "run")
    records = import_log(attacked.log, tmp_path / "run", LogSpec(goal="input-reduction")).records
    assert set(records["outcome"]) == {"maximized", "skipped"}
    assert set(records["goal"]) == {"input-reduction"}
    finals = {str(final) for _, final in attacked.texts}
    assert {str(text) for text in records["text_attacked"]} == finals


def test_reports_read_it(single: Attacked, tmp_path: Path) -> None:
    run = import_log(single.log, tmp_path / "run", LogSpec(labels=("negative", "positive"), victim="bag"))
    report = build_report(run.records, run.manifest)
    assert "no victim in it can leave before its last exit" in report.answer


def test_texts_go_on_to_our_victims(single: Attacked, tiny_model: Path, tmp_path: Path) -> None:
    for labels in ((), ("negative", "positive")):
        run = import_log(single.log, tmp_path / f"run{len(labels)}", LogSpec(labels=labels))
        targets = load_targets(None, NamedTarget(str(tiny_model), "patience", {"t": 1}, "tiny"), run)
        moved = run_transfer(run, targets, Settings(tmp_path / f"moved{len(labels)}"))
        assert len(moved.records) == len(TEXTS)
        assert set(moved.records["crafted_on"]) == {"textattack"}
        assert sorted(map(str, moved.records["text_attacked"])) == sorted(map(str, run.records["text_attacked"]))
        build_report(moved.records, moved.manifest)


def test_pairs_go_on_too(tiny_model: Path, tmp_path: Path) -> None:
    pair = row("Premise: a<SPLIT>Hypothesis: c", "Premise: a<SPLIT>Hypothesis: d")
    run = import_log(write(tmp_path / "log.csv", [pair]), tmp_path / "run")
    targets = load_targets(None, NamedTarget(str(tiny_model)), run)
    moved = run_transfer(run, targets, Settings(tmp_path / "moved")).records
    assert list(moved["text_attacked"][0]) == ["premise", "hypothesis"]
    assert not (moved["outcome"] == "error").any()


def test_more_classes_than_the_model_has(tiny_model: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row(ground_truth_output=4, original_output=4)])
    run = import_log(path, tmp_path / "run")
    with pytest.raises(ConfigError, match="labels go up to 4"):
        run_transfer(run, load_targets(None, NamedTarget(str(tiny_model)), run), Settings(tmp_path / "moved"))


def test_ids_are_those_of_the_dataset_and_repeated_texts_stay_apart(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row(), row(), row("An other.", "A other.")])
    records = import_log(path, tmp_path / "run").records
    assert len(records) == 3
    (tmp_path / "data.csv").write_text("text,label\nA fine film.,b\nAn other.,a\n")
    data = load_dataset_spec(DataSpec(path="data.csv"), name="d", base=tmp_path)
    ids = {example.example_id for example in data.examples}
    assert ids < set(records["example_id"])
    assert {name.partition("-")[0] for name in records["example_id"]} == ids


def row(original: str = "A fine film.", final: str = "A fien film.", **changes: Any) -> dict[str, Any]:
    base = {
        "original_text": original,
        "perturbed_text": final,
        "original_score": 0.1,
        "perturbed_score": 0.9,
        "original_output": 1,
        "perturbed_output": 0,
        "ground_truth_output": 1,
        "num_queries": 12,
        "result_type": "Successful",
    }
    return {**base, **changes}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pd.DataFrame(rows).to_csv(path, quoting=2, index=False)
    return path


def texts_of(path: Path, out: Path, **said: Any) -> list[tuple[Any, Any]]:
    records = import_log(path, out, LogSpec(**said)).records
    return list(zip(records["text"], records["text_attacked"], strict=True))


def test_brackets_of_the_text_itself_are_kept_where_nothing_is_set_off(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row("see [[this]] film", "see [[this]] flim")])
    assert texts_of(path, tmp_path / "run") == [({"text": "see [[this]] film"}, {"text": "see [[this]] flim"})]
    marked = write(tmp_path / "log2.csv", [row("see [[this]] film", "see [[that]] film")])
    assert texts_of(marked, tmp_path / "run2") == [({"text": "see this film"}, {"text": "see that film"})]
    kept = texts_of(marked, tmp_path / "run3", markers="plain")
    assert kept == [({"text": "see [[this]] film"}, {"text": "see [[that]] film"})]


def test_removed_and_added_words_are_recognised(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row("a [[fine]] film", "a film"), row("so what", "so [[very]] what")])
    found = texts_of(path, tmp_path / "run")
    assert ({"text": "a fine film"}, {"text": "a film"}) in found
    assert ({"text": "so what"}, {"text": "so very what"}) in found


def test_fields_can_be_named(tmp_path: Path) -> None:
    pair = row("Premise: a<SPLIT>b<SPLIT>Hypothesis: c", "Premise: a<SPLIT>b<SPLIT>Hypothesis: d")
    path = write(tmp_path / "log.csv", [pair])
    assert texts_of(path, tmp_path / "1") == [
        ({"premise": "a\nb", "hypothesis": "c"}, {"premise": "a\nb", "hypothesis": "d"})
    ]
    named = texts_of(path, tmp_path / "2", fields=("Premise", "Hypothesis"))
    assert list(named[0][0]) == ["Premise", "Hypothesis"]
    whole = texts_of(path, tmp_path / "3", fields=("text",))
    assert whole[0][0] == {"text": "Premise: a\nb\nHypothesis: c"}
    with pytest.raises(DataError, match="line 2: expected a text like 'Question: "):
        import_log(path, tmp_path / "4", LogSpec(fields=("question", "sentence")))


def test_errors_of_textattack_stay_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row(), row("b", "b", result_type="Error")])
    records = import_log(path, tmp_path / "run").records
    assert sorted(records["outcome"]) == ["error", "succeeded"]
    assert summary(records)["successful_attacks"] == 1


GOOD = ",".join(row()) + "\n" + '"A fine film.","A fien film.",0.1,0.9,1,0,1,12,"Successful"\n'
DAMAGED = {
    "empty file": (b"", "empty file"),
    "no results": ((",".join(row()) + "\n").encode(), "line 2: expected at least one result"),
    "another file": (
        b"text,label\na,b\n",
        "line 1: no column 'original_text'.*expected the columns of a TextAttack log",
    ),
    "missing column": (GOOD.replace("num_queries", "queries").encode(), "line 1: no column 'num_queries'"),
    "cut in a text": ((GOOD + '"A second fi').encode(), "from line 3 on"),
    "cut in a row": ((GOOD + '"A","B",0.1,0.9,1').encode(), "line 3: expected 9 values as in the header, got 5"),
    "encoding": (GOOD.encode() + '"Café","Cafe",0.1,0.9,1,0,1,12,"Failed"\n'.encode("latin-1"), "line 3 is not UTF-8"),
    "unknown result": (GOOD.replace("Successful", "Succesful").encode(), "line 2: unknown result type.*'Successful'"),
    "text output": (GOOD.replace(",1,0,1,12", ',"good","bad","good",12').encode(), "line 2: column 'original_output'"),
    "no number": (GOOD.replace(",12,", ",many,").encode(), "line 2: column 'num_queries': expected a whole number"),
    "contrary": (GOOD.replace(",1,0,1,", ",1,1,1,").encode(), "line 2: result Successful, with answers 1 and 1"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_logs_give_one_line_and_leave_nothing(case: str, tmp_path: Path) -> None:
    content, message = DAMAGED[case]
    (tmp_path / "log.csv").write_bytes(content)
    with pytest.raises(RobustExitError, match=message) as caught:
        import_log(tmp_path / "log.csv", tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_what_is_said_wrongly(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", [row()])
    for said, message in (
        ({"goal": "deploid"}, "did you mean 'deployed'"),
        ({"view": "score"}, "did you mean 'scores'"),
        ({"markers": "fiel"}, "did you mean 'file'"),
        ({"labels": ("negative",)}, "class 1 has no name"),
    ):
        with pytest.raises(RobustExitError, match=message):
            import_log(path, tmp_path / "run", LogSpec(**said))  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
    import_log(path, tmp_path / "run")
    with pytest.raises(RunError, match="holds a run already"):
        import_log(path, tmp_path / "run")


def test_an_import_that_was_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from robustexit.runs import RunFolder

    path = write(tmp_path / "log.csv", [row(), row("b c", "b d")])
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_part", lambda *_: (_ for _ in ()).throw(RunError("disk full")))
        with pytest.raises(RunError, match="disk full"):
            import_log(path, tmp_path / "run")
    assert len(import_log(path, tmp_path / "run").records) == 2


def test_fields_of_an_ordered_dict_print_as_expected() -> None:
    """What the parser relies on: TextAttack capitalises field names and puts them before their texts."""
    from robustexit.attacks.textattack_api import AttackedText

    text = AttackedText(OrderedDict(premise="a", hypothesis="b"))
    assert text.printable_text() == "Premise: a\nHypothesis: b"
