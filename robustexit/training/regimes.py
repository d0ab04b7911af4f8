"""Training regimes: which parts of a multi-exit model learn, in which order, and from which loss.

A regime changes the weights and never the forward. It is a list of stages; a stage names what it trains and
holds one function of the exits' logits. Everything else (the loop, schedules, checkpoints, stored features)
is the trainer's, so that a new regime is one small factory:

    @regimes.register("my-regime")
    def my_regime(weight: float = 0.5) -> Regime:
        return Regime("my-regime", "Author et al. 2030", (Stage("joint", True, every_head, my_loss),))

Other packages add theirs through the entry-point group ``robustexit.regimes``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch.nn import functional

from robustexit.errors import ConfigError, unknown_name
from robustexit.registry import Registry

ExitLoss: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits [B, K, C] in float32 and labels [B] -> scalar loss, a mean over the batch (nats)."""

HeadChoice: TypeAlias = Callable[[int], tuple[int, ...]]
"""Number of exits K -> the 1-based exits whose heads learn."""

OptionValue: TypeAlias = bool | int | float | str
"""A regime's option as it stands in a YAML file."""


def every_head(num_exits: int) -> tuple[int, ...]:
    """Return exits 1..K."""
    return tuple(range(1, num_exits + 1))


def last_head(num_exits: int) -> tuple[int, ...]:
    """Return exit K alone."""
    return (num_exits,)


def inner_heads(num_exits: int) -> tuple[int, ...]:
    """Return exits 1..K-1."""
    return tuple(range(1, num_exits))


@dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
        name: Unique within its regime; stands in the training history.
        train_encoder: The encoder learns too. False means that it never changes in this stage, so it runs
            once over the data and the heads are fitted on its stored pooled states.
        heads: Which heads learn.
        loss: What is minimised.
    """

    name: str
    train_encoder: bool
    heads: HeadChoice
    loss: ExitLoss


@dataclass(frozen=True)
class Regime:
    """A training regime.

    Attributes:
        name: The name it is registered under.
        source: The paper or system it follows.
        stages: What is trained, in order.
        min_exits: Fewest exits it makes sense for.
        max_exits: Most exits it can train, or None; beyond them a head would stay at its random start.
    """

    name: str
    source: str
    stages: tuple[Stage, ...]
    min_exits: int = 1
    max_exits: int | None = None

    def check_exits(self, num_exits: int) -> None:
        """Refuse a number of exits that this regime cannot train.

        Args:
            num_exits: K of the model.

        Raises:
            ConfigError: Too few or too many exits.
        """
        if num_exits < self.min_exits:
            raise ConfigError(
                f"regime {self.name!r} expected at least {self.min_exits} exits, got {num_exits}; "
                "name more layers in exit_layers, or use regime 'final' for a single exit"
            )
        if self.max_exits is not None and num_exits > self.max_exits:
            raise ConfigError(
                f"regime {self.name!r} expected at most {self.max_exits} exit, got {num_exits}: it would "
                "leave the other heads untrained; name one layer in exit_layers, or use 'two-stage' or 'joint'"
            )


RegimeFactory: TypeAlias = Callable[..., Regime]

regimes: Registry[RegimeFactory] = Registry("training regime", "robustexit.regimes")


def build_regime(name: str, options: Mapping[str, OptionValue] | None = None) -> Regime:
    """Return the regime called `name`.

    Args:
        name: A registered name.
        options: Keyword options of its factory.

    Raises:
        ConfigError: Unknown regime, or an option that it does not have.
    """
    factory = regimes.get(name)
    known = inspect.signature(factory).parameters
    for option in options or {}:
        if option not in known:
            raise ConfigError(unknown_name(f"option of training regime {name!r}", option, known))
    return factory(**(options or {}))


def exit_cross_entropies(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return CE_i, the batch mean cross-entropy of every exit.

    Args:
        logits: Shape [B, K, C].
        labels: Shape [B], class indices.

    Returns:
        Shape [K], in nats.
    """
    batch, num_exits, _ = logits.shape
    rows = functional.cross_entropy(logits.flatten(0, 1), labels.repeat_interleave(num_exits), reduction="none")
    return rows.view(batch, num_exits).mean(0)


def sum_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return sum_i CE_i (logits [B, K, C], labels [B])."""
    return exit_cross_entropies(logits, labels).sum()


def depth_weighted_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return sum_i i CE_i / sum_i i (logits [B, K, C], labels [B])."""
    losses = exit_cross_entropies(logits, labels)
    depths = torch.arange(1, len(losses) + 1, dtype=losses.dtype, device=losses.device)
    return (depths * losses).sum() / depths.sum()


def final_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return CE_K (logits [B, K, C], labels [B])."""
    return functional.cross_entropy(logits[:, -1], labels)


def inner_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Return sum_{i<K} CE_i (logits [B, K, C], labels [B])."""
    return exit_cross_entropies(logits, labels)[:-1].sum()


@regimes.register("joint")
def joint() -> Regime:
    """Train encoder and all heads on sum_i CE_i.

    ElasticBERT's fine-tuning (Liu et al. 2022, arXiv 2110.07038).
    """
    return Regime(
        "joint",
        "ElasticBERT fine-tuning (Liu et al. 2022)",
        (Stage("joint", True, every_head, sum_loss),),
    )


@regimes.register("depth-weighted")
def depth_weighted() -> Regime:
    """Train encoder and all heads on sum_i i CE_i / sum_i i.

    PABEE (Zhou et al. 2020, arXiv 2006.04152).
    """
    return Regime(
        "depth-weighted", "PABEE (Zhou et al. 2020)", (Stage("joint", True, every_head, depth_weighted_loss),)
    )


@regimes.register("two-stage")
def two_stage() -> Regime:
    """Fine-tune encoder and last head with CE_K, freeze both, then fit heads 1..K-1 on sum_{i<K} CE_i.

    DeeBERT (Xin et al. 2020, arXiv 2004.12993).
    """
    return Regime(
        "two-stage",
        "DeeBERT (Xin et al. 2020)",
        (
            Stage("final-exit", True, last_head, final_loss),
            Stage("inner-heads", False, inner_heads, inner_loss),
        ),
        min_exits=2,
    )


@regimes.register("frozen-heads")
def frozen_heads() -> Regime:
    """Keep the encoder as it is and fit all heads on sum_i CE_i.

    Linear probes (Alain & Bengio 2016, arXiv 1610.01644).
    """
    return Regime(
        "frozen-heads",
        "linear probes (Alain & Bengio 2016)",
        (Stage("heads", False, every_head, sum_loss),),
    )


@regimes.register("final")
def final() -> Regime:
    """Fine-tune one exit with its cross-entropy: the plain control.

    BERT's fine-tuning (Devlin et al. 2019, arXiv 1810.04805).
    """
    return Regime(
        "final",
        "plain fine-tuning (Devlin et al. 2019)",
        (Stage("final-exit", True, last_head, final_loss),),
        max_exits=1,
    )
