from __future__ import annotations

import json
from pathlib import Path

import datasets
import pandas as pd
import pytest

from robustexit.data import load_dataset_spec
from robustexit.data.spec import DataSpec
from robustexit.data.tables import _check_revision, _commit
from robustexit.errors import DataError

ROWS = [
    {"id": "a", "text": 'He said "fine", and left.', "label": 1},
    {"id": "b", "text": "Two\nlines", "label": 0},
    {"id": "c", "text": "NA", "label": 1},
    {"id": "d", "text": "naïve café", "label": 0},
]
NAMES = ["negative", "positive"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path_factory.mktemp("cache")))


def dataset_of(rows=ROWS, classes=True):
    made = datasets.Dataset.from_list(rows)
    return made.cast_column("label", datasets.ClassLabel(names=NAMES)) if classes else made


def save(kind, folder: Path) -> str:
    frame = pd.DataFrame(ROWS)
    name = f"rows.{kind}"
    if kind == "csv":
        frame.to_csv(folder / name, index=False)
    elif kind == "tsv":
        frame.to_csv(folder / name, index=False, sep="\t")
    elif kind == "jsonl":
        frame.to_json(folder / name, orient="records", lines=True)
    elif kind == "json":
        frame.to_json(folder / name, orient="records")
    else:
        frame.to_parquet(folder / name)
    return name


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_every_format_gives_the_same_examples(kind, tmp_path, load):
    loaded = load(path=save(kind, tmp_path), labels=NAMES)
    assert [(e.example_id, e.fields["text"], e.label) for e in loaded.examples] == [
        (row["id"], row["text"], row["label"]) for row in ROWS
    ]
    assert loaded.label_names == ("negative", "positive")
    assert (loaded.name, loaded.source, loaded.synthetic) == ("mine", f"rows.{kind}", False)
    assert loaded.field_names == ("text",)


def test_json_lines_under_json_extension_and_blank_lines(write, load):
    name = write("rows.json", "\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    assert len(load(path=name, labels=NAMES)) == 4


def test_byte_order_mark_and_carriage_returns(tmp_path, load):
    (tmp_path / "a.csv").write_bytes("\ufefftext,label\r\ngood,pos\r\nbad,neg\r\n".encode())
    loaded = load(path="a.csv")
    assert [dict(e.fields) for e in loaded.examples] == [{"text": "good"}, {"text": "bad"}]
    assert loaded.label_names == ("neg", "pos")


def test_parquet_with_class_label_needs_no_names(tmp_path, load):
    dataset_of().to_parquet(tmp_path / "rows.parquet")
    loaded = load(path="rows.parquet")
    assert loaded.label_names == ("negative", "positive")
    assert loaded.labels == [1, 0, 1, 0]


def test_saved_folders(tmp_path, load, message):
    dataset_of().save_to_disk(tmp_path / "one")
    datasets.DatasetDict(train=dataset_of(), test=dataset_of(ROWS[:2])).save_to_disk(tmp_path / "two")
    assert load(path="one").labels == [1, 0, 1, 0]
    assert len(load(path="two", split="test")) == 2
    assert load(path="two", split="test").source == "two[test]"
    assert "'split' is missing; expected one of: test, train" in message(path="two")
    assert "unknown split 'tset' (did you mean 'test'?)" in message(path="two", split="tset")
    assert "holds one split without a name" in message(path="one", split="train")


def test_saved_folder_keeps_a_selection(tmp_path, load):
    dataset_of().select([3, 0]).save_to_disk(tmp_path / "one")
    assert [e.example_id for e in load(path="one").examples] == ["d", "a"]


def test_damaged_saved_folder(tmp_path, message):
    dataset_of().save_to_disk(tmp_path / "one")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"xx")
    assert "cannot be read as a saved dataset" in message(path="one")


