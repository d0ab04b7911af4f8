"""Everything a campaign needs before its first attack: data, weights, calibrated victims.

Both the parent and its workers build victims here, from the campaign and what the run folder holds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from robustexit.campaign.modules import fit_missing, modules_home
from robustexit.campaign.spec import CampaignSpec, DatasetSpec, ModelSpec, VictimSpec
from robustexit.data import TextDataset, load_dataset_spec, split_half, stratified_sample
from robustexit.errors import ConfigError, RunError
from robustexit.exits import Calibration, ExitPolicy, HeldOut, calibrate, make_policy, policies, refuse_inert
from robustexit.exits.stream import StreamPolicy
from robustexit.models import load_model
from robustexit.permissions import Permissions
from robustexit.runs import write_atomically
from robustexit.training import TrainSpec, train
from robustexit.victims.base import Victim
from robustexit.victims.custom import load_factory
from robustexit.victims.labels import require_same_labels
from robustexit.victims.live import LiveVictim
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import Outputs, collect_outputs
from robustexit.victims.stored import load_stored_policy


@dataclass(frozen=True)
class Splits:
    """One dataset of a campaign, divided.

    Attributes:
        whole: As loaded.
        calibration: Held-out examples for thresholds, or None.
        attacked: The examples to attack; disjoint from `calibration`.
        protect: Fields no attack may change.
        language: Language of the texts.
    """

    whole: TextDataset
    calibration: TextDataset | None
    attacked: TextDataset
    protect: tuple[str, ...]
    language: str = "en"


def load_splits(name: str, spec: DatasetSpec, base: Path, permissions: Permissions) -> Splits:
    """Load one dataset and divide it into calibration and attacked examples.

    Raises:
        DataError: The data cannot be used.
        ConfigError: A protected field does not exist.
    """
    whole = load_dataset_spec(spec.data, name=name, base=base, allow_network=permissions.network)
    for field in spec.protect:
        if field not in whole.field_names:
            raise ConfigError(
                f"dataset {name!r}: cannot protect {field!r}; its fields are {', '.join(whole.field_names)}"
            )
    held_out, rest = None, whole
    if spec.calibration and spec.calibration.data:
        held_out = load_dataset_spec(
            spec.calibration.data, name=f"{name}-calibration", base=base, allow_network=permissions.network
        )
    elif spec.calibration:
        held_out, rest = split_half(whole, spec.calibration.fraction, spec.calibration.seed)
    if spec.attacked.sample is not None:
        rest = stratified_sample(rest, spec.attacked.sample, spec.attacked.seed)
    _refuse_overlap(name, held_out, rest)
    return Splits(whole, held_out, rest, spec.protect, spec.language)


def _refuse_overlap(name: str, held_out: TextDataset | None, attacked: TextDataset) -> None:
    """Thresholds tuned on the texts that are attacked afterwards would flatter the victim."""
    tuned = {tuple(text.values()) for text in held_out.texts} if held_out else set()
    shared = [example.example_id for example in attacked.examples if tuple(example.fields.values()) in tuned]
    if shared:
        raise ConfigError(
            f"dataset {name!r}: {len(shared)} of {len(attacked)} attacked texts are also in its calibration data "
            f"(first: {shared[0]}); calibrate on other texts, or remove the repeated ones"
        )


def model_folder(run: Path, name: str) -> Path:
    """Where the run keeps a model it trained."""
    return run / "models" / name


def train_models(spec: CampaignSpec, run: Path, base: Path, permissions: Permissions, *, progress: bool) -> None:
    """Train the campaign's models that need it; finished ones are kept, interrupted ones resumed."""
    for name, model in spec.models.items():
        if model.train is None:
            continue
        load = partial(load_dataset_spec, base=base, allow_network=permissions.network)
        data = load(model.train.data, name=name)
        held_out = None if model.train.eval is None else load(model.train.eval, name=f"{name}-eval")
        target = None
        if model.train.target is not None:
            target = load(model.train.target, name=f"{name}-target", unlabelled=data.label_names)
        settings = model.train.model_dump(exclude={"data", "eval", "target"})
        settings["backbone"] = _resolve_path(model.train.backbone, base)
        train(
            TrainSpec.parse(settings),
            data,
            held_out,
            model_folder(run, name),
            target_data=target,
            progress=progress,
            permissions=permissions,
        )


def _resolve_path(name: str, base: Path) -> str:
    """A relative folder counts from the campaign file; anything else is a Hub id or a packaged model."""
    return str((base / name).resolve()) if (base / name).exists() else name


