"""Regimes, their stages, and the registry.

A regime changes the weights and never the forward. It is a list of stages; a stage names what it trains and
holds what is minimised. Everything else (the loop, schedules, checkpoints, stored features) is the trainer's, so
that a new regime is one small factory:

    @regimes.register("my-regime")
    def my_regime(weight: float = 0.5) -> Regime:
        return Regime("my-regime", "Author et al. 2030", (Stage("joint", True, every_head, my_loss),))
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import JsonValue

from robustexit.errors import ConfigError, unknown_name
from robustexit.models import MultiExitForSequenceClassification
from robustexit.registry import Registry
from robustexit.training.objectives import ExitLoss, Objective, SecondStream, as_objective

HeadChoice: TypeAlias = Callable[[int], tuple[int, ...]]
"""Number of exits K -> the 1-based exits whose heads learn."""

OptionValue: TypeAlias = JsonValue
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


def no_head(num_exits: int) -> tuple[int, ...]:
    """Return no exit."""
    del num_exits
    return ()


@dataclass(frozen=True)
class Stage:
    """One stretch of training.

    Attributes:
        name: Unique within its regime; stands in the training history.
        train_encoder: The encoder learns too. False means that it never changes in this stage, so it runs
            once over the data and the heads are fitted on its stored pooled states (heads that read single
            tokens, and objectives that read texts, run the frozen encoder every step instead).
        heads: Which heads learn.
        loss: What is minimised: a function of logits and labels, or an objective.
        learning_rate: Peak rate of the encoder in this stage; None for the run's.
    """

    name: str
    train_encoder: bool
    heads: HeadChoice
    loss: ExitLoss | Objective
    learning_rate: float | None = None


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

    @property
    def needs_target(self) -> bool:
        """Whether a stage reads a target dataset."""
        return any(as_objective(stage.loss).second is SecondStream.TARGET for stage in self.stages)

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

    def check_model(self, model: MultiExitForSequenceClassification) -> None:
        """Refuse a model that this regime cannot train.

        Raises:
            ConfigError: Too few or too many exits, heads that depend on each other where they must learn apart,
                or what a stage's objective cannot work with.
        """
        self.check_exits(model.num_exits)
        for stage in self.stages:
            chosen = stage.heads(model.num_exits)
            if 0 < len(chosen) < model.num_exits and (model.heads_shared or model.heads_read_earlier):
                raise ConfigError(
                    f"regime {self.name!r} expected heads that can learn apart, since stage {stage.name!r} trains "
                    f"exits {list(chosen)} alone, got the head {model.config.head!r}, with which one exit's "
                    "training changes others; choose another head, or a regime that trains all exits together "
                    "('joint', 'frozen-heads')"
                )
            as_objective(stage.loss).check(model)


RegimeFactory: TypeAlias = Callable[..., Regime]

regimes: Registry[RegimeFactory] = Registry("training regime", "robustexit.regimes")


def build_regime(name: str, options: Mapping[str, OptionValue] | None = None) -> Regime:
    """Return the regime called `name`.

    Args:
        name: A registered name.
        options: Keyword options of its factory.

    Raises:
        ConfigError: Unknown regime, an option that it does not have, or a value that it cannot take.
    """
    factory = regimes.get(name)
    known = inspect.signature(factory).parameters
    for option in options or {}:
        if option not in known:
            raise ConfigError(unknown_name(f"option of training regime {name!r}", option, known))
    return factory(**(options or {}))


def check_number(
    regime: str,
    option: str,
    value: OptionValue,
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    whole: bool = False,
) -> None:
    """Refuse an option that is not a number in a range.

    Args:
        regime: Name of the regime.
        option: Name of the option.
        value: What was given.
        low: Smallest value.
        high: Largest value.
        above: The smallest value itself is excluded.
        whole: Whole numbers only.

    Raises:
        ConfigError: It is not.
    """
    kinds = (int,) if whole else (int, float)
    fits = isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not low <= value <= high or (above and value == low):  # type: ignore[operator]
        kind = "a whole number" if whole else "a number"
        ends = f"above {low}" if above else f"of at least {low}"
        most = "" if high == math.inf else f" and at most {high}"
        raise ConfigError(f"training regime {regime!r}: {option}: expected {kind} {ends}{most}, got {value!r}")


def check_choice(regime: str, option: str, value: OptionValue, known: tuple[str, ...]) -> None:
    """Refuse an option that is none of the known words.

    Raises:
        ConfigError: It is not.
    """
    if value not in known:
        raise ConfigError(f"training regime {regime!r}: {unknown_name(option, str(value), known)}")
