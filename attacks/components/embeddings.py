"""Word vectors for TextAttack's parts: those of a user's file, or a table of neighbours in their place."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Final
from unittest import mock

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from robustexit.attacks import resources
from robustexit.attacks.components.install import in_recipes, route
from robustexit.attacks.resources.vectors import is_table, word_file
from robustexit.attacks.textattack_api import AbstractWordEmbedding, ThoughtVector, WordEmbedding, words_from_text
from robustexit.errors import ResourceError

logger = logging.getLogger(__name__)

NEIGHBOURS: Final = 50
"""Neighbours kept for each word: the most that a recipe asks for."""
PRECOMPUTED: Final = 100_000
"""Words up to which all neighbours are computed at once; in a larger file, each word's when it is asked for."""
_BLOCK_BYTES: Final = 2**26
"""Size of one block of distances; a few of them exist at a time."""
_BLOCK_COLUMNS: Final = 2**13
_VERSION: Final = "1"
"""Of what is kept in the cache."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int32]


class NeighbourTable(AbstractWordEmbedding):  # type: ignore[misc]  # TextAttack is untyped
    """Lists of neighbours in the place of word vectors.

    A word's neighbours are those of its list, in the list's order. There are no vectors and no distances: a pair that
    is listed, in either direction, counts as alike (cosine 1, distance 0) and any other pair as unlike (cosine -1,
    infinite distance), so that every threshold of `WordEmbeddingDistance` lets exactly the listed pairs pass. Words
    are looked up as TextAttack does, in lower case.

    Args:
        table: Word -> neighbours, nearest first.
    """

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        words = dict.fromkeys(table)
        for neighbours in table.values():
            words.update(dict.fromkeys(neighbours))
        self._words = list(words)
        self._index = {word: i for i, word in enumerate(self._words)}
        self._neighbours = {self._index[w]: [self._index[n] for n in near if n != w] for w, near in table.items()}

    def __getitem__(self, index: str | int) -> None:
        """Return None: there are no vectors."""

    def word2index(self, word: str) -> int:
        """Return a word's index.

        Raises:
            KeyError: The table does not hold it.
        """
        return self._index[word]

    def index2word(self, index: int) -> str:
        """Return the word at an index."""
        return self._words[index]

    def nearest_neighbours(self, index: str | int, topn: int) -> list[int]:
        """Return the indices of a word's first `topn` neighbours, all of them if there are fewer."""
        return self._neighbours.get(self._number(index), [])[:topn]

    def get_cos_sim(self, a: str | int, b: str | int) -> float:
        """Return 1 for a word and itself and for a listed pair, else -1."""
        return 1.0 if self._listed(a, b) else -1.0

    def get_mse_dist(self, a: str | int, b: str | int) -> float:
        """Return 0 for a word and itself and for a listed pair, else infinity."""
        return 0.0 if self._listed(a, b) else float("inf")

    def _number(self, index: str | int) -> int:
        return self._index[index] if isinstance(index, str) else index

    def _listed(self, a: str | int, b: str | int) -> bool:
        first, second = self._number(a), self._number(b)
        near = self._neighbours
        return first == second or second in near.get(first, ()) or first in near.get(second, ())

    def extra_repr_keys(self) -> list[str]:
        """Return what TextAttack prints of it."""
        return []


def read_table(path: Path) -> NeighbourTable:
    """Read a neighbour table: a JSON object of words, each with the list of its neighbours, nearest first.

    Raises:
        ResourceError: The file is something else.
    """
    expected = 'expected a JSON object {"word": ["neighbour", ...], ...}'
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ResourceError(f"{path}, line {error.lineno}: {expected} ({error.msg})") from error
    except (OSError, UnicodeError) as error:
        raise ResourceError(f"{path}: {expected} ({getattr(error, 'strerror', None) or error})") from error
    if not isinstance(table, dict) or not table:
        raise ResourceError(f"{path}: {expected}, got {type(table).__name__ if table != {} else 'an empty one'}")
    for word, neighbours in table.items():
        if not isinstance(neighbours, list) or not all(isinstance(near, str) for near in neighbours):
            raise ResourceError(f"{path}: {expected}, got {neighbours!r} for {word!r}")
    return NeighbourTable(table)