class VictimBuilder:
    """Builds a campaign's victims; victims over the same weights share one model in memory.

    Args:
        spec: The campaign.
        run: Its run folder.
        base: Folder of the campaign file.
        permissions: What the user allowed.
    """

    def __init__(self, spec: CampaignSpec, run: Path, base: Path, permissions: Permissions) -> None:
        self._spec = spec
        self._run = run
        self._base = base
        self._permissions = permissions
        self._deployed: dict[str, DeployedModel] = {}
        self._outputs: dict[tuple[str, str], Outputs] = {}

    def deployed(self, model: str) -> DeployedModel:
        """Return the weights of a model, loaded once."""
        if model not in self._deployed:
            source = self._source(model, self._spec.models[model])
            loaded = load_model(
                source,
                allow_network=self._permissions.network,
                trust_remote_code=self._permissions.remote_code,
            )
            spec = self._spec.models[model]
            home = None if spec.modules is None else modules_home(self._run, model)
            self._deployed[model] = DeployedModel(loaded, spec.max_length, home)
            fit_missing(model, spec, self._deployed[model], self._base, self._permissions)
        return self._deployed[model]

    def _source(self, name: str, model: ModelSpec) -> str:
        if model.train is not None:
            return str(model_folder(self._run, name))
        return _resolve_path(model.path or "", self._base)

    def build(self, name: str, dataset: str, splits: Splits) -> Victim:
        """Build one victim for one dataset, calibrating it the first time.

        Raises:
            ConfigError: Labels do not fit, nothing can leave early, or code is not allowed.
        """
        victim = self._spec.victims[name]
        model = self._spec.models[victim.model]
        if model.factory is not None:
            return self._from_factory(name, model, splits)
        deployed = self.deployed(victim.model)
        require_same_labels(deployed, splits.whole, f"victim {name!r}")
        policy = self._policy(name, victim, dataset, splits, deployed)
        if isinstance(policy, StreamPolicy) and policy.learns:
            burn_in = self._held_out(victim.model, dataset, splits, policy.module) if splits.calibration else None
            return LiveVictim(deployed, policy, burn_in)
        return ModelVictim(deployed, policy)

    def _from_factory(self, name: str, model: ModelSpec, splits: Splits) -> Victim:
        if not self._permissions.code:
            raise ConfigError(
                f"victim {name!r} runs code of its own ({model.factory}); pass --allow-code if you trust it"
            )
        built = load_factory(model.factory or "", model.arguments, self._base)
        if built.num_classes != len(splits.whole.label_names):
            raise ConfigError(
                f"victim {name!r}: the factory's model has {built.num_classes} classes, dataset "
                f"{splits.whole.name!r} has {len(splits.whole.label_names)}"
            )
        return built

    def _policy(
        self, name: str, victim: VictimSpec, dataset: str, splits: Splits, deployed: DeployedModel
    ) -> ExitPolicy:
        if victim.calibrate is None:
            if victim.policy.name == "stored":
                policy = load_stored_policy(Path(deployed.loaded.path)).policy
            else:
                policy = make_policy(victim.policy.name, **victim.policy.parameters)
            held_out = self._held_out(victim.model, dataset, splits, policy.module) if splits.calibration else None
            policy = policy if held_out is None else policy.fitted(held_out)
            live = isinstance(policy, StreamPolicy) and policy.learns  # no fold over exits that could be tried
            refuse_inert(policy, deployed.shape.num_exits, deployed.shape.num_classes, None if live else held_out)
            return policy
        stored = read_calibration(self._run, dataset, name)
        if stored is None:
            stored = calibrate(
                victim.policy.name,
                victim.calibrate,
                self._held_out(victim.model, dataset, splits, policies.get(victim.policy.name).module),
                **victim.policy.parameters,
            )
            path = calibration_path(self._run, dataset, name)
            write_atomically(path, json.dumps(stored.as_dict(), indent=2).encode())
        return stored.make()

    def _held_out(self, model: str, dataset: str, splits: Splits, module: str | None) -> HeldOut:
        """Every exit's outputs on the calibration examples, computed once for each model and dataset."""
        key = (model, dataset)
        deployed = self.deployed(model)
        if key not in self._outputs:
            if splits.calibration is None:
                raise ConfigError(f"dataset {dataset!r} has no calibration share")
            self._outputs[key] = collect_outputs(deployed, splits.calibration)
        return self._outputs[key].held_out(None if module is None else deployed.module(module))


def calibration_path(run: Path, dataset: str, victim: str) -> Path:
    """Where a run keeps the calibration of a victim on a dataset."""
    return run / "victims" / f"{dataset}.{victim}.json"


def read_calibration(run: Path, dataset: str, victim: str) -> Calibration | None:
    """Return the calibration stored in a run for a victim, or None.

    Raises:
        RunError: The file cannot be read.
    """
    path = calibration_path(run, dataset, victim)
    if not path.exists():
        return None
    try:
        content: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return Calibration(**content)
    except (json.JSONDecodeError, TypeError) as error:
        raise RunError(f"{path} cannot be read ({error}); remove it and run again to calibrate anew") from error
