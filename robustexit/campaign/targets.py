"""The victims that a run's texts are transferred to: from a campaign file, or one model named directly."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, model_validator
from typing_extensions import Self

from robustexit.campaign.manifest import changes
from robustexit.campaign.modules import modules_home
from robustexit.campaign.prepare import Splits, VictimBuilder, calibration_path, load_splits, model_folder
from robustexit.campaign.spec import NAME, CampaignSpec, DatasetSpec, ModelSpec, VictimSpec, read_yaml
from robustexit.data import Example, TextDataset
from robustexit.errors import ConfigError
from robustexit.exits import ExitPolicy, policies
from robustexit.permissions import Permissions
from robustexit.runs import Run, write_atomically
from robustexit.validation import validate


class TargetsSpec(CampaignSpec):
    """A campaign of which only the models, the victims and their datasets count; nothing is attacked.

    Any campaign file will do. `datasets` are needed only by victims that learn from a calibration share.
    """

    name: str = Field(default="transfer", pattern=NAME)
    datasets: dict[str, DatasetSpec] = Field(default={})

    @model_validator(mode="after")
    def _something_to_run(self) -> Self:
        return self


@dataclass(frozen=True)
class NamedTarget:
    """One target given directly.

    Attributes:
        model: Folder or Hub id.
        policy: Exit policy by name.
        parameters: Its parameters.
        name: Name in records; made of model and policy if None.
    """

    model: str
    policy: str = "fixed"
    parameters: Mapping[str, Any] | None = None
    name: str | None = None

    def sections(self) -> dict[str, dict[str, Any]]:
        """Return what a campaign file would say of it."""
        there = Path(self.model).exists()
        name = self.name or f"{Path(self.model).resolve().name if there else Path(self.model).name}-{self.policy}"
        path = str(Path(self.model).resolve()) if there else self.model
        victim = {"model": name, "policy": {"name": self.policy, **(self.parameters or {})}}
        return {"models": {name: {"path": path}}, "victims": {name: victim}}


@dataclass(frozen=True)
class Targets:
    """What the texts are transferred to.

    Attributes:
        spec: Models, victims and datasets.
        base: Folder that relative paths count from.
        where: Where they stand, for messages.
    """

    spec: TargetsSpec
    base: Path
    where: str


def load_targets(campaign: Path | None, named: NamedTarget | None, source: Run) -> Targets:
    """Read the targets.

    Args:
        campaign: A campaign file; its recipes and goals do not matter.
        named: One more target.
        source: The run that is transferred; its own campaign says what the file does not about datasets.

    Raises:
        ConfigError: Neither is given, a name twice, or keys and values that do not fit.
    """
    if campaign is None and named is None:
        raise ConfigError("expected victims to transfer to: give --victims CAMPAIGN.yaml, or --model and --policy")
    content = {} if campaign is None else read_yaml(campaign, "models and victims")
    where = "the model given" if campaign is None else str(campaign)
    for section, added in ({} if named is None else named.sections()).items():
        there = content.setdefault(section, {})
        for name in added if isinstance(there, dict) else ():
            if name in there:
                raise ConfigError(f"{where} has a {section[:-1]} {name!r} already; choose another --name")
        content[section] = {**there, **added}
    spec = validate(TargetsSpec, content, where)
    return Targets(
        _with_datasets_of(spec, source), Path.cwd() if campaign is None else campaign.resolve().parent, where
    )


def _with_datasets_of(spec: TargetsSpec, source: Run) -> TargetsSpec:
    """Keep the run's datasets; what the file lacks and a victim needs is taken from the run's campaign."""
    names = list(dict.fromkeys(source.records["dataset"].astype(str)))
    said = (source.manifest.get("campaign") or {}).get("datasets") or {}
    found = {name: spec.datasets[name] for name in names if name in spec.datasets}
    for victim in spec.victims.values():
        for name in victim.datasets or names:
            if name in names and name not in found and name in said and _needs_data(victim):
                found[name] = validate(DatasetSpec, said[name], f"dataset {name!r} of {source.path}")
    return spec.model_copy(update={"datasets": found})


def _needs_data(victim: VictimSpec) -> bool:
    """Whether a victim cannot be built without a calibration share."""
    if victim.calibrate is not None:
        return True
    name = victim.policy.name
    return name != "stored" and policies.get(name).fitted is not ExitPolicy.fitted


def datasets_of(spec: TargetsSpec, victim: str, names: list[str]) -> list[str]:
    """Return those of the run's datasets that a target is meant for."""
    return [name for name in names if name in (spec.victims[victim].datasets or names)]


