"""A campaign as YAML: what to attack, with what. Every key is checked before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_serializer, field_validator, model_validator
from typing_extensions import Self

from robustexit.attacks.goals import make_goal
from robustexit.attacks.limits import Limits
from robustexit.attacks.recipes import Recipe, make_recipe
from robustexit.data import DataSpec
from robustexit.errors import ConfigError, unknown_name
from robustexit.exits.calibration import Target
from robustexit.training.arguments import TrainSpec
from robustexit.validation import validate

NAME = r"^[A-Za-z0-9][A-Za-z0-9._+-]*$"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CalibrationData(_Strict):
    """Where thresholds are tuned: a seeded share of the dataset (never attacked), or another file.

    Attributes:
        fraction: Share of the dataset set aside, stratified by label.
        seed: Seed of the split.
        data: Another dataset instead of a share.
    """

    fraction: float = Field(default=0.5, gt=0, lt=1)
    seed: int = 0
    data: DataSpec | None = None


class AttackedData(_Strict):
    """Which of the remaining examples are attacked: all, or a seeded stratified sample."""

    sample: int | None = Field(default=None, ge=1)
    seed: int = 0


class DatasetSpec(_Strict):
    """One dataset of the campaign.

    Attributes:
        data: Where it comes from.
        calibration: Where thresholds are tuned; needed by victims with `calibrate`.
        attacked: Which examples are attacked.
        protect: Fields no attack may change (the premise of a pair).
        language: Language of the texts (ISO 639-1); recipes made for another one are refused.
    """

    data: DataSpec
    calibration: CalibrationData | None = None
    attacked: AttackedData = AttackedData()
    protect: tuple[str, ...] = ()
    language: str = Field(default="en", pattern="^[a-z]{2}$")


class TrainingSpec(TrainSpec):
    """A model trained by the campaign: a training specification and its data.

    Attributes:
        data: What it is trained on.
        eval: Held-out data for its per-exit accuracies.
        target: Texts of the domain to adapt to, for the regime `domain-adapted`; they need no labels.
    """

    data: DataSpec
    eval: DataSpec | None = None
    target: DataSpec | None = None


class ModuleSpec(BaseModel):
    """A post-hoc module by name, its hyper-parameters beside the name: ``{name: ztw, epochs: 10}`` or just ``ztw``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def settings(self) -> dict[str, Any]:
        """What stands beside the name."""
        return dict(self.model_extra or {})