def test_other_folder_points_to_hub(tmp_path, message):
    (tmp_path / "plain").mkdir()
    assert "write `hub:` instead of `path:`" in message(path="plain")


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_local_hub_folder(kind, tmp_path, load, message):
    folder = tmp_path / "repo"
    folder.mkdir()
    for split, rows in {"train": ROWS, "test": ROWS[:2]}.items():
        if kind == "parquet":
            dataset_of(rows).to_parquet(folder / f"{split}.parquet")
        else:
            dataset_of(rows, classes=False).to_json(folder / f"{split}.jsonl")
    names = {} if kind == "parquet" else {"labels": NAMES}
    loaded = load(hub="./repo", split="test", **names)
    assert loaded.labels == [1, 0]
    assert loaded.source == "./repo[test]"
    assert len(load(hub=str(folder), split="train[:3]", **names)) == 3
    assert "expected one of: test, train" in message(hub="repo", **names)
    assert "Unknown split" in message(hub="repo", split="dev", **names)
    assert "'revision' is for datasets on the Hub" in message(hub="repo", revision="v1", split="test")
    assert "cannot be loaded" in message(hub="repo", config="nope", split="test")


def test_hub_folder_with_one_split_needs_no_split(tmp_path, load):
    (tmp_path / "repo").mkdir()
    dataset_of().to_parquet(tmp_path / "repo" / "validation.parquet")
    assert load(hub="repo").source == "repo[validation]"


def test_hub_is_left_alone_unless_allowed(message):
    said = message(hub="nobody/nothing", split="train")
    assert "hub dataset 'nobody/nothing': not in the local cache, and network not allowed" in said
    assert "allow_network" in said
    assert datasets.config.HF_HUB_OFFLINE == datasets.config.HF_DATASETS_OFFLINE


def test_hub_folder_that_is_not_there(message, tmp_path):
    assert "no such folder; expected one, or a Hub id" in message(hub="./nothing", split="train")


def test_cached_copy_of_another_revision_is_refused():
    made = dataset_of()
    made.info.download_checksums = {"hf://datasets/a/b@0123abcd/train.parquet": {}}
    assert _commit(made) == "0123abcd"
    assert _commit(dataset_of()) is None
    _check_revision("d", "0123", "0123abcd", offline=True)
    _check_revision("d", "v2", "0123abcd", offline=False)
    with pytest.raises(DataError, match="expected revision 'v2', got a cached copy of commit 0123abcd"):
        _check_revision("d", "v2", "0123abcd", offline=True)


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        (["premise", "hypothesis"], ("premise", "hypothesis")),
        (["sentence1", "sentence2"], ("sentence1", "sentence2")),
        (["sentence", "question"], ("question", "sentence")),
        (["sentence"], ("sentence",)),
        (["sentence", "text"], ("text",)),
    ],
)
def test_usual_fields(columns, found, write, load):
    rows = [{c: f"{c} {i}" for c in columns} | {"label": "ab"[i]} for i in range(2)]
    name = write("d.jsonl", "\n".join(map(json.dumps, rows)))
    assert load(path=name).field_names == found


def test_fields_can_be_named(write, load):
    name = write("d.csv", "q,a,verdict,key\nwhy,so,yes,1\nhow,thus,no,2\n")
    loaded = load(path=name, fields={"question": "q", "answer": "a"}, label="verdict", id="key")
    assert dict(loaded.examples[0].fields) == {"question": "why", "answer": "so"}
    assert loaded.label_names == ("no", "yes")
    assert [e.example_id for e in loaded.examples] == ["1", "2"]
    assert load(path=name, fields="q", label="verdict").field_names == ("q",)
    assert load(path=name, fields=["a", "q"], label="verdict").field_names == ("a", "q")


def test_content_ids_do_not_depend_on_the_order(write, load):
    one = load(path=write("a.csv", "text,label\nx,p\ny,n\n"))
    two = load(path=write("b.csv", "text,label\ny,n\nx,p\n"))
    assert {e.example_id for e in one.examples} == {e.example_id for e in two.examples}
    assert len(one.examples[0].example_id) == 16


def test_id_false_hashes_the_texts(write, load):
    name = write("a.csv", "id,text,label\n1,x,p\n1,y,n\n")
    assert len({e.example_id for e in load(path=name, id=False).examples}) == 2


