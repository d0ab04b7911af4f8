"""A deployed system that learns from every text it is asked: a stream policy's bandit, live."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from robustexit.data.types import Fields
from robustexit.errors import ConfigError
from robustexit.exits import HeldOut
from robustexit.exits.stream import Bandit, Seen, StreamPolicy, observe
from robustexit.victims.base import Trace, Victim
from robustexit.victims.model_victim import DeployedModel, ModelVictim


@runtime_checkable
class LearningVictim(Victim, Protocol):
    """A victim whose answers depend on what it was asked before.

    Nothing it said may be remembered in its place: every query is asked of it, a repeated text again. In a campaign
    one worker attacks its examples one after another in the order of its seed, from `restart` on.

    Attributes:
        order_seed: Seed of that order.
    """

    order_seed: int

    def restart(self) -> None:
        """Forget every text since it was deployed."""
        ...

    def peek(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        """Return what `trace` would say to each of the texts if it were asked now; teaches it nothing."""
        ...


def order_seed(victim: Victim) -> int | None:
    """Return the seed of the order in which a learning victim meets its examples; None for any other victim."""
    return victim.order_seed if isinstance(victim, LearningVictim) else None


def judged(victim: Victim, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
    """Return what a victim says to texts, for the verdict on an attack: a learning victim does not learn from it."""
    run = victim.peek if isinstance(victim, LearningVictim) else victim.trace
    return run(texts, min_depth=min_depth)


class LiveVictim:
    """A deployed model under a live stream policy; see `LearningVictim` and `robustexit.victims.base.Victim`.

    Each text is answered by the layer-skipping forward of the arm that the bandit chooses, and the bandit learns from
    the exits up to the one taken: whoever asks for deeper ones (`min_depth`) changes neither answers nor learning.

    Args:
        deployed: The weights.
        policy: A stream policy with ``evaluation="live"`` and no arm.
        burn_in: Held-out outputs that the bandit runs over first, in the policy's seeded order; it starts from
            nothing if None.

    Raises:
        ConfigError: The policy is frozen, has an arm, or cannot work on a model of this shape.
    """

    def __init__(self, deployed: DeployedModel, policy: StreamPolicy, burn_in: HeldOut | None = None) -> None:
        if not policy.learns or policy.arm is not None:
            raise ConfigError(
                f"expected a live policy without an arm, got {policy.describe()}; say evaluation: live and leave arm "
                "out, or deploy the frozen policy as a ModelVictim"
            )
        shape = deployed.shape
        self.deployed = deployed
        self.policy = policy
        self.order_seed = policy.seed
        self.num_exits = shape.num_exits
        self.num_classes = shape.num_classes
        self.exit_layers = shape.exit_layers
        self.full_depth = shape.num_exits == 1
        self._under = [ModelVictim(deployed, policy.under(arm)) for arm in policy.arms(shape.num_exits)]
        self._burnt_in = policy.bandit(shape.num_exits) if burn_in is None else policy.burnt_in(burn_in)
        self.restart()
        answers_depend_on = [
            [one.fingerprint for one in self._under],
            policy.parameters,
            None if burn_in is None else burn_in.data_hash,
        ]
        self.fingerprint = hashlib.sha256(json.dumps(answers_depend_on).encode()).hexdigest()

    @property
    def bandit(self) -> Bandit:
        """The bandit as it stands."""
        return self._bandit

    def restart(self) -> None:
        """Return to the state after the burn-in."""
        self._bandit = copy.deepcopy(self._burnt_in)

    def trace(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        """Answer texts one after another, learning from each; see `Victim.trace`.

        Raises:
            ModelError: The model returned a logit that is not finite.
        """
        return [self._answer(text, min_depth) for text in texts]

    def peek(self, texts: Sequence[Fields], min_depth: int = 1) -> list[Trace]:
        """Answer every text under the arm that the bandit would choose now, without learning."""
        return self._under[self._bandit.choose()].trace(texts, min_depth)

    def _answer(self, text: Fields, min_depth: int) -> Trace:
        arm = self._bandit.choose()
        trace = self._under[arm].trace([text], min_depth)[0]
        confidence, answers = observe(trace.logits[: trace.exit])
        self._bandit.learn(self.policy.lessons(arm, Seen(confidence.tolist(), answers.tolist(), self.num_exits)))
        return trace
