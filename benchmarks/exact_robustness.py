"""Exact robustness to every single character edit, and how much of it heuristic attacks find: a Markdown table.

    python benchmarks/exact_robustness.py DATA.jsonl --labels negative,positive --model MODEL --threads 2
    python benchmarks/exact_robustness.py DATA.jsonl --labels negative,positive --train TRAIN.jsonl --out FOLDER

A seeded half of DATA calibrates the entropy policy; seeded sentences of the other half, of at most `--max-words` words,
are attacked, under early exit and at full depth. The set is `any-character-edit`, the space of DeepWordBug. The exact
search asks for all of its texts, so that its robust accuracy is no estimate for these sentences and its score the best
there is. Beside it, on the same sentences: TextAttack's greedy search on the whole set and the same with words in
random order, and DeepWordBug (four random edits of a word, no stop words), held to as many edits, again in both orders.
Models that do not tell upper from lower case get small letters only: the same inputs in half the texts.
"""

from __future__ import annotations

import argparse
import string
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from robustexit.attacks import make_recipe
from robustexit.attacks.attempt import Attacker, AttemptResult
from robustexit.attacks.components.install import prepared
from robustexit.attacks.recipes import Recipe
from robustexit.attacks.recipes.assemble import assembled
from robustexit.attacks.sets import make_set
from robustexit.attacks.sets.optimum import SKIPPED, SUCCEEDED, exact_robust_accuracy, score_share, share_of_optimum
from robustexit.attacks.textattack_api import stock_attack, textattack
from robustexit.data import DataSpec, TextDataset, load_dataset_spec, split_half, stratified_sample
from robustexit.exits import Target, calibrate
from robustexit.measures.base import Estimate
from robustexit.models import load_model
from robustexit.training import TrainSpec, train
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

EXACT = "exact"


def deepwordbug(edits: int, search: str) -> Recipe:
    """Return DeepWordBug that changes so many words at most."""

    def assemble(recipe: Recipe, goal_function: Any, protected: tuple[str, ...]) -> Any:
        with prepared(recipe.needs):
            built = stock_attack(recipe.textattack_class, goal_function.model, {})
        limit = textattack.constraints.pre_transformation.MaxNumWordsModified(max_num_words=edits)
        constraints = [*built.constraints, *built.pre_transformation_constraints, limit]
        return assembled(recipe, goal_function, constraints, built.transformation, built.search_method, protected)

    return replace(make_recipe("deepwordbug", search=search), assemble=assemble)


def contenders(edits: int, letters: str, first: bool) -> dict[str, Recipe]:
    """Return the searches by what the table calls them, the exact one first."""
    chosen = make_recipe("set-any-character-edit", edits=edits, letters=letters, max_texts=10**6)
    return {
        EXACT: chosen.with_parameters(search="exhaustive" if first else "exhaustive-best"),
        "greedy on the set": chosen,
        "greedy on the set, random order": chosen.with_parameters(search="random-order"),
        "deepwordbug": deepwordbug(edits, "own"),
        "deepwordbug, random order": deepwordbug(edits, "random-order"),
    }


def letters_for(deployed: DeployedModel) -> str:
    """Return the letters to put in: small ones where the tokenizer makes the same of both cases."""
    first, second = (deployed.tokenizer(letters)["input_ids"] for letters in ("ab cd EF", "AB cd ef"))
    return string.ascii_lowercase if first == second else string.ascii_letters


def attack_all(victim: ModelVictim, recipe: Recipe, data: TextDataset, seed: int) -> dict[str, AttemptResult]:
    """Return one attempt an example, by its id."""
    attacker = Attacker(victim, recipe, "deployed", field_names=data.field_names)
    return {e.example_id: attacker.attempt(e, dataset=data.name, seed=seed) for e in data.examples}


def scores(victim: ModelVictim, found: dict[str, AttemptResult], data: TextDataset) -> dict[str, float]:
    """Return 1 - p_y on the final text of every attack that began, by example id."""
    begun = [e for e in data.examples if found[e.example_id].outcome != SKIPPED]
    traces = victim.trace([found[e.example_id].text_attacked for e in begun])
    return {e.example_id: 1 - float(t.probabilities[e.label]) for e, t in zip(begun, traces, strict=True)}


def percent(estimate: Estimate) -> str:
    """Return a share in per cent with its interval and n."""
    if not estimate.defined:
        return f"- (n = {estimate.n})"
    interval = "" if estimate.low is None else f" [{100 * estimate.low:.1f}, {100 * (estimate.high or 0):.1f}]"
    return f"{100 * estimate.value:.1f}{interval} (n = {estimate.n})"


