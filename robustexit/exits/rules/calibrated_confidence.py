"""Max probability after temperature scaling of every exit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from typing_extensions import Self

from robustexit.errors import ConfigError
from robustexit.exits.held_out import HeldOut
from robustexit.exits.policy import Scalars, State, policies
from robustexit.exits.temperature import fit_temperatures
from robustexit.exits.threshold import Observation, Threshold
from robustexit.exits.tuning import require_numbers, require_per_exit


@policies.register("calibrated-max-probability")
@dataclass(frozen=True)
class CalibratedMaxProbability(Threshold):
    """Leave at the first exit with max softmax(z_i / T_i) >= t.

    The Right Tool for the Job (Schwartz et al. 2020, arXiv 2004.07453; code: sledgehammer), which scales every exit by
    a temperature fitted on held-out data so that one threshold means the same at all of them. The answer's
    probabilities are the scaled ones.

    Attributes:
        temperatures: T_i, one an exit; learned from held-out data by negative log-likelihood if not given.
    """

    name: ClassVar[str] = "calibrated-max-probability"
    source: ClassVar[str] = "The Right Tool for the Job, Schwartz et al. 2020, arXiv 2004.07453"
    leaves: ClassVar[Literal[">=", ">", "<"]] = ">="

    temperatures: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Check t and the temperatures."""
        super().__post_init__()
        require_numbers(self.name, "temperatures", self.temperatures)
        if self.temperatures is not None and min(self.temperatures, default=1) <= 0:
            raise ConfigError(
                f"exit policy {self.name!r}: expected temperatures above 0, got {min(self.temperatures):g}"
            )

    def start(self, rows: int, num_exits: int, num_classes: int) -> State:
        """Return an empty state; refuse missing temperatures or those of a model with other exits."""
        require_per_exit(self.name, "temperatures", self.temperatures, num_exits)
        return {}

    def observe(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Observation:
        """Look at this exit alone, scaled."""
        assert self.temperatures is not None
        p = torch.softmax(logits / self.temperatures[exit - 1], dim=-1)
        return Observation(state, p.amax(dim=-1), p)

    def fitted(self, held_out: HeldOut) -> Self:
        """Fit the temperatures that were not given."""
        if self.temperatures is not None:
            return self
        found = fit_temperatures(held_out.logits, held_out.labels)
        return replace(self, temperatures=tuple(float(value) for value in found))

    def inert_reason(self, num_exits: int, num_classes: int) -> str | None:
        """No probability exceeds 1."""
        return f"no probability reaches t={self.t:g}; choose t of at most 1" if self.t > 1 else None