@pytest.mark.parametrize(
    ("values", "labels", "names", "indices"),
    [
        (["1", "5", "2"], {1: "bad", 2: "bad", 5: "good"}, ("bad", "good"), [0, 1, 0]),
        (["pos", "neg"], ["neg", "pos"], ("neg", "pos"), [1, 0]),
        (["0", "1"], ["neg", "pos"], ("neg", "pos"), [0, 1]),
        (["1", "2"], ["1", "2"], ("1", "2"), [0, 1]),
        (["True", "False"], None, ("false", "true"), [1, 0]),
        (["True", "False"], ["neg", "pos"], ("neg", "pos"), [1, 0]),
        (["True", "False"], {True: "yes", False: "no"}, ("yes", "no"), [0, 1]),
        (["b", "a"], None, ("a", "b"), [1, 0]),
    ],
)
def test_label_forms_of_csv(values, labels, names, indices, write, load):
    name = write("a.csv", "text,label\n" + "".join(f"t{i},{v}\n" for i, v in enumerate(values)))
    loaded = load(path=name, labels=labels)
    assert (loaded.label_names, loaded.labels) == (names, indices)


def test_json_booleans(write, load):
    name = write("a.json", '[{"text": "x", "label": true}, {"text": "y", "label": false}]')
    assert load(path=name).label_names == ("false", "true")
    assert load(path=name, labels=NAMES).labels == [1, 0]
    assert load(path=name, labels={True: "yes", False: "no"}).label_names == ("yes", "no")


def test_class_labels_can_be_renamed_and_merged(tmp_path, load, message):
    dataset_of().to_parquet(tmp_path / "r.parquet")
    assert load(path="r.parquet", labels=["bad", "good"]).label_names == ("bad", "good")
    merged = load(path="r.parquet", labels={"positive": "fine", "negative": "poor"})
    assert (merged.label_names, merged.labels) == (("fine", "poor"), [0, 1, 0, 1])
    assert "expected 2 names in 'labels'" in message(path="r.parquet", labels=["a", "b", "c"])


def test_absent_label_and_language_are_noted(write, load):
    name = write("a.csv", "text,label\nx,0\ny,0\n")
    assert load(path=name, labels=NAMES, language="de").notes == (
        "no row has label 'positive'",
        "language: de",
    )


def test_duplicates_can_be_dropped(write, load, message):
    name = write("a.csv", "text,label\nx,p\ny,n\nx,p\nx,n\n")
    assert "2 of 4 rows repeat an earlier row's texts (first: line 2 and line 4)" in message(path=name)
    loaded = load(path=name, duplicates="drop")
    assert [e.fields["text"] for e in loaded.examples] == ["x", "y"]
    assert "2 of 4 rows dropped for repeating an earlier text (1 of them with another label)" in loaded.notes
    with_ids = write("b.csv", "id,text,label\n1,x,p\n2,y,n\n3,x,p\n")
    assert len(load(path=with_ids)) == 3
    assert [e.example_id for e in load(path=with_ids, duplicates="drop").examples] == ["1", "2"]


def test_sample_is_taken(write, load, message):
    name = write("a.csv", "text,label\n" + "".join(f"t{i},{'pn'[i % 2]}\n" for i in range(20)))
    loaded = load(path=name, sample=6, seed=3)
    assert sorted(loaded.labels) == [0, 0, 0, 1, 1, 1]
    assert "stratified sample of 6 of 20, seed 3" in loaded.notes
    assert loaded.examples == load(path=name, sample=6, seed=3).examples
    assert "mine: expected a sample of 1 to 20 examples (all there are), got 21" in message(path=name, sample=21)


def test_builtin(load, message):
    loaded = load(builtin="reviews", n=12, seed=4, split="test", difficulty=["negation"], sample=4)
    assert (loaded.name, loaded.synthetic, len(loaded)) == ("mine", True, 4)
    assert all(e.example_id.startswith("reviews-negation-") for e in loaded.examples)
    assert len(load(builtin="reviews")) == 1_000
    assert "unknown split of reviews 'tset' (did you mean 'test'?)" in message(builtin="reviews", split="tset")


