"""Every training regime and every head once on the same texts: accuracy of each exit, as a Markdown table.

    python benchmarks/train_regimes.py TRAIN.jsonl VALIDATION.jsonl TARGET.jsonl --labels negative,positive --out FOLDER

Trains one model after the other, each into a folder of its own; finished ones are read, unfinished ones go on where
they were. `domain-adapted` gets TARGET's texts without their labels; beside it stands the same model without
adaptation, both also measured on TARGET. `--table` prints what is finished and trains nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from robustexit.data import DataSpec, TextDataset, load_dataset_spec
from robustexit.training import TrainResult, TrainSpec, train
from robustexit.training.regimes import regimes
from robustexit.training.results import TRAINING_FILE, ExitAccuracy, read_result

ADAPTED = "domain-adapted"
OWN_REGIMES = {"attention": "frozen-self-distillation"}
"""Heads measured under the regime of the system that they come from; the others under `joint`."""
HEADS: dict[str, dict[str, Any]] = {
    "mlp": {},
    "attention": {},
    "scalar-mix": {},
    "shared": {"head": "mlp"},
    "random-projection": {},
    "binary": {},
}


@dataclass(frozen=True)
class Run:
    """One line of the table.

    Attributes:
        regime: The training regime.
        head: The head.
        head_options: Its options.
        adapts: It gets the target texts.
        on_target: It is measured on the target texts instead of the held-out ones.
    """

    regime: str
    head: str = "linear"
    head_options: dict[str, Any] = field(default_factory=dict)
    adapts: bool = False
    on_target: bool = False

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.regime}.{self.head}" + (".on-target" if self.on_target else "")


def every_run() -> list[Run]:
    """Return every regime with the linear head, then every other head."""
    first = [Run(name, adapts=name == ADAPTED) for name in sorted(regimes.names())]
    unadapted = Run("depth-weighted", on_target=True)
    others = [Run(OWN_REGIMES.get(head, "joint"), head, options) for head, options in HEADS.items()]
    return [*first, unadapted, *others]


def load(path: Path, labels: Sequence[str], sample: int | None, seed: int) -> TextDataset:
    """Return a dataset, or a stratified sample of it."""
    spec = DataSpec(path=str(path), labels=tuple(labels), sample=sample, seed=seed, duplicates="drop")
    return load_dataset_spec(spec, name=path.parent.name + "-" + path.stem, base=Path.cwd())


def percent(exits: Sequence[ExitAccuracy]) -> str:
    """Return the accuracy of each exit in per cent."""
    return " ".join(f"{100 * one.accuracy:.1f}" for one in exits)


def interval(one: ExitAccuracy) -> str:
    """Return a 95 % Wilson interval in per cent."""
    return f"{100 * one.low:.1f}-{100 * one.high:.1f}"


def lines_of(run: Run, result: TrainResult) -> list[str]:
    """Return the table's lines for one run: one for each set of texts that it was measured on."""
    options = ", ".join(f"{key}: {value}" for key, value in run.head_options.items())
    head = run.head + (f" ({options})" if options else "")
    measured = [("target" if run.on_target else "held out", result.exits), ("target", result.target_exits)]
    return [
        f"| `{run.regime}` | {head} | {where} | {percent(exits)} | {exits[0].total} | {interval(exits[0])} | "
        f"{interval(exits[-1])} | {result.seconds:.0f} |"
        for where, exits in measured
        if exits
    ]


def main() -> None:
    """Train what is not finished and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--backbone", default="embedded:minilm")
    parser.add_argument("--rows", type=int, default=2000, help="training texts")
    parser.add_argument("--target-rows", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--head-learning-rate", type=float, default=1e-3, help="where heads learn with the encoder")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--target-max-length", type=int, default=128, help="where target texts are read")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", help="names of runs (regime.head), comma-separated")
    parser.add_argument("--table", action="store_true", help="print what is finished, train nothing")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    labels = chosen.labels.split(",")
    data = load(chosen.train, labels, chosen.rows, chosen.seed)
    held_out = load(chosen.held_out, labels, None, chosen.seed)
    target = load(chosen.target, labels, chosen.target_rows, chosen.seed)
    wanted = chosen.only.split(",") if chosen.only else None

    print("| regime | head | measured on | exits 1 to K, % | n | exit 1, 95 % | exit K, 95 % | s |")
    print("|---|---|---|---|---|---|---|---|")
    for run in every_run():
        folder = chosen.out / run.name
        if (wanted and run.name not in wanted) or (chosen.table and not (folder / TRAINING_FILE).exists()):
            continue
        spec = TrainSpec(
            backbone=chosen.backbone,
            regime=run.regime,
            head=run.head,
            head_options=run.head_options,
            epochs=chosen.epochs,
            head_learning_rate=chosen.head_learning_rate,
            max_length=chosen.target_max_length if run.adapts or run.on_target else chosen.max_length,
            seed=chosen.seed,
        )
        result = (
            read_result(folder)
            if chosen.table
            else train(
                spec,
                data,
                target if run.on_target else held_out,
                folder,
                target_data=target if run.adapts else None,
                progress=False,
            )
        )
        print("\n".join(lines_of(run, result)), flush=True)


if __name__ == "__main__":
    main()