def read_vectors(path: Path) -> tuple[list[str], Floats]:
    """Read word vectors: GloVe's text form (``word x1 ... xn``), word2vec's text form, or word2vec's binary form.

    word2vec's forms begin with a line ``words dimensions``. The file may be compressed with gzip (``.gz``). A word of
    a text file may hold spaces, as some in GloVe's files do.

    Args:
        path: The file.

    Returns:
        The words in the file's order, and their vectors, shape [words, dimensions].

    Raises:
        ResourceError: Naming file and line (or word, in a binary file): a wrong number of dimensions, something that
            is no number, NaN or infinity, a word that stands twice, or a file that is cut off.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(path, file)
    except (EOFError, zlib.error) as error:
        raise ResourceError(f"{path}: the compressed file is cut off or damaged; get it again") from error
    except OSError as error:
        raise ResourceError(f"{path}: cannot be read as a file of vectors ({error.strerror or error})") from error


def _read(path: Path, file: IO[bytes] | gzip.GzipFile) -> tuple[list[str], Floats]:
    first = file.readline()
    header = _header(first)
    beginning = b"" if header is None else file.read(2**16)
    rows: Iterator[tuple[int, str, Floats]]
    if header is not None and _is_binary(beginning):
        place = "word"
        rows = _binary_rows(path, beginning, file, *header)
    else:
        place = "line"
        lines = _lines(first if header is None else b"", beginning, file)
        rows = _text_rows(path, lines, 1 if header is None else 2, None if header is None else header[1])
    words: dict[str, int] = {}
    vectors: list[Floats] = []
    for number, word, vector in rows:
        where = f"{path}, {place} {number}"
        if word in words:
            raise ResourceError(f"{where}: {word!r} stands twice (first at {place} {words[word]}); leave one of them")
        if not np.isfinite(vector).all():
            raise ResourceError(f"{where}: the vector of {word!r} holds NaN or infinity; expected finite numbers")
        words[word] = number
        vectors.append(vector)
    if header is not None and len(words) != header[0]:
        raise ResourceError(
            f"{path}: its first line promises {header[0]} words, it holds {len(words)}; the file is cut off or mixed up"
        )
    if len(words) < 2:
        raise ResourceError(f"{path}: expected the vectors of two words at least, found {len(words)}")
    return list(words), np.stack(vectors)


def _header(line: bytes) -> tuple[int, int] | None:
    """Return words and dimensions where a line holds two whole numbers and nothing else."""
    parts = line.split()
    return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(part.isdigit() for part in parts) else None


def _is_binary(beginning: bytes) -> bool:
    """Whether bytes are no text: not UTF-8 (but for a character cut at the end), or with control characters."""
    try:
        beginning.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(beginning) - 3:
            return True
    return any(byte < 32 and byte not in b"\t\n\r" for byte in beginning)


def _lines(first: bytes, beginning: bytes, file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Yield the lines that stand in `first`, in `beginning` and in the rest of the file."""
    if first:
        yield first
    *whole, rest = beginning.splitlines(keepends=True) or [b""]
    yield from whole
    if rest:
        yield rest if rest.endswith(b"\n") else rest + file.readline()
    yield from file


def _text_rows(
    path: Path, lines: Iterator[bytes], number: int, dimensions: int | None
) -> Iterator[tuple[int, str, Floats]]:
    for line_number, line in enumerate(lines, start=number):
        where = f"{path}, line {line_number}"
        try:
            parts = line.decode("utf-8").rstrip("\r\n").rstrip(" ").split(" ")
        except UnicodeDecodeError as error:
            raise ResourceError(f"{where}: expected text in UTF-8 ({error.reason})") from error
        dimensions = dimensions if dimensions is not None else len(parts) - 1
        expected = f"{where}: expected a word and {max(dimensions, 1)} numbers"
        if len(parts) <= dimensions or dimensions == 0:
            raise ResourceError(f"{expected}, got {len(parts) - 1} numbers; the file is cut off or mixed up")
        split = len(parts) - dimensions
        if split > 1 and all(_is_number(part) for part in parts[1:split]):
            raise ResourceError(f"{expected}, got {len(parts) - 1} numbers")
        try:
            with np.errstate(over="ignore"):  # too large a number becomes infinity, which is refused
                vector = np.array([float(part) for part in parts[split:]], dtype=np.float32)
        except ValueError as error:
            raise ResourceError(f"{expected} ({error})") from error
        yield line_number, " ".join(parts[:split]), vector


