"""Uncertain states learn to look like stored states of confident texts of their class."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from robustexit.training.losses import sum_loss, true_class_probabilities
from robustexit.training.objectives import Objective, Setting, Step
from robustexit.training.regimes.base import Regime, Stage, check_number, every_head, regimes

UNCERTAIN_WEIGHT, MIDDLE_WEIGHT = 0.5, 0.1
"""Weights of low-quality and middling anchors in CFINet's loss."""


class Projection(nn.Module):
    """Two hidden layers and a projection to the unit sphere, CFINet's.

    Args:
        width: Width of a state.
        hidden: Width of the hidden layers.
        output: Dimension of the sphere's space.
    """

    def __init__(self, width: int, hidden: int, output: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, output)
        )

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Return unit vectors, shape [rows, output]."""
        return functional.normalize(self.layers(states), dim=-1)


def imitation_loss(
    similarity: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the weighted supervised-contrastive loss.

    For each anchor the mean over its positives of -log(exp s_p / sum over positives and negatives of exp s); anchors
    without positives add nothing (Khosla et al. 2020, arXiv 2004.11362).

    Args:
        similarity: Cosine over temperature, shape [anchors, others].
        positive: Which others are positives, boolean, same shape.
        negative: Which others are negatives, boolean, same shape.
        weights: Weight of each anchor, shape [anchors].

    Returns:
        The mean over all anchors.
    """
    counted = similarity.masked_fill(~(positive | negative), -torch.inf)
    log_prob = similarity - counted.logsumexp(1, keepdim=True)
    number = positive.sum(1)
    losses = -log_prob.masked_fill(~positive, 0.0).sum(1) / number.clamp_min(1)
    return torch.where(number > 0, weights * losses, torch.zeros_like(losses)).mean()


