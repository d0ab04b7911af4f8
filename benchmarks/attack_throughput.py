"""Attempts per second of RobustExit and of stock TextAttack on the same sentences, in one run.

    python benchmarks/attack_throughput.py MODEL SST2_VALIDATION.jsonl [--recipe deepwordbug] [--sentences 30]

MODEL is a folder that `robustexit train` wrote (its encoder layers at full depth are what every contender runs).
Contenders: RobustExit at full depth; RobustExit with an entropy policy near 1.5x; stock TextAttack with its own
`HuggingFaceModelWrapper`, which pads every query to the tokenizer's limit; stock TextAttack with a wrapper that pads to
the batch. One process and one thread count for all; the model and TextAttack are loaded before the clock starts.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from robustexit.attacks.attempt import Attacker, attempt_seed, seed_everything
from robustexit.attacks.components.install import prepared
from robustexit.attacks.textattack_api import textattack
from robustexit.data import DataSpec, TextDataset, load_dataset_spec
from robustexit.exits import Target, calibrate
from robustexit.models import load_model
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

CLASSES = {"deepwordbug": "DeepWordBugGao2018", "pwws": "PWWSRen2019", "pruthi": "Pruthi2019"}


class FullDepth(torch.nn.Module):
    """The multi-exit model as an ordinary classifier: all layers, last head."""

    def __init__(self, victim: ModelVictim) -> None:
        super().__init__()
        self.inner = victim.deployed.model

    def forward(self, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        """Return the last exit's logits."""
        run = self.inner.layerwise(**inputs)
        for _ in range(self.inner.num_exits):
            output = run.advance()
        return SequenceClassifierOutput(logits=output.logits)


def stock_wrapper(victim: ModelVictim) -> object:
    """TextAttack's own wrapper: every query padded to the tokenizer's limit."""
    return textattack.models.wrappers.HuggingFaceModelWrapper(_as_pretrained(victim), victim.deployed.tokenizer)


def _as_pretrained(victim: ModelVictim) -> torch.nn.Module:
    """The wrapper insists on a Hugging Face class; give the plain module that class's name."""

    class Plain(FullDepth, PreTrainedModel):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)
            self.inner = victim.deployed.model
            self.config = victim.deployed.model.config

        @property
        def device(self) -> torch.device:
            return next(self.inner.parameters()).device

    return Plain()


def batch_padding_wrapper(victim: ModelVictim) -> object:
    """A wrapper that pads to the longest text of the batch."""
    model, tokenizer = FullDepth(victim), victim.deployed.tokenizer

    class PadToBatch(textattack.models.wrappers.ModelWrapper):
        def __init__(self) -> None:
            self.model = model

        def __call__(self, texts: list[str]) -> torch.Tensor:
            inputs = tokenizer(
                texts, padding=True, truncation=True, max_length=victim.deployed.max_length, return_tensors="pt"
            )
            with torch.no_grad():
                return model(**inputs).logits

    return PadToBatch()


def ours(victim: ModelVictim, recipe: str, data: TextDataset) -> Callable[[], list[tuple[str, int]]]:
    """Attack every sentence with RobustExit."""
    attacker = Attacker(victim, recipe, "deployed", field_names=data.field_names)

    def run() -> list[tuple[str, int]]:
        results = [attacker.attempt(example, dataset="sst2", seed=0) for example in data.examples]
        return [(result.outcome, result.queries) for result in results]

    return run


def stock(wrapper: object, recipe: str, data: TextDataset) -> Callable[[], list[tuple[str, int]]]:
    """Attack every sentence with the stock recipe, seeded as RobustExit seeds."""
    with prepared(("stopwords", "wordnet") if recipe == "pwws" else ("stopwords",)):
        attack = getattr(textattack.attack_recipes, CLASSES[recipe]).build(wrapper)

    def run() -> list[tuple[str, int]]:
        found = []
        for example in data.examples:
            seed_everything(attempt_seed("sst2", example.example_id, recipe, 0))
            result = attack.attack(example.fields["text"], example.label)
            found.append((type(result).__name__.removesuffix("AttackResult").lower(), result.num_queries))
        return found

    return run


def main() -> None:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipe", default="deepwordbug", choices=sorted(CLASSES))
    parser.add_argument("--sentences", type=int, default=30)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = DataSpec(path=str(arguments.data), labels=("negative", "positive"))
    whole = load_dataset_spec(spec, name="sst2", base=Path.cwd())
    data = whole.with_examples(whole.examples[: arguments.sentences])
    held_out = whole.with_examples(whole.examples[-400:])
    deployed = DeployedModel(load_model(arguments.model))
    full = ModelVictim(deployed)
    found = calibrate("entropy", Target(speedup=1.5), collect_outputs(deployed, held_out).held_out())
    early = ModelVictim(deployed, found.make())
    contenders = {
        "stock TextAttack, its wrapper": stock(stock_wrapper(full), arguments.recipe, data),
        "stock TextAttack, padded to the batch": stock(batch_padding_wrapper(full), arguments.recipe, data),
        "RobustExit, full depth": ours(full, arguments.recipe, data),
        f"RobustExit, entropy at {found.reached_speedup:.2f}x": ours(early, arguments.recipe, data),
    }
    table = Table(
        "contender", "attempts/s", "seconds", "queries", "succeeded", title=f"{arguments.recipe}, {len(data)} sentences"
    )
    for name, run in contenders.items():
        started = time.perf_counter()
        results = run()
        seconds = time.perf_counter() - started
        succeeded = sum(outcome in ("succeeded", "successful") for outcome, _ in results)
        queries = sum(count for _, count in results)
        table.add_row(name, f"{len(data) / seconds:.2f}", f"{seconds:.1f}", str(queries), str(succeeded))
    Console(width=110).print(table)
    print(f"threads {torch.get_num_threads()}, torch {torch.__version__}")


if __name__ == "__main__":
    main()
