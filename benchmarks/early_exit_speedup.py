"""True early exit: wall-clock speed-up of the layer-skipping forward, beside the ratio of layers.

    python benchmarks/early_exit_speedup.py MODEL DATA.jsonl --labels negative,positive --threads 1

For mean exits near those asked for, thresholds on the largest class probability are tuned on the texts themselves
(speed is measured, not accuracy). Both contenders get the same padded batches; encoding is not timed. Passes over all
texts alternate between full depth and early exit, `--repeats` times; the median is shown, with the quartiles of the
paired ratios. The layer ratio is layers of the model over the mean of layers run for a text up to its exit; the share
is speed-up over layer ratio.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from robustexit.data import DataSpec, load_dataset_spec
from robustexit.exits import ExitPolicy, make_policy, replay, run_policy
from robustexit.models import load_model
from robustexit.victims.encoding import Batch, min_rows
from robustexit.victims.model_victim import DeployedModel
from robustexit.victims.outputs import collect_outputs


def one_pass(deployed: DeployedModel, batches: list[Batch], policy: ExitPolicy) -> tuple[float, list[int]]:
    """Return the seconds of one pass over all batches, and the exits taken."""
    shape = (deployed.shape.num_exits, deployed.shape.num_classes)
    exits: list[int] = []
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            results = run_policy(
                deployed.forward(batch),
                policy,
                rows=len(batch.positions),
                batch_rows=batch.rows,
                shape=shape,
                min_rows=min_rows(batch.length),
            )
            exits += [result.exit for result in results]
    return time.perf_counter() - started, exits


def threshold_for(logits: np.ndarray, mean_exit: float) -> ExitPolicy:
    """Return the max-probability policy whose mean exit on these logits is nearest to the one asked for."""
    candidates = [make_policy("max-probability", t=float(t)) for t in 1 - np.geomspace(1e-5, 0.5, 120)]
    return min(candidates, key=lambda policy: abs(float(replay(policy, logits).exit.mean()) - mean_exit))


def main() -> None:
    """Print one line a batch size and mean exit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--labels", required=True)
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--sizes", default="1,8,32")
    parser.add_argument("--exits", default="2,3,4", help="mean exits to aim at")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    spec = DataSpec(path=str(arguments.data), labels=tuple(arguments.labels.split(",")))
    data = load_dataset_spec(spec, name=arguments.data.stem, base=Path.cwd())
    data = data.with_examples(data.examples[: arguments.texts])
    deployed = DeployedModel(load_model(arguments.model))
    layers = np.asarray(deployed.shape.exit_layers)
    logits = collect_outputs(deployed, data).logits
    full = make_policy("fixed")
    print(f"{len(data)} texts of {data.name}, {layers[-1]} layers, {arguments.threads} thread(s)")
    print("batch  mean exit  layer ratio  full ms  early ms  speed-up [quartiles]  share of layer ratio")
    for size in map(int, arguments.sizes.split(",")):
        batches = deployed.batches(deployed.encode(data.texts), at_most=size)
        for wanted in map(float, arguments.exits.split(",")):
            policy = threshold_for(logits, wanted)
            one_pass(deployed, batches, policy), one_pass(deployed, batches, full)
            pairs = np.array(
                [
                    (one_pass(deployed, batches, full)[0], one_pass(deployed, batches, policy)[0])
                    for _ in range(arguments.repeats)
                ]
            )
            exits = np.asarray(one_pass(deployed, batches, policy)[1])
            ratio = float(layers[-1] / layers[exits - 1].mean())
            full_ms, early_ms = 1000 * np.median(pairs, axis=0)
            speedups = pairs[:, 0] / pairs[:, 1]
            low, middle, high = np.quantile(speedups, [0.25, 0.5, 0.75])
            print(
                f"{size:5d}  {exits.mean():9.2f}  {ratio:11.2f}  {full_ms:7.0f}  {early_ms:8.0f}  "
                f"{middle:8.2f} [{low:.2f}, {high:.2f}]  {100 * middle / ratio:19.0f} %"
            )


if __name__ == "__main__":
    main()
