"""Attack one text: a campaign of one attempt, nothing written to disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robustexit.attacks.attempt import Attacker, AttemptResult
from robustexit.attacks.goals import make_goal
from robustexit.attacks.recipes import require_ready
from robustexit.data.types import Example
from robustexit.errors import ConfigError, DataError, unknown_name
from robustexit.exits import ExitPolicy, make_policy, refuse_inert
from robustexit.models import load_model
from robustexit.permissions import Permissions
from robustexit.victims.base import Trace
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.stored import load_stored_policy


@dataclass(frozen=True)
class Demonstration:
    """One attempt, seen from every exit.

    Attributes:
        example: The text and its label.
        label_names: Names of the classes.
        policy: The deployed policy in words.
        exit_layers: Layer of each exit.
        result: What the attack did.
        clean: Every exit on the original.
        final: Every exit on the final text; None where the attempt ended in an error.
    """

    example: Example
    label_names: tuple[str, ...]
    policy: str
    exit_layers: tuple[int, ...]
    result: AttemptResult
    clean: Trace
    final: Trace | None


def attack_one(
    texts: Sequence[str],
    label: str,
    *,
    model: str,
    policy: str,
    parameters: Mapping[str, Any],
    recipe: str,
    goal: str,
    seed: int,
    permissions: Permissions,
) -> Demonstration:
    """Attack one text (or pair, whose first text is then protected).

    Args:
        texts: One text, or two.
        label: Its true label, by name or index.
        model: Folder or Hub id.
        policy: Exit policy by name; ``stored`` takes the one calibrated with the model.
        parameters: The policy's parameters.
        recipe: Attack recipe.
        goal: Attack goal.
        seed: Seed of the attempt.
        permissions: What the user allowed.

    Raises:
        RobustExitError: Anything the user can fix.
    """
    require_ready(recipe)
    if any(not text.strip() for text in texts):
        raise DataError("expected a text to attack, got an empty one")
    deployed = DeployedModel(
        load_model(model, allow_network=permissions.network, trust_remote_code=permissions.remote_code)
    )
    names = deployed.label_names
    victim = ModelVictim(deployed, _policy(policy, parameters, deployed))
    fields = ("text",) if len(texts) == 1 else ("first", "second")
    example = Example("text", dict(zip(fields, texts, strict=True)), _label(label, names))
    chosen = make_goal(goal)
    refusal = chosen.refuses(victim)
    if refusal is not None:
        raise ConfigError(f"goal {goal!r} cannot apply: {refusal}")
    attacker = Attacker(victim, recipe=recipe, goal=goal, field_names=fields)
    result = attacker.attempt(example, dataset="attack", seed=seed, protected_fields=fields[:-1])
    finished = result.outcome != "error"
    both = [example.fields, result.text_attacked] if finished else [example.fields]
    traces = victim.trace(both, min_depth=victim.num_exits)
    return Demonstration(
        example,
        names,
        victim.policy.describe(),
        victim.exit_layers,
        result,
        traces[0],
        traces[1] if finished else None,
    )


def _policy(name: str, parameters: Mapping[str, Any], deployed: DeployedModel) -> ExitPolicy:
    if name == "stored":
        return load_stored_policy(Path(deployed.loaded.path)).policy
    policy = make_policy(name, **parameters)
    refuse_inert(policy, deployed.shape.num_exits, deployed.shape.num_classes)
    return policy


def _label(label: str, names: tuple[str, ...]) -> int:
    by_name = {name.lower(): index for index, name in enumerate(names)}
    if label.lower() in by_name:
        return by_name[label.lower()]
    if label.isdigit() and int(label) < len(names):
        return int(label)
    raise DataError(f"{unknown_name('label', label, names)} (or an index from 0 to {len(names) - 1})")
