"""CascadeBERT's difficulty-aware ranking of confidences."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from robustexit.training.losses import sum_loss
from robustexit.training.objectives import Objective, Setting, Step
from robustexit.training.regimes.base import Regime, Stage, check_number, every_head, regimes

RIDGE = 1e-3
"""Penalty of the probes that measure difficulty, as a share of the states' mean square."""


def held_out_answers(
    states: NDArray[np.float32], labels: NDArray[np.int64], folds: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Return the answer to every text of a least-squares probe that has not seen its fold.

    Args:
        states: Shape [N, D].
        labels: Shape [N].
        folds: Parts that the texts are dealt into.
        generator: Deals them.

    Returns:
        Class indices, shape [N].
    """
    inputs = np.concatenate([states, np.ones((len(states), 1))], axis=1, dtype=np.float64)
    targets = np.eye(int(labels.max()) + 1)[labels]
    fold = generator.permutation(np.arange(len(labels)) % folds)
    parts = [
        (inputs[fold == part].T @ inputs[fold == part], inputs[fold == part].T @ targets[fold == part])
        for part in range(folds)
    ]
    squares, products = sum(square for square, _ in parts), sum(product for _, product in parts)
    penalty = RIDGE * np.trace(squares) / len(squares) * np.eye(len(squares))
    answers = np.empty_like(labels)
    for part, (square, product) in enumerate(parts):
        weights = np.linalg.solve(squares - square + penalty, products - product)
        answers[fold == part] = (inputs[fold == part] @ weights).argmax(1)
    return answers


def measure_difficulty(
    states: NDArray[np.float32], labels: NDArray[np.int64], models: int, folds: int, seed: int
) -> NDArray[np.bool_]:
    """Return which texts are hard for which exit: at least half of the probes that had not seen them are wrong.

    Args:
        states: Pooled states, shape [N, K, D].
        labels: Shape [N].
        models: Probes a text is judged by, each with folds of its own.
        folds: Parts that the texts are dealt into.
        seed: Seeds the dealing.

    Returns:
        Shape [N, K].
    """
    wrong = np.zeros(states.shape[:2], dtype=np.int64)
    for exit_ in range(states.shape[1]):
        mine = np.asarray(states[:, exit_])
        for model in range(models):
            generator = np.random.default_rng([seed, model])
            wrong[:, exit_] += held_out_answers(mine, labels, min(folds, len(labels)), generator) != labels
    return 2 * wrong >= models


def ranking_loss(confidence: torch.Tensor, hard: torch.Tensor, margin: float) -> torch.Tensor:
    """Return the mean of max(0, margin - (confidence of an easy text - that of a hard one)).

    Every easy text is set against a hard one drawn at random, with replacement.

    Args:
        confidence: Shape [B].
        hard: Shape [B], boolean.
        margin: How far apart they shall be.

    Returns:
        A scalar; 0 where all texts are easy or all are hard.
    """
    easy, rivals = confidence[~hard], confidence[hard]
    if not len(easy) or not len(rivals):
        return confidence.new_zeros(())
    drawn = torch.randint(len(rivals), (len(easy),), device=torch.device("cpu")).to(rivals.device)
    return functional.relu(margin - (easy - rivals[drawn])).mean()


class RankingCalibration(Objective):
    """sum_i CE_i + weight * sum_{i<K} of the ranking loss on exit i's largest probability.

    Args:
        weight: Weight of the ranking losses.
        margin: Margin of the ranking losses.
        models: Probes that judge a text's difficulty.
        folds: Cross-fitting parts of a probe.
    """

    hard: torch.Tensor

    def __init__(self, weight: float, margin: float, models: int, folds: int) -> None:
        super().__init__()
        self.weight = weight
        self.margin = margin
        self.models = models
        self.folds = folds

    def start(self, setting: Setting) -> None:
        """Measure every training text's difficulty at every exit."""
        states = setting.states()[:, : setting.model.num_exits - 1]
        hard = measure_difficulty(states, setting.labels, self.models, self.folds, setting.seed)
        self.register_buffer("hard", torch.from_numpy(hard), persistent=False)

    def loss(self, step: Step) -> torch.Tensor:
        """Return cross-entropies and weighted ranking losses."""
        confidence = functional.softmax(step.logits[:, :-1], dim=-1).amax(-1)
        hard = self.hard[step.batch.rows]
        ranks = [ranking_loss(confidence[:, exit_], hard[:, exit_], self.margin) for exit_ in range(hard.shape[1])]
        return sum_loss(step.logits, step.labels) + self.weight * torch.stack(ranks).sum()

    def facts(self) -> dict[str, Any]:
        """Return the share of hard texts at every exit but the last."""
        return {"hard_share": self.hard.float().mean(0).tolist()}


@regimes.register("ranking-calibration")
def ranking_calibration(weight: float = 0.5, margin: float = 0.5, models: int = 5, folds: int = 5) -> Regime:
    """Train all exits on labels and on a ranking: easy texts get more confidence than hard ones.

    CascadeBERT (Li et al. 2021, arXiv 2012.14682), whose cascade of whole models is here the sequence of exits:
    every exit but the last is ranked. Difficulty is measured before training by models that have not seen the text,
    five of them and on two levels as in the paper; here they are least-squares probes on each exit's states under the
    pretrained encoder instead of fine-tuned small models.

    Args:
        weight: Weight of the ranking losses.
        margin: How much more confidence an easy text shall have.
        models: Probes that judge a text; it is hard if at least half are wrong.
        folds: Parts that each probe is cross-fitted on.
    """
    name = "ranking-calibration"
    check_number(name, "weight", weight, 0)
    check_number(name, "margin", margin, 0, 1)
    check_number(name, "models", models, 1, whole=True)
    check_number(name, "folds", folds, 2, whole=True)
    objective = RankingCalibration(weight, margin, models, folds)
    return Regime(name, "CascadeBERT (Li et al. 2021)", (Stage(name, True, every_head, objective),), min_exits=2)
