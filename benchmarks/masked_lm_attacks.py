"""Seconds of BAE, BERT-Attack and CLARE an attempt: RobustExit's transformations and TextAttack's, over one model.

    python benchmarks/masked_lm_attacks.py MASKED_LM SST2_VALIDATION.jsonl [--recipes bae bert-attack] [--sentences 10]

MASKED_LM is a folder with a masked language model of at least 512 positions (TextAttack pads every text to that), such
as `examples/masked_lm.py` writes. The victim counts words and costs nothing, so that the time is the attack's own; all
other parts of a recipe are the same for both. The clock starts after a first attempt, which loads what is loaded once.
Beside the time stand the forward passes of the model, in rows and in padded tokens, and the candidates.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from robustexit.attacks import make_recipe, resources
from robustexit.attacks.attempt import Attacker, attempt_seed, seed_everything
from robustexit.attacks.components import masked_lm
from robustexit.attacks.components.gap_filling import clare_loads_nothing, tagger
from robustexit.attacks.components.install import in_recipes, prepared
from robustexit.attacks.textattack_api import (
    AttackedText,
    ModelWrapper,
    WordInsertionMaskedLM,
    WordMergeMaskedLM,
    WordSwapMaskedLM,
    stock_attack,
)
from robustexit.data.types import Example, Fields
from robustexit.victims.base import Trace


class WordCounter:
    """A victim whose words have fixed random weights."""

    num_exits, num_classes, exit_layers, full_depth, fingerprint = 1, 2, (1,), True, "word-counter"

    def logits(self, text: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Return the logits, shape [2]."""
        words = [int.from_bytes(hashlib.sha256(word.encode()).digest()[:2], "big") for word in text.lower().split()]
        score = sum(word / 2**16 - 0.5 for word in words)
        return np.array([-score, score], dtype=np.float32)

    def trace(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        """Return one trace a text."""
        traces = []
        for text in texts:
            logits = self.logits(next(iter(text.values())))[None]
            probabilities = torch.from_numpy(logits).softmax(-1).numpy()
            traces.append(Trace(logits, 1, probabilities[0], tokens=1, macs=1, full_macs=1, layers=1))
        return traces


class StockWrapper(ModelWrapper):  # type: ignore[misc]  # TextAttack is untyped
    """The same victim for TextAttack."""

    def __init__(self, victim: WordCounter) -> None:
        self.model = victim

    def __call__(self, texts: Sequence[str]) -> Any:
        return np.stack([self.model.logits(text) for text in texts])


def textattacks(recipe: Any, victim: WordCounter, lm: Any) -> Any:
    """TextAttack's recipe over the model; parts of speech from NLTK in the place of flair, once a text."""
    own = {"masked_language_model": lm.model, "tokenizer": lm.tokenizer}
    with ExitStack() as stack:
        stack.enter_context(prepared([need for need in recipe.needs if not need.startswith("masked-lm")]))
        for kind in (WordSwapMaskedLM, WordInsertionMaskedLM, WordMergeMaskedLM):
            stack.enter_context(in_recipes(kind, lambda kind=kind, **said: kind(**{**said, **own})))
        stack.enter_context(clare_loads_nothing())
        return stock_attack(recipe.textattack_class, StockWrapper(victim), {})


def tag_without_flair() -> None:
    """Let TextAttack's merges read tags that need no flair model."""
    tag = tagger()

    def of_word(text: Any, index: int) -> str:
        if not text._pos_tags:
            text._pos_tags = tag(text.words)
        return str(text._pos_tags[index])

    AttackedText.pos_of_word_index = of_word


@contextmanager
def counted(lm: Any) -> Iterator[Counter[str]]:
    """Count what the model is asked."""
    counts: Counter[str] = Counter()

    def count(module: Any, arguments: Any, given: dict[str, Any]) -> None:
        rows, tokens = given["input_ids"].shape
        counts.update(rows=rows, tokens=rows * tokens)

    handle = lm.model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield counts
    finally:
        handle.remove()


def timed(run: Callable[[Example], Any], examples: Sequence[Example], lm: Any) -> dict[str, Any]:
    """Run every example after a first attempt of the first one."""
    run(examples[0])
    lm.forget()
    with counted(lm) as counts:
        started = time.perf_counter()
        outcomes = Counter(run(example) for example in examples)
        seconds = (time.perf_counter() - started) / len(examples)
    return {"seconds": seconds, "outcomes": dict(outcomes), **{name: n / len(examples) for name, n in counts.items()}}


def measure(name: str, examples: Sequence[Example], victim: WordCounter) -> list[list[str]]:
    """Return the table's two lines for a recipe."""
    recipe = make_recipe(name)
    lm = masked_lm.load_masked_lm(next(need for need in recipe.needs if need.startswith("masked-lm")))
    attacker, stock = Attacker(victim, recipe), textattacks(recipe, victim, lm)

    def ours(example: Example) -> str:
        return attacker.attempt(example, dataset="sst2", seed=0).outcome

    def theirs(example: Example) -> str:
        seed_everything(attempt_seed("sst2", example.example_id, name, 0))
        return (
            type(stock.attack(OrderedDict(example.fields), example.label)).__name__.removesuffix("AttackResult").lower()
        )

    lines = []
    for who, run in (("TextAttack", theirs), ("RobustExit", ours)):
        found = timed(run, examples, lm)
        outcomes = ", ".join(f"{n} {outcome}" for outcome, n in sorted(found["outcomes"].items()))
        lines.append([name, who, f"{found['seconds']:.2f}", f"{found['rows']:.0f}", f"{found['tokens']:.0f}", outcomes])
    return lines


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("masked_lm", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipes", nargs="+", default=["bae", "bert-attack", "clare"])
    parser.add_argument("--sentences", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    resources.configure({"masked-lm": options.masked_lm, "masked-lm-roberta": options.masked_lm})
    tag_without_flair()
    victim = WordCounter()
    rows = [json.loads(line) for line in options.data.read_text(encoding="utf-8").splitlines()[: options.sentences]]
    texts = [{"text": row["text"]} for row in rows]
    answers = [trace.answer for trace in victim.trace(texts)]
    examples = [Example(row["id"], text, answer) for row, text, answer in zip(rows, texts, answers, strict=True)]
    table = Table("recipe", "transformations", "seconds an attempt", "rows", "padded tokens", "outcomes")
    for name in options.recipes:
        for line in measure(name, examples, victim):
            table.add_row(*line)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
