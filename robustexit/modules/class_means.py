"""Distances of an exit's state to the prototypes of the classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from robustexit.errors import ConfigError
from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import row_linear
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings
from robustexit.modules.fitting import as_tensors, minimise, rounding
from robustexit.parameters import require_between, require_count, require_one_of
from robustexit.tensors import own_copy

_ROWS = 1024
"""Texts at a time in sums over the data, which may be memory-mapped."""


@dataclass(frozen=True)
class ClassMeansSettings(FitSettings):
    """Which distances, and how a metric is learned.

    Attributes:
        metric: ``euclidean`` between the frozen states and the class means, or ``linear``: between W h and W m, with
            one learned W an exit.
        anchor: What r1 is the distance to: the ``nearest`` prototype, or that of the exit's ``answer``; r2 is the
            distance to the nearest of the others.
        dim: Dimensions of the learned metric space (at most D).
        epochs: Passes over the data to learn the metric.
        learning_rate: Peak rate.
        batch_size: Texts a step.
        weight_decay: Decoupled weight decay.
    """

    where: ClassVar[str] = "post-hoc module 'class-means'"

    metric: str = "euclidean"
    anchor: str = "nearest"
    dim: int = 64
    epochs: int = 5
    learning_rate: float = 1e-3
    batch_size: int = 128
    weight_decay: float = 1e-2

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        require_one_of(self.where, "metric", self.metric, ("euclidean", "linear"))
        require_one_of(self.where, "anchor", self.anchor, ("nearest", "answer"))
        require_count(self.where, "dim", self.dim)
        require_between(self.where, "weight_decay", self.weight_decay, 0, math.inf)


@dataclass(frozen=True)
class DE3Settings(ClassMeansSettings):
    """The same with a learned metric."""

    where: ClassVar[str] = "post-hoc module 'de3'"

    metric: str = "linear"


@modules.register("class-means")
class ClassMeans(ExitModule):
    """r1 and r2: Euclidean distances of an exit's state to the nearest and second nearest class mean.

    The prototypes are the means of the frozen states of the fit's texts by class, one set an exit (the prototypes of
    Snell et al. 2017 with the model as the embedding). The scalars are ``r1`` and ``r2``; logits stay the head's.
    """

    name: ClassVar[str] = "class-means"
    source: ClassVar[str] = "class means as prototypes, Snell et al. 2017, NeurIPS; DE3-BERT, arXiv 2402.05948"
    Settings: ClassVar[type[ClassMeansSettings]] = ClassMeansSettings

    prototypes: torch.Tensor

    def __init__(self, shape: ModuleShape, settings: ClassMeansSettings) -> None:
        super().__init__(shape, settings)
        exits, classes, width = shape.num_exits, shape.num_classes, shape.width
        self.metric: nn.Parameter | None = None
        dim = width
        if settings.metric == "linear":
            dim = min(settings.dim, width)
            axes = torch.stack([nn.init.orthogonal_(torch.empty(dim, width)) for _ in range(exits)])
            self.metric = nn.Parameter(axes)
        self.register_buffer("prototypes", torch.zeros(exits, classes, dim))

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the head's own logits and the two distances."""
        place = pooled if self.metric is None else row_linear(pooled, self.metric[exit - 1])
        distances = squared_distances(place, self.prototypes[exit - 1]).sqrt()
        answer = logits.argmax(dim=-1) if self.settings.anchor == "answer" else distances.argmin(dim=-1)
        r1 = distances.gather(-1, answer[:, None]).squeeze(-1)
        r2 = distances.scatter(-1, answer[:, None], torch.inf).amin(dim=-1)
        return Reading(state, logits, {"r1": r1, "r2": r2})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Take the class means; learn the metric around them if there is one.

        Raises:
            ConfigError: One class only, or a class without an example.
        """
        if data.shape.num_classes < 2:
            raise ConfigError(f"module {self.name!r} compares two prototypes at least, got a model with one class")
        means = class_means(data)
        report: dict[str, float] = {}
        prototypes = means
        if self.metric is not None:
            report = {"prototypical_loss": self._learn(self.metric, data, means, seed)}
            prototypes = (means @ self.metric.detach().transpose(1, 2)).contiguous()
        self.prototypes.copy_(prototypes)
        return report

    def _learn(self, metric: nn.Parameter, data: FitData, means: torch.Tensor, seed: int) -> float:
        pooled, _, labels = as_tensors(data)
        settings: ClassMeansSettings = self.settings
        with torch.no_grad():  # start with distances of the order of one, whatever the states' scale
            for index in range(len(metric)):
                places = pooled[:_ROWS, index] @ metric[index].T
                spread = squared_distances(places, means[index] @ metric[index].T).mean()
                if spread > rounding(places):  # states that are all the same say nothing of scale
                    metric[index] /= spread.sqrt()

        def loss(rows: torch.Tensor) -> torch.Tensor:
            places = torch.einsum("bkd,ked->kbe", pooled[rows], metric)
            distances = squared_distances(places, means @ metric.transpose(1, 2))
            target = labels[rows].expand(len(metric), -1)
            return functional.cross_entropy(-distances.flatten(0, 1), target.flatten())

        return minimise([metric], loss, settings, rows=len(labels), seed=seed, weight_decay=settings.weight_decay)


@modules.register("de3")
class DE3(ClassMeans):
    """r1 and r2 in a learned metric space: distances between W_i h_i and the prototypes of the classes there.

    DE3-BERT (He et al. 2024, arXiv 2402.05948) attaches a prototypical network to every exit and trains it with the
    heads. Here, on frozen states, it is linear and learns by the loss of prototypical networks (Snell et al. 2017):
    cross-entropy of softmax over minus squared distances, with the class mean in the metric space, W m_c, as the
    prototype. Of the paper the exit rule was at hand, not the exact form of its distance-aware regularisation: the
    loss is a reading of it.
    """

    name: ClassVar[str] = "de3"
    source: ClassVar[str] = "DE3-BERT, He et al. 2024, arXiv 2402.05948"
    Settings = DE3Settings


def squared_distances(places: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """Return squared Euclidean distances, shape [..., rows, C], of places [..., rows, d] to prototypes [..., C, d].

    From the differences, not the expanded square: a text at a prototype has distance 0, and the sums over d are
    matrix products, which are counted.
    """
    apart = places[..., :, None, :] - prototypes[..., None, :, :]
    return (apart[..., None, :] @ apart[..., :, None])[..., 0, 0]


def class_means(data: FitData) -> torch.Tensor:
    """Return the mean state of every class at every exit, shape [K, C, D], float32 (summed in double precision).

    Raises:
        ConfigError: A class without an example.
    """
    shape = data.shape
    labels = own_copy(data.labels)
    counts = torch.bincount(labels, minlength=shape.num_classes)
    if bool((counts == 0).any()):
        absent = ", ".join(str(label) for label in torch.nonzero(counts == 0).flatten().tolist())
        raise ConfigError(
            f"class means need an example of each of {shape.num_classes} classes, got none of class {absent} among "
            f"{len(labels)}; fit on more data"
        )
    sums = torch.zeros(shape.num_classes, shape.num_exits, shape.width, dtype=torch.float64)
    for start in range(0, len(labels), _ROWS):
        rows = slice(start, start + _ROWS)
        sums.index_add_(0, labels[rows], own_copy(data.pooled[rows]).double())
    return (sums / counts[:, None, None]).transpose(0, 1).float().contiguous()
