"""SNGP heads: distance-aware confidence from a Gaussian process on a distance-preserving projection."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional

from robustexit.exits.layerwise import Reading
from robustexit.exits.policy import State
from robustexit.models.heads.row_linear import row_linear, row_product
from robustexit.modules.base import ExitModule, FitData, ModuleShape, modules
from robustexit.modules.fit_settings import FitSettings
from robustexit.modules.fitting import as_tensors, minimise, rounding
from robustexit.parameters import require_between, require_count, require_one_of

_TINY = torch.finfo(torch.float32).tiny


@dataclass(frozen=True)
class SNGPSettings(FitSettings):
    """The heads (names as in the authors' code) and their fit.

    Attributes:
        gp_hidden_dim: M, number of random features.
        gp_kernel_scale: Length-scale of the RBF kernel, in root mean square distances between the fit's states (the
            authors give it in units of the layer's input).
        spec_norm_bound: c, largest spectral norm of the projection's weights; below 1, so that distances survive.
        spec_norm_iteration: Power iterations a step.
        gp_cov_ridge_penalty: Prior precision of the output weights.
        gp_cov_likelihood: A text's weight in the posterior precision: ``binary_logistic`` p (1 - p) with p the
            probability of its answer, or ``gaussian`` 1 (the authors' code for more than one logit).
        gp_mean_field_factor: How much the variance shrinks the logits (the authors tune it, .1 for intents).
        epochs: Passes over the data to learn the projection.
        learning_rate: Peak rate.
        batch_size: Texts a step.
        max_iter: Iterations of L-BFGS from there to the best output weights.
    """

    where: ClassVar[str] = "post-hoc module 'sngp'"

    gp_hidden_dim: int = 1024
    gp_kernel_scale: float = 1.0
    spec_norm_bound: float = 0.95
    spec_norm_iteration: int = 1
    gp_cov_ridge_penalty: float = 0.1
    gp_cov_likelihood: str = "binary_logistic"
    gp_mean_field_factor: float = math.pi / 8
    epochs: int = 5
    learning_rate: float = 1e-3
    batch_size: int = 128
    max_iter: int = 100

    def __post_init__(self) -> None:
        """Check the values."""
        super().__post_init__()
        for name in ("gp_hidden_dim", "spec_norm_iteration", "max_iter"):
            require_count(self.where, name, getattr(self, name))
        for name in ("gp_kernel_scale", "gp_cov_ridge_penalty"):
            require_between(self.where, name, getattr(self, name), _TINY, math.inf)
        require_between(self.where, "spec_norm_bound", self.spec_norm_bound, 0, 1)
        require_between(self.where, "gp_mean_field_factor", self.gp_mean_field_factor, 0, math.inf)
        require_one_of(self.where, "gp_cov_likelihood", self.gp_cov_likelihood, ("binary_logistic", "gaussian"))


@modules.register("sngp")
class SNGP(ExitModule):
    """Logits z / sqrt(1 + lam s^2) with z = phi beta and s^2 = phi' S phi: unsure far from the fit's states.

    phi = sqrt(2 / M) cos(W u / l + b) are random features of an RBF kernel (one W and b for all exits), and
    u = x + tanh(V_i x + c_i) the projection of the centred state x, scaled to root mean square distance 1. With the
    spectral norm of V_i at most c < 1, distances in u are those in x up to factors 1 - c and 1 + c. V_i, c_i and beta
    learn by cross-entropy, beta with the ridge of its prior; then beta goes to its maximum a posteriori, and S is the
    inverse of the Laplace posterior's precision ridge I + sum_n w_n phi_n phi_n', summed over all texts and shared by
    the classes (w_n: see the settings). The logits stand in for the head's; the scalar ``variance`` is s^2.

    SNGP (Liu et al. 2020, NeurIPS, arXiv 2006.10108). There the whole encoder learns under spectral normalisation;
    here its states are frozen and the normalised residual layer stands between them and the Gaussian process, where
    the authors' BERT has its normalised pooler. Their optional LayerNorm before the features is left out: it would
    hide how far a state lies.
    """

    name: ClassVar[str] = "sngp"
    source: ClassVar[str] = "SNGP, Liu et al. 2020, NeurIPS, arXiv 2006.10108"
    Settings = SNGPSettings

    centre: torch.Tensor
    scale: torch.Tensor
    features: torch.Tensor
    phases: torch.Tensor
    whitening: torch.Tensor

    def __init__(self, shape: ModuleShape, settings: SNGPSettings) -> None:
        super().__init__(shape, settings)
        exits, width, hidden = shape.num_exits, shape.width, settings.gp_hidden_dim
        self.projection = nn.Parameter(torch.randn(exits, width, width) / (2 * width))
        self.shift = nn.Parameter(torch.zeros(exits, 1, width))
        self.beta = nn.Parameter(torch.zeros(exits, hidden, shape.num_classes))
        self.register_buffer("centre", torch.zeros(exits, 1, width))
        self.register_buffer("scale", torch.ones(exits, 1, 1))
        self.register_buffer("features", torch.randn(width, hidden) / settings.gp_kernel_scale)
        self.register_buffer("phases", 2 * math.pi * torch.rand(hidden))
        # S = whitening' whitening: a sum of squares cannot turn negative by rounding.
        prior = torch.eye(hidden) / math.sqrt(settings.gp_cov_ridge_penalty)
        self.register_buffer("whitening", prior.repeat(exits, 1, 1))

    def read(self, state: State, exit: int, pooled: torch.Tensor, logits: torch.Tensor) -> Reading:
        """Return the shrunk logits and the variance."""
        at = slice(exit - 1, exit)
        phi = self._phi(self._projected(pooled[None], self.projection[at], at))[0]
        variance = row_linear(phi, self.whitening[exit - 1]).square().sum(dim=-1)
        shrinkage = torch.sqrt(1 + self.settings.gp_mean_field_factor * variance)
        mean = row_product(phi, self.beta[exit - 1])
        return Reading(state, mean / shrinkage[:, None], {"variance": variance})

    def fit(self, data: FitData, seed: int) -> dict[str, float]:
        """Learn the projection, then the output weights and their covariance, exit by exit."""
        pooled, _, labels = as_tensors(data)
        for index in range(self.shape.num_exits):
            states = pooled[:, index].double()
            # Two texts lie twice the variance apart; states that are all the same say nothing of scale.
            apart = 2 * states.var(dim=0, correction=0).sum()
            self.centre[index] = states.mean(dim=0)
            self.scale[index] = apart.sqrt() if apart > rounding(pooled[:, index]) else 1.0
        report = {"projection_loss": self._learn_projection(pooled, labels, seed)}
        losses, variances = [], []
        for index in range(self.shape.num_exits):
            loss, variance = self._fit_output(index, pooled[:, index], labels)
            losses.append(loss)
            variances.append(variance)
        return {**report, "loss": sum(losses) / len(losses), "variance": sum(variances) / len(variances)}

    def _projected(self, states: torch.Tensor, projection: torch.Tensor, exits: slice) -> torch.Tensor:
        """Project states [exits, rows, D] with weights [exits, D, D]."""
        centred = (states - self.centre[exits]) / self.scale[exits]
        return centred + torch.tanh(row_product(centred, projection.transpose(1, 2)) + self.shift[exits])

    def _phi(self, projected: torch.Tensor) -> torch.Tensor:
        return math.sqrt(2 / self.settings.gp_hidden_dim) * torch.cos(
            row_product(projected, self.features) + self.phases
        )

    def _learn_projection(self, pooled: torch.Tensor, labels: torch.Tensor, seed: int) -> float:
        settings: SNGPSettings = self.settings
        bound, every = settings.spec_norm_bound, slice(None)
        ridge = settings.gp_cov_ridge_penalty / (2 * len(labels))
        side = functional.normalize(torch.ones(len(self.projection), self.shape.width, 1), dim=1)
        # Weights are learned for features of unit size, as the authors advise: one rate then suits all of them.
        size = math.sqrt(settings.gp_hidden_dim / 2)

        def loss(rows: torch.Tensor) -> torch.Tensor:
            nonlocal side
            with torch.no_grad():
                for _ in range(settings.spec_norm_iteration):
                    other = functional.normalize(self.projection @ side, dim=1)
                    side = functional.normalize(self.projection.transpose(1, 2) @ other, dim=1)
            norm = other.transpose(1, 2) @ self.projection @ side
            bounded = self.projection * (bound / norm.clamp(min=_TINY)).clamp(max=1)
            phi = self._phi(self._projected(pooled[rows].transpose(0, 1), bounded, every))
            logits = size * (phi @ self.beta)
            entropies = functional.cross_entropy(logits.flatten(0, 1), labels[rows].repeat(len(logits)))
            return entropies + ridge * (size * self.beta).square().sum() / len(logits)

        found = minimise([self.projection, self.shift, self.beta], loss, settings, rows=len(labels), seed=seed)
        with torch.no_grad():  # once more with the exact norm
            norms = torch.linalg.matrix_norm(self.projection, ord=2)[:, None, None]
            self.projection.mul_((bound / norms.clamp(min=_TINY)).clamp(max=1))
            self.beta.mul_(size)
        return found

    def _fit_output(self, index: int, states: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        settings: SNGPSettings = self.settings
        at = slice(index, index + 1)
        with torch.no_grad():
            phi = self._phi(self._projected(states[None], self.projection[at], at))[0]
        beta = self.beta.detach()[index].clone().requires_grad_()
        search = torch.optim.LBFGS([beta], max_iter=settings.max_iter, line_search_fn="strong_wolfe")

        def posterior() -> torch.Tensor:
            search.zero_grad()
            prior = settings.gp_cov_ridge_penalty * beta.square().sum() / (2 * len(labels))
            value = functional.cross_entropy(phi @ beta, labels) + prior
            value.backward()  # type: ignore[no-untyped-call]
            return value

        search.step(posterior)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            self.beta[index] = beta
            logits = phi @ beta
            whitening = _whitening(phi, self._weights(logits), settings.gp_cov_ridge_penalty)
            self.whitening[index] = whitening
            variance = (phi @ whitening.T).square().sum(dim=-1).mean()
            return float(functional.cross_entropy(logits, labels)), float(variance)

    def _weights(self, logits: torch.Tensor) -> torch.Tensor:
        if self.settings.gp_cov_likelihood == "gaussian":
            return torch.ones(len(logits))
        answered = torch.softmax(logits, dim=-1).amax(dim=-1)
        return answered * (1 - answered)


def _whitening(phi: torch.Tensor, weights: torch.Tensor, ridge: float) -> torch.Tensor:
    """Return R with R'R = (ridge I + sum_n w_n phi_n phi_n')^-1, in double precision inside."""
    precision = (phi.T @ (weights[:, None] * phi)).double()
    precision.diagonal().add_(ridge)
    lower = torch.linalg.cholesky(precision)
    identity = torch.eye(len(precision), dtype=precision.dtype)
    inverse: torch.Tensor = torch.linalg.solve_triangular(lower, identity, upper=False)
    return inverse.float()
