"""The cosine of an exit's state to stored states of confident texts of the class that it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from robustexit.errors import ConfigError
from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import row_linear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.parameters import require_between, require_count
from robustexit.tensors import own_copy
from robustexit.training.losses import true_class_probabilities

NO_EXEMPLAR = -1.0
"""What stands for the cosine where a class has no exemplar at an exit: the smallest cosine, far from everything."""

_WHERE = "post-hoc module 'exemplar-bank'"


@dataclass(frozen=True)
class ExemplarBankSettings:
    """What is stored and how it is compared.

    Attributes:
        bank_size: States kept for each exit and class, at most.
        confident: Probability of the true class from which a state may enter its bank.
        nearest: The cosine is the mean over that many nearest exemplars (over all of a bank that holds fewer).
    """

    bank_size: int = 256
    confident: float = 0.9
    nearest: int = 1

    def __post_init__(self) -> None:
        """Check the values."""
        require_count(_WHERE, "bank_size", self.bank_size)
        require_between(_WHERE, "confident", self.confident, 0, 1)
        require_count(_WHERE, "nearest", self.nearest)


@modules.register("exemplar-bank")
class ExemplarBank(ExitModule):
    """cos(h_i, e) to the nearest exemplar e of the class that exit i answers, as the scalar ``cosine``.

    The bank of an exit and class holds pooled states of the fit's texts of that class that the exit answers rightly,
    with a probability of at least `confident`: the quality and the bank of the training regime exemplar-imitation,
    after CFINet (Yuan et al. 2023, ICCV, arXiv 2308.09534). Where more texts qualify than a bank holds, a seeded draw
    decides, as the last of a shuffled pass would stay in CFINet's queue. CFINet uses its bank in training alone, in a
    learned projection that is thrown away; as an exit score, on the states themselves, it is this project's reading.
    An answer whose class has no exemplar at the exit has cosine -1. Logits stay the head's.
    """

    name: ClassVar[str] = "exemplar-bank"
    source: ClassVar[str] = "the exemplars of CFINet, Yuan et al. 2023, ICCV, arXiv 2308.09534, as an exit score"
    Settings = ExemplarBankSettings

    bank: torch.Tensor
    filled: torch.Tensor

    def __init__(self, shape: ModuleShape, settings: ExemplarBankSettings) -> None:
        super().__init__(shape, settings)
        exits, classes = shape.num_exits, shape.num_classes
        # Unit vectors, a class's first ones filled; as long as the fullest class needs, which the fit finds out.
        self.register_buffer("bank", torch.zeros(exits, classes, 0, shape.width))
        self.register_buffer("filled", torch.zeros(exits, classes, dtype=torch.int64))

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the head's own logits and the cosine (a zero state has cosine 0 with any exemplar)."""
        unit, answer = functional.normalize(pooled, dim=-1), logits.argmax(dim=-1)
        cosine = torch.full((len(pooled),), NO_EXEMPLAR)
        for class_ in sorted(set(answer.tolist())):
            exemplars = self.bank[exit - 1, class_, : self.filled[exit - 1, class_]]
            if len(exemplars):
                best = row_linear(unit, exemplars).topk(min(self.settings.nearest, len(exemplars)), dim=-1).values
                cosine = torch.where(answer == class_, best.mean(dim=-1).clamp(-1, 1), cosine)
        return Reading(state, logits, {"cosine": cosine})

    def macs(self) -> NDArray[np.int64]:
        """Inner products with every exemplar of one class: those of the class that has most at the exit."""
        most: NDArray[np.int64] = self.filled.amax(dim=1).numpy() * self.shape.width
        return most

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fill the banks.

        Raises:
            ConfigError: No exit answers any text rightly and with that confidence.
        """
        logits, labels = own_copy(data.logits), own_copy(data.labels)
        right = logits.argmax(dim=-1) == labels[:, None]
        qualified = right & (true_class_probabilities(logits, labels) >= self.settings.confident)
        generator = torch.Generator().manual_seed(seed)
        drawn: dict[tuple[int, int], torch.Tensor] = {}
        for exit in range(self.shape.num_exits):
            for class_ in range(self.shape.num_classes):
                rows = torch.nonzero(qualified[:, exit] & (labels == class_)).flatten()
                rows = rows[torch.randperm(len(rows), generator=generator)[: self.settings.bank_size]]
                drawn[exit, class_] = rows.sort().values
        fullest = max(len(rows) for rows in drawn.values())
        if fullest == 0:
            raise ConfigError(
                f"{_WHERE}: no exit gives the true class of any of {len(labels)} texts a probability of "
                f"{self.settings.confident:g}; lower confident or fit on other data"
            )
        self.bank = torch.zeros(*self.filled.shape, fullest, self.shape.width)
        for (exit, class_), rows in drawn.items():
            states = own_copy(data.pooled[rows.numpy(), exit])
            self.bank[exit, class_, : len(rows)] = functional.normalize(states, dim=-1)
            self.filled[exit, class_] = len(rows)
        filled = self.filled.double()
        return {"exemplars": float(filled.mean()), "empty_share": float((filled == 0).double().mean())}