BAD_FILES = [
    ("a.csv", "", {}, "expected a header line with the column names, got an empty file"),
    ("a.csv", "text,label\n", {}, "expected at least one row, got none"),
    ("a.csv", "text,text,label\nx,y,1\n", {}, "stand twice in the header: text"),
    ("a.csv", "text,label\nx,p\ny,z,n\n", {}, "line 3: expected 2 values as in the header, got 3"),
    ("a.csv", 'text,label\nx,p\n"y,n\n', {}, "cannot be read from line 3 on"),
    ("a.jsonl", '{"text": "x", "label": "p"}\n{"text": "y", "la', {}, "line 2 is not JSON"),
    ("a.jsonl", '{"text": "x", "label": "p"}\n[1]\n', {}, "line 2: expected an object"),
    ("a.json", '[{"text": "x"},\n{"text": ', {}, "line 2 is not JSON"),
    ("a.json", '"text"', {}, "expected an array of objects or one object a line, got str"),
    ("a.json", "[]", {}, "expected at least one row, got none"),
    ("a.parquet", "PAR1 broken", {}, "cannot be read as Parquet"),
    ("a.xlsx", "x", {}, "unknown file extension '.xlsx'"),
    ("a.csv", "text,label\nx,p\n", {"split": "train"}, "a file has none: remove it"),
    ("a.csv", "review,label\nx,p\n", {}, "found no text column by its usual name"),
    ("a.csv", "review,label\nx,p\n", {"fields": "reviw"}, "no column 'reviw' for 'fields' (did you mean 'review'?)"),
    (
        "a.csv",
        "text,labels\nx,p\n",
        {},
        "no column 'label' for 'label' (did you mean 'labels'?); the columns are: text",
    ),
    ("a.csv", "text,label\nx,p\n", {"id": "key"}, "no column 'key' for 'id'"),
    (
        "a.csv",
        "text,label\nx,p\n,n\n  ,n\n",
        {},
        "column 'text': expected a text in every row, got an empty or missing one at line 3, line 4",
    ),
    ("a.csv", "id,text,label\nq1,,p\n", {}, "line 2 (id 'q1')"),
    ("a.jsonl", '{"text": "x", "label": "p"}\n{"label": "n"}\n', {}, "empty or missing one at line 2"),
    ("a.jsonl", '{"text": 5, "label": "p"}\n', {}, "expected a text, got int 5 at line 1"),
    ("a.jsonl", '{"text": ["x"], "label": "p"}\n', {}, "expected a text, got list ['x'] at line 1"),
    ("a.jsonl", '{"text": "\\ud800x", "label": "p"}\n', {}, "half of a surrogate pair"),
    ("a.csv", "text,label\nx,p\ny,\n", {}, "column 'label': expected a label in every row, got none at line 3"),
    ("a.csv", "text,label\nx,0.5\ny,1\n", {}, "got the number 0.5 at line 2; scores and ratings (regression)"),
    ("a.jsonl", '{"text": "x", "label": [0, 1]}\n', {}, "expected one label a row, got [0, 1] at line 1"),
    (
        "a.jsonl",
        '{"text": "x", "label": "p"}\n{"text": "y", "label": 1}\n',
        {},
        "expected labels of one type, got str 'p' at line 1 and int 1 at line 2",
    ),
    (
        "a.csv",
        "text,label\nx,0\ny,1\n",
        {},
        "the labels are integers (0, 1) without names; give the names in index order",
    ),
    (
        "a.csv",
        "id,text,label\n7,x,0\n8,y,2\n",
        {"labels": NAMES},
        "unknown label 2; expected one of: 0 (negative), 1 (positive); correct it or set 'labels'; found at "
        "line 3 (id '8')",
    ),
    ("a.csv", "text,label\nx,positve\n", {"labels": NAMES}, "unknown label 'positve' (did you mean 'positive'?)"),
    ("a.csv", "text,label\nx,-1\n", {"labels": NAMES}, "label -1 stands for a label that was kept secret"),
    (
        "a.csv",
        "text,label\nx,3\n",
        {"labels": {1: "bad", 5: "good"}},
        "unknown label 3; expected one of: 1 (bad), 5 (good)",
    ),
    ("a.jsonl", '{"text": "x", "label": true}\n', {"labels": ["a", "b", "c"]}, "unknown label True"),
    ("a.csv", "text,label\nx,p\ny,p\n", {}, "expected at least two classes, got only 'p'"),
    ("a.csv", "id,text,label\n1,x,p\n1,y,n\n", {}, "column 'id': expected each id once, got '1' at line 2, line 3"),
    (
        "a.jsonl",
        '{"id": null, "text": "x", "label": "p"}\n',
        {},
        "expected an id (string or integer), got None at line 1",
    ),
]


@pytest.mark.parametrize(("name", "text", "settings", "expected"), BAD_FILES)
def test_bad_files(name, text, settings, expected, write, message, tmp_path):
    said = message(path=write(name, text), **settings)
    assert expected in said
    assert said.startswith(str(tmp_path / name))