def _is_number(part: str) -> bool:
    try:
        float(part)
    except ValueError:
        return False
    return True


def _binary_rows(
    path: Path, beginning: bytes, file: IO[bytes] | gzip.GzipFile, count: int, dimensions: int
) -> Iterator[tuple[int, str, Floats]]:
    content, place, size = beginning + file.read(), 0, 4 * dimensions
    for number in range(1, count + 1):
        space = content.find(b" ", place)
        if space < 0 or len(content) < space + 1 + size:
            raise ResourceError(
                f"{path}, word {number}: expected {count} words of {dimensions} numbers, the file ends before; "
                "get it again"
            )
        try:
            word = content[place:space].lstrip(b"\n").decode("utf-8")
        except UnicodeDecodeError as error:
            raise ResourceError(f"{path}, word {number}: expected a word in UTF-8 ({error.reason})") from error
        place = space + 1 + size
        yield number, word, np.frombuffer(content, "<f4", dimensions, space + 1).astype(np.float32)


def nearest_neighbours(vectors: Floats, count: int, of: Sequence[int] | None = None) -> Indices:
    """Return the nearest other words by Euclidean distance, exactly: every distance is computed, in float64.

    Memory is bounded: distances exist in blocks of 64 MiB.

    Args:
        vectors: Shape [N, dimensions].
        count: Neighbours for each word; N - 1 if there are fewer.
        of: The words whose neighbours are asked for, by index; all of them by default.

    Returns:
        Shape [words asked for, 1 + count]: the word itself, then its neighbours, nearest first, equally near ones by
        index.
    """
    asked = np.arange(len(vectors)) if of is None else np.array(of, dtype=np.int64)
    total, kept = len(vectors), min(count, len(vectors) - 1) + 1
    columns = min(total, max(kept, _BLOCK_COLUMNS))
    rows = max(1, _BLOCK_BYTES // (8 * columns))
    found = np.empty((len(asked), kept), dtype=np.int32)
    for start in range(0, len(asked), rows):
        mine = asked[start : start + rows]
        near: NDArray[np.int64] = np.empty((len(mine), 0), dtype=np.int64)
        distances = np.empty((len(mine), 0))
        for left in range(0, total, columns):
            others = np.arange(left, min(left + columns, total))
            block = np.broadcast_to(others, (len(mine), len(others)))
            nearer = _nearest(block, _squared_distances(vectors, mine, others), kept)
            near, distances = _nearest(np.hstack([near, nearer[0]]), np.hstack([distances, nearer[1]]), kept)
        found[start : start + rows] = near
    return found


def _squared_distances(vectors: Floats, mine: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return squared distances, shape [mine, others]; that of a word to itself is below every other."""
    left, right = vectors[mine].astype(np.float64), vectors[others].astype(np.float64)
    squared: NDArray[np.float64] = left @ right.T
    squared *= -2
    squared += (left * left).sum(axis=1)[:, None]
    squared += (right * right).sum(axis=1)
    np.maximum(squared, 0, out=squared)
    own = np.flatnonzero((mine >= others[0]) & (mine <= others[-1]))
    squared[own, mine[own] - others[0]] = -1
    return squared


def _nearest(
    near: NDArray[np.int64], distances: NDArray[np.float64], kept: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the `kept` nearest of each row, in order."""
    if distances.shape[1] > kept:
        first = torch.from_numpy(distances).topk(kept, dim=1, largest=False, sorted=False).indices.numpy()
        near, distances = np.take_along_axis(near, first, axis=1), np.take_along_axis(distances, first, axis=1)
    order = np.lexsort((near, distances), axis=1)
    return np.take_along_axis(near, order, axis=1), np.take_along_axis(distances, order, axis=1)


class FileEmbedding(WordEmbedding):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's word embedding over the vectors of a file; distances are computed as it does.

    Args:
        words: The words.
        vectors: Shape [words, dimensions].
        neighbours: Their neighbours as `nearest_neighbours` returns them; None to compute each word's when asked.
    """

    def __init__(self, words: Sequence[str], vectors: Floats, neighbours: Indices | None) -> None:
        super().__init__(vectors, {word: i for i, word in enumerate(words)}, words, neighbours)
        self._asked = lru_cache(maxsize=2**16)(self._look)

    def nearest_neighbours(self, index: str | int, topn: int) -> list[int]:
        """Return the indices of a word's nearest neighbours, `NEIGHBOURS` at most."""
        number = self._word2index[index] if isinstance(index, str) else index
        near: list[int] = self._asked(number)[1 : topn + 1]
        return near

    def _look(self, number: int) -> list[int]:
        if self.nn_matrix is not None:
            return [int(near) for near in self.nn_matrix[number]]
        return [int(near) for near in nearest_neighbours(self.embedding_matrix, NEIGHBOURS, [number])[0]]


def vector_embedding(path: Path) -> FileEmbedding:
    """Return the vectors of a file for TextAttack's parts.

    Vectors and neighbours are kept in our cache under the file's hash and mapped into memory from there; one process
    computes them, others wait for it.

    Raises:
        ResourceError: The file is no file of vectors, or the cache folder cannot be written.
    """
    folder = _cached(path)
    words = json.loads((folder / "words.json").read_text(encoding="utf-8"))
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    table = folder / "neighbours.npy"
    return FileEmbedding(words, vectors, np.load(table, mmap_mode="r") if table.exists() else None)


def _cached(path: Path) -> Path:
    digest = hashlib.sha256(f"{_VERSION} {NEIGHBOURS} {path.suffix}".encode())
    with path.open("rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    target = resources.cache_folder() / "vectors" / digest.hexdigest()[:16]
    if target.is_dir():
        return target

    def fill(folder: Path) -> None:
        words, vectors = read_vectors(path)
        folder.mkdir(parents=True)
        np.save(folder / "vectors.npy", vectors)
        if len(words) <= PRECOMPUTED:
            logger.info("computing the %d nearest neighbours of %d words of %s, once", NEIGHBOURS, len(words), path)
            np.save(folder / "neighbours.npy", nearest_neighbours(vectors, NEIGHBOURS))
        (folder / "words.json").write_text(json.dumps(words, ensure_ascii=False), encoding="utf-8")

    with _locked(target):
        return resources.publish(target, fill)


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock beside a folder of the cache; `publish` words the error of a cache that cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock: AbstractContextManager[Any] = FileLock(str(target.with_name(f".{target.name}.lock")))
    except OSError:
        lock = nullcontext()
    with lock:
        yield


@lru_cache(maxsize=2)
def _loaded(path: Path, size: int, modified: int) -> Any:
    return read_table(path) if is_table(path) else vector_embedding(path)


def user_embedding() -> Any:
    """Return the embedding of the user's file, or None where TextAttack's own vectors are to be used.

    Raises:
        ResourceError: The file is neither a table of neighbours nor vectors.
    """
    file = word_file()
    if file is None:
        return None
    state = file.stat()
    return _loaded(file, state.st_size, state.st_mtime_ns)


@route("counter-fitted-vectors")
@contextmanager
def neighbours_or_vectors() -> Iterator[None]:
    """Let TextAttack's parts find the user's file where they look for the counter-fitted vectors."""
    ours = user_embedding()
    if ours is None:
        yield
        return
    with mock.patch.object(WordEmbedding, "counterfitted_GLOVE_embedding", staticmethod(lambda: ours)):
        yield


class MeanOfWords(ThoughtVector):  # type: ignore[misc]  # TextAttack is untyped
    """TextAttack's thought vectors, for texts of unknown words too: theirs is zero, where TextAttack's fails."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._known: dict[str, torch.Tensor] = {}

    def encode(self, raw_text_list: Sequence[str]) -> torch.Tensor:
        """Return the mean of each text's word vectors, shape [N, dimensions]."""
        for text in raw_text_list:
            if text not in self._known:
                found = [self.word_embedding[word] for word in words_from_text(text)]
                vectors = [vector for vector in found if vector is not None]
                unknown = np.zeros_like(self.word_embedding[0])
                self._known[text] = torch.from_numpy(np.stack(vectors or [unknown])).mean(dim=0)
        return torch.stack([self._known[text] for text in raw_text_list])

    def clear_cache(self) -> None:
        """Forget the texts of the last attempt."""
        self._known.clear()


@route("word-vectors")
@contextmanager
def thought_vectors() -> Iterator[None]:
    """Whatever the vectors are."""
    with in_recipes(ThoughtVector, MeanOfWords):
        yield