class ModulesSpec(_Strict):
    """Post-hoc modules that the campaign fits on a model's frozen exits (kept in the run folder).

    Attributes:
        fit: The modules.
        data: What they are fitted on; the training data of a model that the campaign trains, if None. Never what is
            attacked.
        seed: Seed of the fits.
    """

    fit: tuple[ModuleSpec, ...] = Field(min_length=1)
    data: DataSpec | None = None
    seed: int = Field(default=0, ge=0)

    @field_validator("fit", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return [{"name": one} if isinstance(one, str) else one for one in value]


class ModelSpec(_Strict):
    """Weights: a folder or Hub id, a training, or a user's own factory. Exactly one of them.

    Attributes:
        path: Folder or Hub id of a multi-exit model or of any sequence classifier.
        train: Train it first (kept in the run folder).
        factory: ``module:function`` returning a victim; runs only with --allow-code.
        arguments: Arguments of the factory.
        max_length: Token limit; the model's own if None.
        modules: Post-hoc modules to fit; if None, policies find those saved beside the weights.
    """

    path: str | None = None
    train: TrainingSpec | None = None
    factory: str | None = None
    arguments: dict[str, Any] = {}
    max_length: int | None = Field(default=None, ge=8)
    modules: ModulesSpec | None = None

    @model_validator(mode="after")
    def _modules_have_data(self) -> Self:
        if self.modules is not None and self.modules.data is None and self.train is None:
            raise ValueError("modules: expected data to fit them on, since this model is not trained by the campaign")
        return self

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [key for key in ("path", "train", "factory") if getattr(self, key) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of path, train and factory, got {' and '.join(given) or 'none'}")
        return self


class PolicySpec(BaseModel):
    """An exit policy by name, its parameters beside the name: ``{name: patience, t: 2}`` or just ``entropy``.

    The name ``stored`` takes the policy calibrated by ``robustexit train`` from the model's folder.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str = "fixed"

    @property
    def parameters(self) -> dict[str, Any]:
        """What stands beside the name."""
        return dict(self.model_extra or {})


class VictimSpec(_Strict):
    """One deployed system: a model, an exit policy, and how its threshold is found.

    Attributes:
        model: Name of one of the campaign's models.
        policy: Exit policy; full depth by default.
        calibrate: Choose the threshold on the dataset's calibration share.
        datasets: Datasets it is attacked on; all if None.
    """

    model: str
    policy: PolicySpec = PolicySpec()
    calibrate: Target | None = None
    datasets: tuple[str, ...] | None = None

    @field_validator("policy", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


EACH = "each"
"""As parameter `k` of the goal `exit`: one goal for each exit of the victim (the crafting matrix)."""


class GoalSpec(BaseModel):
    """An attack goal by name, its parameters beside the name; or several joined: ``slowdown & keep-answer``."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """What stands beside the name."""
        return dict(self.model_extra or {})

    @property
    def label(self) -> str:
        """The goal as it stands in records: its name, with its parameters where there are any."""
        return make_goal(self.name, **self.parameters).label

    def for_exits(self, num_exits: int) -> tuple[GoalSpec, ...]:
        """Return the goal, or one for each exit where it says so."""
        if self.parameters.get("k") != EACH:
            return (self,)
        others = {**self.parameters, "name": self.name}
        return tuple(GoalSpec(**{**others, "k": k}) for k in range(1, num_exits + 1))


class RecipeSpec(BaseModel):
    """An attack recipe by name, its parameters and another search beside the name.

    ``{name: pwws, search: random-order}`` or just ``pwws``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    @property
    def parameters(self) -> dict[str, Any]:
        """What stands beside the name."""
        return dict(self.model_extra or {})

    def make(self) -> Recipe:
        """Return the recipe.

        Raises:
            ConfigError: Unknown recipe, parameter or search.
        """
        return make_recipe(self.name, **self.parameters)


def _named(value: Any) -> Any:
    """Read ``name`` alone as ``{name: name}``."""
    return {"name": value} if isinstance(value, str) else value


def _all_named(value: Any) -> Any:
    return [_named(one) for one in value] if isinstance(value, (list, tuple)) else value


class MemberSpec(_Strict):
    """One attack of a worst case: a recipe and a goal."""

    recipe: RecipeSpec
    goal: GoalSpec = GoalSpec(name="deployed")

    @field_validator("recipe", "goal", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        return _named(value)


class LimitsSpec(_Strict):
    """What one attempt may cost, as in `robustexit.attacks.limits`; with `seconds`, records depend on the machine."""

    queries: int | None = Field(default=None, ge=1)
    candidates: int | None = Field(default=None, ge=1)
    seconds: float | None = Field(default=None, gt=0)

    def make(self) -> Limits:
        """Return the limits."""
        return Limits(self.queries, self.candidates, self.seconds)


class CampaignSpec(_Strict):
    """A grid of datasets x victims x recipes x goals x views x seeds.

    Attributes:
        name: Name of the campaign and of its default folder.
        datasets: Datasets by name.
        models: Weights by name.
        victims: Deployed systems by name.
        recipes: Attack recipes.
        goals: Attack goals.
        worst_case: Sets of attacks by name, each run cheapest first on the examples still standing.
        views: What the attackers see; each makes its own cells.
        limits: What one attempt may cost.
        resources: Paths of resources by name (word vectors, a masked language model, ...).
        seeds: Seeds; each makes its own cells.
    """

    name: str = Field(pattern=NAME)
    datasets: dict[str, DatasetSpec] = Field(min_length=1)
    models: dict[str, ModelSpec] = Field(min_length=1)
    victims: dict[str, VictimSpec] = Field(min_length=1)
    recipes: tuple[RecipeSpec, ...] = ()
    goals: tuple[GoalSpec, ...] = (GoalSpec(name="deployed"),)
    worst_case: dict[str, tuple[MemberSpec, ...]] | None = None
    views: tuple[str, ...] | None = None
    limits: LimitsSpec | None = None
    resources: dict[str, str] | None = None
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)

    @field_validator("goals", "recipes", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        return _all_named(value)

    @field_serializer("recipes")
    def _names_of_plain_recipes(self, recipes: tuple[RecipeSpec, ...]) -> list[Any]:
        return [{"name": recipe.name, **recipe.parameters} if recipe.parameters else recipe.name for recipe in recipes]

    @model_validator(mode="after")
    def _something_to_run(self) -> Self:
        if not self.recipes and not self.worst_case:
            raise ValueError("expected at least one of recipes and worst_case")
        for name, members in (self.worst_case or {}).items():
            if not members:
                raise ValueError(f"worst_case {name!r}: expected at least one attack, e.g. {{recipe: deepwordbug}}")
        return self

    @model_validator(mode="after")
    def _references(self) -> Self:
        for name, victim in self.victims.items():
            if victim.model not in self.models:
                raise ValueError(f"victim {name!r}: {unknown_name('model', victim.model, self.models)}")
            for dataset in victim.datasets or ():
                if dataset not in self.datasets:
                    raise ValueError(f"victim {name!r}: {unknown_name('dataset', dataset, self.datasets)}")
            if victim.calibrate and any(self.datasets[d].calibration is None for d in self.datasets_of(name)):
                raise ValueError(
                    f"victim {name!r} asks for a calibration, but its dataset has none; "
                    "add `calibration: {fraction: 0.5}` to the dataset"
                )
        return self

    def datasets_of(self, victim: str) -> tuple[str, ...]:
        """Names of the datasets a victim is attacked on."""
        return self.victims[victim].datasets or tuple(self.datasets)

    @property
    def all_views(self) -> tuple[str, ...]:
        """The views, scores by default."""
        return self.views or ("scores",)

    @property
    def attempt_limits(self) -> Limits:
        """What one attempt may cost; nothing is limited by default."""
        return self.limits.make() if self.limits else Limits()

    @property
    def all_recipes(self) -> tuple[Recipe, ...]:
        """Every recipe that takes part, those of worst cases included, each once."""
        members = [member.recipe for members in (self.worst_case or {}).values() for member in members]
        return tuple({recipe.label: recipe for recipe in (spec.make() for spec in (*self.recipes, *members))}.values())


def load_spec(path: Path) -> CampaignSpec:
    """Read and check a campaign file.

    Raises:
        ConfigError: Missing file, no YAML, or keys and values that do not fit; one line for each.
    """
    content = read_yaml(path, "name, datasets, models, victims, recipes")
    return validate(CampaignSpec, content, str(path))


def read_yaml(path: Path, expected: str) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: The file.
        expected: What it should hold, for the message.

    Raises:
        ConfigError: Missing file, no YAML, or no mapping.
    """
    if not path.is_file():
        raise ConfigError(f"no campaign file at {path}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a mapping with {expected}; got {content!r}")
    return content
