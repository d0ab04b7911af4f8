"""Files of vectors and tables of neighbours in the place of TextAttack's counter-fitted vectors."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robustexit.attacks import resources
from robustexit.attacks.components import embeddings
from robustexit.attacks.components.embeddings import (
    FileEmbedding,
    NeighbourTable,
    nearest_neighbours,
    read_table,
    read_vectors,
    user_embedding,
    vector_embedding,
)
from robustexit.attacks.components.install import prepared
from robustexit.attacks.textattack_api import AttackedText, WordEmbedding, textattack
from robustexit.errors import ResourceError

VECTORS = {"film": [1.0, 0.0], "movie": [0.9, 0.1], "plot": [0.0, 1.0], "story": [0.0, 0.75], "naïve": [-1.0, 0.5]}
TABLE = {"good": ["fine", "great"], "bad": ["poor"], "odd": [], "great": ["good"]}


def text_form(vectors=VECTORS, header=False):
    lines = [f"{len(vectors)} {len(next(iter(vectors.values())))}"] if header else []
    return "\n".join([*lines, *(" ".join([word, *map(str, row)]) for word, row in vectors.items())]) + "\n"


def binary_form(vectors=VECTORS, newlines=True, count=None):
    width = len(next(iter(vectors.values())))
    rows = [
        word.encode() + b" " + struct.pack(f"<{width}f", *row) + (b"\n" if newlines else b"")
        for word, row in vectors.items()
    ]
    return f"{count or len(vectors)} {width}\n".encode() + b"".join(rows)


FORMS = {
    "glove.txt": text_form().encode(),
    "word2vec.txt": text_form(header=True).encode(),
    "windows.txt": text_form().replace("\n", " \r\n").encode(),
    "no-end.vec": text_form(header=True).encode().rstrip(b"\n"),
    "google.bin": binary_form(),
    "gensim.bin": binary_form(newlines=False),
    "glove.txt.gz": gzip.compress(text_form().encode()),
    "google.bin.gz": gzip.compress(binary_form()),
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_read(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    words, vectors = read_vectors(tmp_path / name)
    assert words == list(VECTORS)
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, np.array(list(VECTORS.values()), np.float32))


def test_a_large_binary_file_is_told_from_text(tmp_path):
    generator = np.random.default_rng(0)
    many = {f"word{i}": row.tolist() for i, row in enumerate(generator.standard_normal((400, 50)).astype(np.float32))}
    (tmp_path / "many.bin").write_bytes(binary_form(many))
    words, vectors = read_vectors(tmp_path / "many.bin")
    assert words == list(many)
    np.testing.assert_array_equal(vectors, np.array(list(many.values()), np.float32))


def test_words_may_hold_spaces_as_in_glove(tmp_path):
    (tmp_path / "v.txt").write_text("a 1 2\n. . . 3 4\nat name@mail.org 5 6\n")
    words, vectors = read_vectors(tmp_path / "v.txt")
    assert words == ["a", ". . .", "at name@mail.org"]
    assert vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1 2\nb 1\n", r"line 2: expected a word and 2 numbers, got 1 numbers; the file is cut off"),
        (b"a 1 2\nb 1 2 3\n", r"line 2: expected a word and 2 numbers, got 3 numbers"),
        (b"a 1 2\nb 1 x\n", r"line 2: expected a word and 2 numbers \(could not convert string to float: 'x'\)"),
        (b"a 1 2\nb nan 2\n", r"line 2: the vector of 'b' holds NaN or infinity"),
        (b"a 1 2\nb 1e99 2\n", r"line 2: the vector of 'b' holds NaN or infinity"),
        (b"2 2\na 1 2\na 3 4\n", r"line 3: 'a' stands twice \(first at line 2\); leave one of them"),
        (b"3 2\na 1 2\nb 3 4\n", r"its first line promises 3 words, it holds 2; the file is cut off"),
        (b"a\nb\n", r"line 1: expected a word and 1 numbers, got 0"),
        (b"a 1 2\n", r"expected the vectors of two words at least, found 1"),
        (b"", r"expected the vectors of two words at least, found 0"),
        (b"a 1 2\nb\xff 1 2\n", r"line 2: expected text in UTF-8"),
        (binary_form()[:-4], r"word 5: expected 5 words of 2 numbers, the file ends before"),
        (binary_form(count=9), r"word 6: expected 9 words of 2 numbers, the file ends before"),
        (binary_form({"a": [1, float("inf")], "b": [1, 2]}), r"word 1: the vector of 'a' holds NaN or infinity"),
    ],
)
def test_a_damaged_file_is_one_line_with_its_place(tmp_path, content, message):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(ResourceError, match=message) as error:
        read_vectors(tmp_path / "v.txt")
    assert "\n" not in str(error.value) and str(tmp_path / "v.txt") in str(error.value)


def test_a_cut_compressed_file_and_a_missing_one_are_errors(tmp_path):
    (tmp_path / "v.txt.gz").write_bytes(gzip.compress("".join(f"w{i} 1 {i}\n" for i in range(999)).encode())[:-20])
    with pytest.raises(ResourceError, match="the compressed file is cut off"):
        read_vectors(tmp_path / "v.txt.gz")
    with pytest.raises(ResourceError, match="cannot be read as a file of vectors"):
        read_vectors(tmp_path / "nowhere.txt")


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 40), st.integers(1, 5), st.integers(1, 12), st.integers(0, 2**31), st.booleans())
def test_neighbours_are_the_nearest(total, width, count, seed, whole):
    generator = np.random.default_rng(seed)
    vectors = generator.standard_normal((total, width)) if not whole else generator.integers(-2, 3, (total, width))
    vectors = vectors.astype(np.float32)
    found = nearest_neighbours(vectors, count)
    kept = min(count, total - 1)
    assert found.shape == (total, kept + 1)
    for i in range(total):
        assert found[i, 0] == i and len(set(found[i].tolist())) == kept + 1
        exact = np.sqrt(((vectors.astype(np.float64) - vectors[i]) ** 2).sum(axis=1))
        others = np.sort(np.delete(exact, i))[:kept]
        np.testing.assert_allclose(exact[found[i, 1:]], others, atol=1e-6)


def test_blocks_change_no_neighbour(monkeypatch):
    vectors = np.random.default_rng(1).standard_normal((300, 8)).astype(np.float32)
    whole = nearest_neighbours(vectors, 10)
    monkeypatch.setattr(embeddings, "_BLOCK_COLUMNS", 37)
    monkeypatch.setattr(embeddings, "_BLOCK_BYTES", 37 * 8 * 5)
    np.testing.assert_array_equal(nearest_neighbours(vectors, 10), whole)
    np.testing.assert_array_equal(nearest_neighbours(vectors, 10, [7, 299, 7]), whole[[7, 299, 7]])


def test_neighbours_and_distances_are_textattack_s(tmp_path, bare):
    vectors = np.random.default_rng(2).standard_normal((120, 6)).astype(np.float32)
    words = [f"w{i}" for i in range(120)]
    (tmp_path / "v.txt").write_text(text_form(dict(zip(words, vectors.tolist(), strict=True))))
    stock = WordEmbedding(vectors, {word: i for i, word in enumerate(words)}, dict(enumerate(words)))
    ours = vector_embedding(tmp_path / "v.txt")
    for i in (0, 17, 119):
        # What TextAttack's own computation without a table is to return, but for its mistake (it slices a pair).
        nearest = torch.from_numpy(vectors - vectors[i]).norm(dim=1).topk(10, largest=False).indices[1:]
        assert ours.nearest_neighbours(i, 9) == nearest.tolist()
        assert ours.word2index(words[i]) == i and ours.index2word(i) == words[i]
        assert ours.get_cos_sim(i, 50) == stock.get_cos_sim(i, 50)
        assert ours.get_mse_dist(words[i], "w50") == stock.get_mse_dist(words[i], "w50")
        np.testing.assert_array_equal(ours[words[i]], stock[words[i]])
    with pytest.raises(KeyError):
        ours.word2index("unknown")


def test_a_large_file_is_asked_word_by_word(tmp_path, bare, monkeypatch):
    (tmp_path / "v.txt").write_text(text_form())
    at_once = vector_embedding(tmp_path / "v.txt")
    monkeypatch.setattr(embeddings, "PRECOMPUTED", 2)
    (tmp_path / "v2.txt").write_text(text_form() + "other 5 5\n")
    asked = vector_embedding(tmp_path / "v2.txt")
    assert at_once.nn_matrix is not None and asked.nn_matrix is None
    assert asked.nearest_neighbours("film", 3) == at_once.nearest_neighbours("film", 3) == [1, 3, 2]


def test_a_file_s_cache_follows_its_content_and_leaves_no_half(tmp_path, bare, monkeypatch):
    file = tmp_path / "v.txt"
    file.write_text(text_form())
    # Processes, not threads: Python 3.11 parses the headers of array files in one thread at a time only.
    workers = [multiprocessing.get_context("fork").Process(target=vector_embedding, args=(file,)) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * 6
    assert isinstance(vector_embedding(file), FileEmbedding)
    kept = resources.cache_folder() / "vectors"
    folders = [entry for entry in kept.iterdir() if entry.is_dir()]
    assert len(folders) == 1
    file.write_text(text_form().replace("0.75", "0.5"))
    assert vector_embedding(file)["story"].tolist() == [0, 0.5]
    assert len([entry for entry in kept.iterdir() if entry.is_dir()]) == 2
    file.write_text("a 1 2\nb 1\n")
    with pytest.raises(ResourceError):
        vector_embedding(file)
    assert len([entry for entry in kept.iterdir() if entry.is_dir()]) == 2
    monkeypatch.setenv("ROBUSTEXIT_CACHE", str(file / "below"))
    file.write_text(text_form())
    with pytest.raises(ResourceError, match="set ROBUSTEXIT_CACHE to a folder that can be"):
        vector_embedding(file)


def test_a_table_keeps_its_order_and_lets_listed_pairs_pass():
    table = NeighbourTable(TABLE)
    shown = [table.index2word(i) for i in table.nearest_neighbours(table.word2index("good"), 5)]
    assert shown == ["fine", "great"]
    assert table.nearest_neighbours("good", 1) == [table.word2index("fine")]
    assert table.nearest_neighbours("odd", 5) == table.nearest_neighbours("fine", 5) == []
    assert table["good"] is None
    for a, b, alike in [("good", "fine", True), ("fine", "good", True), ("good", "poor", False), ("odd", "odd", True)]:
        assert table.get_cos_sim(a, b) == (1 if alike else -1)
        assert table.get_mse_dist(table.word2index(a), table.word2index(b)) == (0 if alike else float("inf"))
    with pytest.raises(KeyError):
        table.word2index("Good")


@pytest.mark.parametrize("bounds", [{"min_cos_sim": 0.5}, {"max_mse_dist": 0.5}])
def test_textattack_s_parts_take_a_table(bounds):
    from textattack.constraints.semantics import WordEmbeddingDistance
    from textattack.transformations import WordSwapEmbedding

    table = NeighbourTable(TABLE)
    text = AttackedText("A Good, BAD odd day")
    swapped = WordSwapEmbedding(max_candidates=1, embedding=table)(text)
    assert sorted(found.text for found in swapped) == ["A Fine, BAD odd day", "A Good, POOR odd day"]
    constraint = WordEmbeddingDistance(embedding=table, **bounds)
    assert constraint.call_many(swapped, text) == swapped
    other = text.replace_word_at_index(1, "Poor")
    other.attack_attrs.update(
        newly_modified_indices={1}, last_transformation=swapped[0].attack_attrs["last_transformation"]
    )
    assert constraint.call_many([other], text) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"line 1: expected a JSON object"),
        ("[]", r"expected a JSON object .*, got list"),
        ("{}", r"got an empty one"),
        ('{"a": "b"}', r"got 'b' for 'a'"),
        ('{"a": ["b", 1]}', r"got \['b', 1\] for 'a'"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, content, message):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(ResourceError, match=message):
        read_table(tmp_path / "t.json")


def test_the_file_is_put_in_while_a_recipe_is_built_and_taken_out_after(tmp_path, bare):
    (tmp_path / "t.json").write_text(json.dumps(TABLE))
    resources.configure({"counter-fitted-vectors": tmp_path / "t.json"})
    before = vars(WordEmbedding)["counterfitted_GLOVE_embedding"]
    held = dict(textattack.shared.utils.GLOBAL_OBJECTS)
    with prepared(["counter-fitted-vectors"]):
        assert isinstance(WordEmbedding.counterfitted_GLOVE_embedding(), NeighbourTable)
    assert vars(WordEmbedding)["counterfitted_GLOVE_embedding"] is before
    assert held == textattack.shared.utils.GLOBAL_OBJECTS
    assert user_embedding() is user_embedding()
    (tmp_path / "t.json").write_text(json.dumps(TABLE | {"new": ["newer"]}))
    assert user_embedding().word2index("newer") > 0


def test_thought_vectors_stand_texts_of_unknown_words(tmp_path, bare):
    embedding = FileEmbedding(list(VECTORS), np.array(list(VECTORS.values()), np.float32), None)
    ours = embeddings.MeanOfWords(embedding, threshold=0.2, metric="max_euclidean")
    stock = embeddings.ThoughtVector(embedding, threshold=0.2, metric="max_euclidean")
    known = ["film plot", "a story of film"]
    assert ours.encode(known).tolist() == stock.encode(known).tolist() == [[0.5, 0.5], [0.5, 0.375]]
    assert ours.encode(["Film", "plot"]).tolist() == [[0, 0], [0, 1]]
    with pytest.raises(RuntimeError):
        stock.encode(["Film", "plot"])


def test_public_neighbours_are_read(real_data: Path):
    table = read_table(real_data / "words" / "counterfitted_neighbors.json")
    near = [table.index2word(i) for i in table.nearest_neighbours("movie", 3)]
    assert near == ["film", "filmmaking", "films"]
