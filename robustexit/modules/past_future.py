"""Past-Future: an exit answers from all states it has seen and from the deeper ones that it imagines."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional
from typing_extensions import Self

from robustexit.errors import ModelError
from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import RowLinear, row_product
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings, require_positive
from robustexit.modules.fitting import as_tensors, minimise
from robustexit.parameters import require_between

_ORIGINAL = {
    "pred_layer.weight": "imagine_weight",
    "pred_layer.bias": "imagine_bias",
    "classifiers.weight": "weight",
    "classifiers.bias": "bias",
    "classifiers.gate_proj.weight": "gate.weight",
    "classifiers.gate_proj.bias": "gate.bias",
}
_PREFIX = re.compile(r"^(module\.)?(bert\.|roberta\.|albert\.)?")


@dataclass(frozen=True)
class PastFutureSettings(FitSettings):
    """How the module is built and fitted.

    Attributes:
        pooler: h_i = tanh(P_i x_i + c_i) of the pooled state x_i, a pooler of its own at every exit as in the authors'
            BERT; False takes h_i = x_i, for heads that read a pooler's output already.
        dropout: On the states that the classifiers read, during the fit (``hidden_dropout_prob``).
        initializer_range: Standard deviation of the first weights.
        epochs: Passes over the data; like the two rates below as Zero Time Waste's authors fit it on a frozen BERT.
        batch_size: Texts a step (they took 32; larger ones are three times faster on one core).
        learning_rate: Peak rate.
        weight_decay: Decoupled weight decay.
    """

    where: ClassVar[str] = "post-hoc module 'past-future'"

    pooler: bool = True
    dropout: float = 0.1
    initializer_range: float = 0.02
    epochs: int = 5
    batch_size: int = 128
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        require_between(self.where, "dropout", self.dropout, 0, 0.99)
        require_positive(self.where, "initializer_range", self.initializer_range)
        require_between(self.where, "weight_decay", self.weight_decay, 0, math.inf)


@modules.register("past-future")
class PastFuture(ExitModule):
    """z_i = 2 l_i * sum_{k<=i} (W_k h_k + b_k) + 2 (1 - l_i) * sum_{k>i} (W_k f_ik + b_k), one gate l_i a class.

    f_ik = tanh(h_i A_k + a_k) is the state of exit k that exit i imagines, and
    l_i = sigmoid(G tanh(mean_{k<=i} (V_k h_k + v_k)) + g). The last exit imagines nothing but keeps its gate. The
    loss is (sum_i i CE_i / sum_i i + I) / 2 with I the mean over i < K of the mean 1 - cos(f_ik, h_k) over k > i;
    an exit's loss reaches neither the states of the exits before it nor the states that others imagine.

    Global Past-Future Early Exit (Liao et al. 2021, NAACL, aclanthology 2021.naacl-main.162), after the authors'
    code, where it is trained together with the encoder; here on frozen states. Their tensors and this module's
    (see `from_original`), with C2 = 2 C, first the columns of W_k, then those of V_k:

    | original | here | shape |
    |---|---|---|
    | ``bert.poolers.{i}.dense.*`` (ALBERT: ``albert.pooler.*`` for every i) | ``poolers.{i}.*`` | [D, D], [D] |
    | ``bert.pred_layer.weight``, ``.bias`` | ``imagine_weight``, ``imagine_bias`` | [K, D, D], [K, D] |
    | ``classifiers.weight``, ``.bias`` | ``weight``, ``bias`` | [K, D, C2], [K, C2] |
    | ``classifiers.gate_proj.weight``, ``.bias`` | ``gate.weight``, ``gate.bias`` | [C, C], [C] |
    """

    name: ClassVar[str] = "past-future"
    source: ClassVar[str] = "Global Past-Future Early Exit, Liao et al. 2021, NAACL"
    Settings = PastFutureSettings

    def __init__(self, shape: ModuleShape, settings: PastFutureSettings) -> None:
        super().__init__(shape, settings)
        exits, width, classes = shape.num_exits, shape.width, shape.num_classes
        self.poolers = nn.ModuleList(RowLinear(width, width) for _ in range(exits if settings.pooler else 0))
        self.imagine_weight = nn.Parameter(torch.empty(exits, width, width))
        self.imagine_bias = nn.Parameter(torch.zeros(exits, width))
        self.weight = nn.Parameter(torch.empty(exits, width, 2 * classes))
        self.bias = nn.Parameter(torch.zeros(exits, 2 * classes))
        self.gate = RowLinear(classes, classes)
        for parameter in self.parameters():  # biases start at zero, in linear layers too
            if parameter.ndim > 1 and parameter is not self.imagine_bias and parameter is not self.bias:
                nn.init.normal_(parameter, std=settings.initializer_range)
            else:
                nn.init.zeros_(parameter)

    @classmethod
    def from_original(cls, tensors: Mapping[str, torch.Tensor], shape: ModuleShape) -> Self:
        """Build the module from tensors of the authors' checkpoints.

        Args:
            tensors: By their original names (table above), with or without ``bert.``, ``roberta.`` or ``albert.``
                in front; others are left aside. Without poolers the heads' states are taken as pooled already.
            shape: The model's shape.

        Raises:
            ModelError: A tensor is missing, or of another shape.
        """
        given = {_PREFIX.sub("", name): value.detach().float().cpu() for name, value in tensors.items()}
        own_poolers = any(name.startswith("poolers.") for name in given)
        pooler = own_poolers or "pooler.weight" in given
        found = {ours: given[theirs] for theirs, ours in _ORIGINAL.items() if theirs in given}
        missing = [theirs for theirs in _ORIGINAL if theirs not in given]
        for index in range(shape.num_exits if pooler else 0):
            for part in ("weight", "bias"):
                theirs = f"poolers.{index}.dense.{part}" if own_poolers else f"pooler.{part}"
                if theirs in given:
                    found[f"poolers.{index}.{part}"] = given[theirs].clone()
                else:
                    missing.append(theirs)
        if missing:
            absent = ", ".join(missing)
            raise ModelError(f"{cls.Settings.where}: the checkpoint lacks {absent}; expected one of the authors' own")
        module = cls(shape, PastFutureSettings(pooler=pooler))
        try:
            module.load_state_dict(found)
        except RuntimeError as error:
            raise ModelError(f"{cls.Settings.where}: the checkpoint does not fit {shape} ({error})") from error
        module.requires_grad_(False)
        module.train(False)
        return module

    def start(self, rows: int) -> State:
        """Nothing summed yet."""
        return {"past": torch.zeros(rows, 2 * self.shape.num_classes)}

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return z_i; nothing else is told to the policy."""
        index = exit - 1
        here = self._pool(index, pooled)
        past = state["past"] + row_product(here, self.weight[index]) + self.bias[index]
        future = self._score(self._imagine(index, here), index + 1)
        return Reading({"past": past}, self._mix(past, future, exit), {})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Fit poolers, imagination, classifiers and gate together."""
        pooled, _, labels = as_tensors(data)
        settings: PastFutureSettings = self.settings
        last = {"classification": 0.0, "imitation": 0.0}

        def loss(rows: torch.Tensor) -> torch.Tensor:
            classification, imitation = self._losses(pooled[rows], labels[rows])
            last.update(classification=float(classification.detach()), imitation=float(imitation.detach()))
            return (classification + imitation) / 2

        total = minimise(
            self.parameters(), loss, settings, rows=len(labels), seed=seed, weight_decay=settings.weight_decay
        )
        return {"loss": total, **{f"last_{name}": value for name, value in last.items()}}

    def _pool(self, index: int, pooled: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.poolers[index](pooled)) if self.settings.pooler else pooled

    def _imagine(self, index: int, here: torch.Tensor) -> torch.Tensor:
        """Return the states of exits index + 2 .. K that exit index + 1 imagines, shape [K - index - 1, rows, D]."""
        deeper = slice(index + 1, None)
        return torch.tanh(row_product(here, self.imagine_weight[deeper]) + self.imagine_bias[deeper, None])

    def _score(self, states: torch.Tensor, first: int) -> torch.Tensor:
        """Sum what the classifiers of exits first + 1, first + 2 .. say of states [exits, rows, D]: [rows, 2 C]."""
        exits = slice(first, first + len(states))
        return (row_product(states, self.weight[exits]) + self.bias[exits, None]).sum(dim=0)

    def _mix(self, past: torch.Tensor, future: torch.Tensor, exit: int) -> torch.Tensor:
        classes = self.shape.num_classes
        share = torch.sigmoid(self.gate(torch.tanh(past[:, classes:] / exit)))
        return 2 * share * past[:, :classes] + (2 - 2 * share) * future[:, :classes]

    def _losses(self, pooled: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the depth-weighted cross-entropy and the imitation loss of a batch of states [B, K, D]."""
        exits = self.shape.num_exits
        states = [self._pool(index, pooled[:, index]) for index in range(exits)]
        seen = torch.stack([state.detach() for state in states])
        classification, imitation = torch.zeros(()), torch.zeros(())
        for index, here in enumerate(states):
            future = self._imagine(index, here)
            past = self._score(self._dropped(torch.cat([seen[:index], here[None]])), 0)
            z = self._mix(past, self._score(self._dropped(future), index + 1), index + 1)
            classification = classification + (index + 1) * functional.cross_entropy(z, labels)
            if index + 1 < exits:
                cosine = functional.cosine_similarity(future, seen[index + 1 :], dim=-1)
                imitation = imitation + (1 - cosine).mean() / (exits - 1)
        return classification / (exits * (exits + 1) / 2), imitation

    def _dropped(self, states: torch.Tensor) -> torch.Tensor:
        return functional.dropout(states, self.settings.dropout)