def test_long_lists_of_rows_are_cut(write, message):
    text = "text,label\n" + ",p\n" * 8
    assert "line 2, line 3, line 4, line 5, line 6 and 3 more" in message(path=write("a.csv", text))


def test_latin_1_file(tmp_path, message):
    (tmp_path / "a.csv").write_bytes(b"text,label\nfine,p\ncaf\xe9,n\n")
    assert "line 3 is not UTF-8" in message(path="a.csv")


def test_truncated_parquet(tmp_path, message):
    whole = tmp_path / save("parquet", tmp_path)
    whole.write_bytes(whole.read_bytes()[:-20])
    assert "the file may be cut off: copy it again" in message(path="rows.parquet")


def test_missing_file_names_its_neighbour(write, message, tmp_path):
    write("reviews.csv", "text,label\n")
    said = message(path="review.csv")
    assert "review.csv: no such file (did you mean 'reviews.csv'?)" in said
    assert str(tmp_path) in said
    assert "no such file" in message(path="nowhere/a.csv")


def test_absolute_paths_ignore_the_base(tmp_path):
    name = save("jsonl", tmp_path)
    spec = DataSpec(path=str(tmp_path / name), labels=NAMES)
    assert len(load_dataset_spec(spec, name="x", base=Path("elsewhere"))) == 4


@pytest.mark.parametrize(
    ("folder", "file", "labels", "rows", "fields"),
    [
        ("sst2", "validation", ["negative", "positive"], 872, ("text",)),
        ("ag_news", "test", ["World", "Sports", "Business", "Sci/Tech"], 7_600, ("text",)),
        ("snli", "test", ["entailment", "neutral", "contradiction"], 8_824, ("premise", "hypothesis")),
        ("mrpc", "test", ["different", "paraphrase"], 258, ("premise", "hypothesis")),
    ],
)
def test_public_data(folder, file, labels, rows, fields, shared_data):
    spec = DataSpec(path=f"{folder}/{file}.jsonl", labels=labels)
    loaded = load_dataset_spec(spec, name=folder, base=shared_data)
    assert (len(loaded), loaded.field_names) == (rows, fields)
    assert set(loaded.labels) == set(range(len(labels)))
    small = load_dataset_spec(spec.model_copy(update={"sample": 50}), name=folder, base=shared_data)
    share = [loaded.labels.count(i) / rows for i in range(len(labels))]
    assert all(abs(small.labels.count(i) - 50 * share[i]) < 1 for i in range(len(labels)))


@pytest.mark.parametrize(
    ("name", "content", "note"),
    [
        ("a.csv", "text\nx\ny\n", "no labels: there is no column 'label'"),
        ("a.csv", "text,label\nx,-1\ny,-1\n", "no labels: every row of column 'label' is -1 or empty"),
        ("a.csv", "text,label\nx,\ny,\n", "no labels: every row of column 'label' is -1 or empty"),
        ("a.jsonl", '{"text": "x", "label": -1}\n{"text": "y", "label": null}\n', "no labels: every row of column"),
    ],
)
def test_rows_without_labels_where_none_are_needed(name, content, note, tmp_path):
    (tmp_path / name).write_text(content)
    spec = DataSpec(path=name, sample=1)
    loaded = load_dataset_spec(spec, name="d", base=tmp_path, unlabelled=NAMES)
    assert (loaded.labels, loaded.label_names) == ([-1], ("negative", "positive"))
    assert len(loaded.notes) == 2 and loaded.notes[0].startswith(note)
    with pytest.raises(DataError):
        load_dataset_spec(spec, name="d", base=tmp_path)


def test_labels_are_read_where_none_are_needed(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\nx,positive\ny,negative\n")
    loaded = load_dataset_spec(DataSpec(path="a.csv"), name="d", base=tmp_path, unlabelled=("other", "names"))
    assert (loaded.labels, loaded.label_names, loaded.notes) == ([1, 0], ("negative", "positive"), ())
    (tmp_path / "a.csv").write_text("text,label\nx,positive\ny,\n")
    with pytest.raises(DataError, match="expected a label in every row"):
        load_dataset_spec(DataSpec(path="a.csv"), name="d", base=tmp_path, unlabelled=NAMES)