def table(victim: ModelVictim, data: TextDataset, recipes: dict[str, Recipe], seed: int) -> list[str]:
    """Attack with every contender; return the table's lines."""
    lines = [
        "| search | accuracy under attack, % [95 %] | successes | share of the optimum, % [95 %] | "
        "score over the best, % [95 %] | texts asked, mean | s |",
        "|---|---|---|---|---|---|---|",
    ]
    exact: dict[str, str] = {}
    best: dict[str, float] = {}
    for name, recipe in recipes.items():
        started = time.perf_counter()
        found = attack_all(victim, recipe, data, seed)
        seconds = time.perf_counter() - started
        errors = [result.error for result in found.values() if result.error]
        if errors:
            raise SystemExit(f"{name}: {len(errors)} attempts failed to run, the first with {errors[0]}")
        outcomes = {example: result.outcome for example, result in found.items()}
        reached = scores(victim, found, data)
        if name == EXACT:
            exact, best = outcomes, reached
        asked = [result.forwards for result in found.values() if result.outcome != SKIPPED]
        whole = recipes[EXACT].search == "exhaustive-best"
        lines.append(
            f"| {name} | {percent(exact_robust_accuracy(list(outcomes.values())))} | "
            f"{sum(outcome == SUCCEEDED for outcome in outcomes.values())} | "
            f"{percent(share_of_optimum(outcomes, exact))} | {percent(score_share(reached, best)) if whole else '-'} | "
            f"{sum(asked) / max(len(asked), 1):.0f} | {seconds:.0f} |"
        )
    return lines


def load(path: Path, labels: str, sample: int | None = None, seed: int = 0) -> TextDataset:
    """Return a dataset, or a stratified sample of it."""
    spec = DataSpec(path=str(path), labels=tuple(labels.split(",")), sample=sample, seed=seed, duplicates="drop")
    return load_dataset_spec(spec, name=f"{path.parent.name}-{path.stem}", base=Path.cwd())


def trained(chosen: argparse.Namespace) -> str:
    """Train a model into the folder asked for, or go on with it, and return the folder."""
    if chosen.train is None or chosen.out is None:
        raise SystemExit("give --model, or --train and --out")
    data = load(chosen.train, chosen.labels, chosen.rows, chosen.seed)
    train(TrainSpec(backbone=chosen.backbone, max_length=64, seed=chosen.seed), data, None, chosen.out, progress=False)
    return str(chosen.out)


def main() -> None:
    """Print one table a victim."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--model")
    parser.add_argument("--train", type=Path)
    parser.add_argument("--out", type=Path, help="folder of the model to train")
    parser.add_argument("--backbone", default="embedded:minilm")
    parser.add_argument("--rows", type=int, default=6000, help="training texts")
    parser.add_argument("--sentences", type=int, default=50)
    parser.add_argument("--max-words", type=int, default=15)
    parser.add_argument("--edits", type=int, default=1)
    parser.add_argument("--speedup", type=float, default=1.5, help="of the entropy policy, on the held-out half")
    parser.add_argument("--first", action="store_true", help="the exact search ends at the first success: no scores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    held_out, rest = split_half(load(chosen.data, chosen.labels), seed=chosen.seed)
    short = [e for e in rest.examples if sum(len(text.split()) for text in e.fields.values()) <= chosen.max_words]
    data = stratified_sample(rest.with_examples(tuple(short)), chosen.sentences, seed=chosen.seed)
    deployed = DeployedModel(load_model(chosen.model or trained(chosen)))
    entropy = calibrate("entropy", Target(speedup=chosen.speedup), collect_outputs(deployed, held_out).held_out())
    letters = letters_for(deployed)
    whole = make_set("any-character-edit", edits=chosen.edits, letters=letters)
    texts = sum(whole.around(e.fields).size for e in data.examples)
    print(
        f"{len(data)} sentences of {data.name}, at most {chosen.max_words} words (seed {chosen.seed}); "
        f"{texts:,} texts in the set ({len(letters)} letters, edits = {chosen.edits}); "
        f"{chosen.threads} thread(s), torch {torch.__version__}",
        flush=True,
    )
    victims = {
        f"entropy, {entropy.reached_speedup:.2f}x on the held-out half": ModelVictim(deployed, entropy.make()),
        "full depth": ModelVictim(deployed),
    }
    for name, victim in victims.items():
        lines = table(victim, data, contenders(chosen.edits, letters, chosen.first), chosen.seed)
        print("\n".join(["", f"**{name}**", "", *lines]), flush=True)


if __name__ == "__main__":
    main()