class ExemplarImitation(Objective):
    """sum_i CE_i + weight * sum_i of the imitation loss at exit i.

    Exit i's bank holds, class by class, its last `bank` states whose true class had a probability of at least
    `confident`. Texts below that are anchors: the bank's states of their class are positives, the batch's states of
    other classes negatives.

    Args:
        weight: Weight of the imitation losses.
        temperature: Of the cosine similarities.
        bank: States kept for each exit and class.
        confident: Probability of the true class from which a state enters the bank.
        uncertain: Probability of the true class below which an anchor has the full weight.
        samples: States drawn from a bank's class in a step.
        hidden: Width of the projections' hidden layers.
        output: Dimension that states are compared in.
    """

    bank: torch.Tensor
    filled: torch.Tensor

    def __init__(
        self,
        weight: float,
        temperature: float,
        bank: int,
        confident: float,
        uncertain: float,
        samples: int,
        hidden: int,
        output: int,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = temperature
        self.size = bank
        self.confident = confident
        self.uncertain = uncertain
        self.samples = samples
        self.hidden = hidden
        self.output = output

    def start(self, setting: Setting) -> None:
        """Make empty banks and the projections."""
        model = setting.model
        exits, classes, width = model.num_exits, int(model.config.num_labels), model.config.hidden_size
        self.register_buffer("bank", torch.zeros(exits, classes, self.size, width))
        self.register_buffer("filled", torch.zeros(exits, classes, dtype=torch.int64))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(setting.seed)
            self.projections = nn.ModuleList(Projection(width, self.hidden, self.output) for _ in range(exits))

    def learned(self) -> list[nn.Parameter]:
        """Return the projections' weights."""
        return list(self.projections.parameters())

    def drawn(self, exit_: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw exemplars of every class from an exit's bank (0-based), without replacement.

        Returns:
            States [drawn, D] and their classes [drawn].
        """
        states, classes = [], []
        for class_, entered in enumerate(self.filled[exit_].tolist()):
            here = min(entered, self.size)
            places = torch.randperm(here, device=torch.device("cpu"))[: self.samples].to(self.bank.device)
            states.append(self.bank[exit_, class_, places])
            classes.append(torch.full((len(places),), class_, device=self.bank.device))
        return torch.cat(states), torch.cat(classes)

    def imitation(self, exit_: int, pooled: torch.Tensor, labels: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
        """Return the imitation loss of one exit (0-based).

        Args:
            exit_: The exit.
            pooled: Its states, shape [B, D].
            labels: Shape [B].
            truth: Probability that the exit gives to the true class, shape [B].
        """
        exemplars, classes = self.drawn(exit_)
        anchors = truth < self.confident
        if not bool(anchors.any()) or not len(exemplars):
            return pooled.new_zeros(())
        project = self.projections[exit_]
        batch, stored = project(pooled), project(exemplars)
        similarity = batch[anchors] @ torch.cat([stored, batch]).T / self.temperature
        mine = labels[anchors, None]
        same, other = mine == classes, mine != labels
        nothing = torch.zeros_like(other), torch.zeros_like(same)
        weights = torch.where(truth[anchors] < self.uncertain, UNCERTAIN_WEIGHT, MIDDLE_WEIGHT)
        return imitation_loss(
            similarity, torch.cat([same, nothing[0]], dim=1), torch.cat([nothing[1], other], dim=1), weights
        )

    def loss(self, step: Step) -> torch.Tensor:
        """Return cross-entropies and weighted imitation losses."""
        truth = self._truth(step)
        losses = [
            self.imitation(exit_, step.pooled[:, exit_], step.labels, truth[:, exit_])
            for exit_ in range(truth.shape[1])
        ]
        return sum_loss(step.logits, step.labels) + self.weight * torch.stack(losses).sum()

    @staticmethod
    def _truth(step: Step) -> torch.Tensor:
        return true_class_probabilities(step.logits.detach(), step.labels)

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Let confident states enter their banks; the oldest leave."""
        confident = self._truth(step) >= self.confident
        for row, exit_ in confident.nonzero().tolist():
            class_ = int(step.labels[row])
            self.bank[exit_, class_, int(self.filled[exit_, class_]) % self.size] = step.pooled[row, exit_].detach()
            self.filled[exit_, class_] += 1

    def facts(self) -> dict[str, Any]:
        """Return how many states stand in each exit's bank of each class."""
        return {"exemplars": self.filled.clamp_max(self.size).tolist()}


@regimes.register("exemplar-imitation")
def exemplar_imitation(
    weight: float = 0.5,
    temperature: float = 0.07,
    bank: int = 256,
    confident: float = 0.9,
    uncertain: float = 0.5,
    samples: int = 64,
    hidden: int = 512,
    output: int = 128,
) -> Regime:
    """Train all exits on labels, and pull uncertain states towards confident ones of their class.

    Feature imitation of CFINet (Yuan et al. 2023, arXiv 2308.09534), from detection to text exits: the quality of
    a state is the probability of its true class; there is a bank at every exit; confident texts are no anchors (theirs
    imitate shifted crops of themselves). The projections are thrown away after training.

    Args:
        weight: Weight of the imitation losses.
        temperature: Of the cosine similarities.
        bank: States kept for each exit and class.
        confident: Probability of the true class from which a state enters the bank.
        uncertain: Probability of the true class below which an anchor has the full weight.
        samples: States drawn from each class of a bank in a step.
        hidden: Width of the projections' hidden layers.
        output: Dimension that states are compared in.
    """
    name = "exemplar-imitation"
    check_number(name, "weight", weight, 0)
    check_number(name, "temperature", temperature, 0, above=True)
    check_number(name, "confident", confident, 0, 1)
    check_number(name, "uncertain", uncertain, 0, 1)
    for option, value in (("bank", bank), ("samples", samples), ("hidden", hidden), ("output", output)):
        check_number(name, option, value, 1, whole=True)
    objective = ExemplarImitation(weight, temperature, bank, confident, uncertain, samples, hidden, output)
    return Regime(name, "CFINet (Yuan et al. 2023), at exits", (Stage(name, True, every_head, objective),))