def target_splits(name: str, texts: TextDataset, targets: Targets, permissions: Permissions) -> Splits:
    """Return what a target is built with on one dataset of the run.

    Args:
        name: The dataset.
        texts: The originals of the run's texts; without label names where the run does not know them.
        targets: The targets.
        permissions: What the user allowed.

    Raises:
        DataError: The dataset of the campaign file cannot be used.
        ConfigError: Its labels or fields are not the run's, or thresholds would be tuned on the run's texts.
    """
    said = targets.spec.datasets.get(name)
    if said is None:
        return Splits(texts, None, texts, ())
    splits = load_splits(name, said, targets.base, permissions)
    if texts.label_names and splits.whole.label_names != texts.label_names:
        raise ConfigError(
            f"dataset {name!r}: the run's labels are {list(texts.label_names)}, those of {targets.where} "
            f"{list(splits.whole.label_names)}; they must be the same, in the same order"
        )
    if splits.whole.field_names != texts.field_names:
        raise ConfigError(
            f"dataset {name!r}: the run's texts have the fields {list(texts.field_names)}, those of {targets.where} "
            f"{list(splits.whole.field_names)}; name the columns alike with `fields`"
        )
    tuned = {tuple(text.values()) for text in splits.calibration.texts} if splits.calibration else set()
    shared = [example.example_id for example in texts.examples if tuple(example.fields.values()) in tuned]
    if shared:
        raise ConfigError(
            f"dataset {name!r}: {len(shared)} of the run's {len(texts)} originals are also in the calibration data "
            f"(first: {shared[0]}); calibrate on other texts"
        )
    return splits


def with_labels_of(deployed_labels: tuple[str, ...], splits: Splits) -> Splits:
    """Return splits whose unknown label names are the model's."""
    if splits.whole.label_names:
        return splits
    whole = TextDataset(splits.whole.name, splits.whole.examples, deployed_labels, splits.whole.source)
    highest = max(splits.whole.labels)
    if highest >= len(deployed_labels):
        raise ConfigError(
            f"dataset {whole.name!r}: the run's labels go up to {highest}, the model's classes are "
            f"{list(deployed_labels)}; they must be the same classes"
        )
    return Splits(whole, None, whole, ())


def originals(records: Any, name: str, manifest: Mapping[str, Any]) -> TextDataset:
    """Return the originals of a run's texts on one dataset, each once."""
    said = (manifest.get("datasets") or {}).get(name) or {}
    rows = records.drop_duplicates("example_id")
    examples = tuple(
        Example(str(example_id), text, int(label))
        for example_id, text, label in zip(rows["example_id"], rows["text"], rows["label"], strict=True)
    )
    return TextDataset(name, examples, tuple(said.get("labels") or ()), "records")


def adopt_models(targets: Targets, source: Run, out: Path) -> TargetsSpec:
    """Return the spec with models that the source run trained already taken from there, not trained again.

    Post-hoc modules that it fitted are copied. Only what both campaigns say in the same words is adopted.
    """
    said = source.manifest.get("campaign") or {}
    models: dict[str, ModelSpec] = {}
    for name, model in targets.spec.models.items():
        models[name] = model
        if not _same((said.get("models") or {}).get(name), model):
            continue
        trained = model_folder(source.path, name)
        if model.train is not None and trained.is_dir():
            models[name] = model.model_copy(update={"path": str(trained.resolve()), "train": None})
        fitted, copy = modules_home(source.path, name), modules_home(out, name)
        if model.modules is not None and fitted.is_dir() and not copy.exists():
            shutil.copytree(fitted, copy)
    return targets.spec.model_copy(update={"models": models})


def adopt_calibrations(targets: Targets, source: Run, out: Path, builder: VictimBuilder) -> None:
    """Copy thresholds that the source run chose for the same victim on the same data."""
    said = source.manifest.get("campaign") or {}
    weights = source.manifest.get("weights") or {}
    for name, victim in targets.spec.victims.items():
        model = targets.spec.models[victim.model]
        same = _same((said.get("victims") or {}).get(name), victim)
        if not same or model.factory is not None or victim.model not in weights:
            continue
        if builder.deployed(victim.model).loaded.weights_hash != weights[victim.model]:
            continue
        for dataset, spec in targets.spec.datasets.items():
            there, here = calibration_path(source.path, dataset, name), calibration_path(out, dataset, name)
            if _same((said.get("datasets") or {}).get(dataset), spec) and there.exists() and not here.exists():
                write_atomically(here, there.read_bytes())


def _same(said: Any, spec: BaseModel) -> bool:
    return said is not None and not changes({"campaign": said}, {"campaign": spec.model_dump(mode="json")})
