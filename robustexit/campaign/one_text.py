"""Attack one text: a campaign of one attempt, nothing written to disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from robustexit.attacks.limits import Limits
from robustexit.attacks.recipes import make_recipe, require_ready
from robustexit.campaign.cells import RecipeAttack, Setting
from robustexit.campaign.spec import GoalSpec, RecipeSpec
from robustexit.data.types import Example
from robustexit.errors import ConfigError, DataError, unknown_name
from robustexit.exits import ExitPolicy, make_policy, refuse_inert
from robustexit.models import load_model
from robustexit.permissions import Permissions
from robustexit.victims.base import Trace
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.stored import load_stored_policy

if TYPE_CHECKING:
    from robustexit.attacks.attempt import AttemptResult  # loads TextAttack, which what is missing must not wait for


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


@dataclass(frozen=True)
class Attack:
    """How one text is attacked.

    Attributes:
        recipe: Attack recipe, parameters and another search in brackets.
        goal: Attack goal, or several joined by ``&``.
        view: What the attacker sees.
        language: Language of the text (ISO 639-1).
        limits: What the attempt may cost.
        seed: Seed of the attempt.
    """

    recipe: str = "deepwordbug"
    goal: str = "deployed"
    view: str = "scores"
    language: str = "en"
    limits: Limits = field(default_factory=Limits)
    seed: int = 0


def attack_one(
    texts: Sequence[str],
    label: str,
    *,
    model: str,
    policy: str,
    parameters: Mapping[str, Any],
    attack: Attack,
    permissions: Permissions,
) -> Demonstration:
    """Attack one text (or pair, whose first text is then protected).

    Args:
        texts: One text, or two.
        label: Its true label, by name or index.
        model: Folder or Hub id.
        policy: Exit policy by name; ``stored`` takes the one calibrated with the model.
        parameters: The policy's parameters.
        attack: How it is attacked.
        permissions: What the user allowed.

    Raises:
        RobustExitError: Anything the user can fix.
    """
    require_ready(make_recipe(attack.recipe))
    if any(not text.strip() for text in texts):
        raise DataError("expected a text to attack, got an empty one")
    deployed = DeployedModel(
        load_model(model, allow_network=permissions.network, trust_remote_code=permissions.remote_code)
    )
    names = deployed.label_names
    victim = ModelVictim(deployed, _policy(policy, parameters, deployed))
    fields = ("text",) if len(texts) == 1 else ("first", "second")
    example = Example("text", dict(zip(fields, texts, strict=True)), _label(label, names))
    chosen = RecipeAttack(RecipeSpec(name=attack.recipe), GoalSpec(name=attack.goal))
    refusal = chosen.refused(victim, attack.view, attack.language)
    if refusal is not None:
        raise ConfigError(f"recipe {attack.recipe!r} with goal {attack.goal!r} cannot apply: {refusal}")
    attacker = chosen.attacker(victim, Setting(attack.view, attack.language, fields, attack.limits))
    result = attacker.attempt(example, dataset="attack", seed=attack.seed, protected_fields=fields[:-1])
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
