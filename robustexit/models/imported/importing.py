"""From a checkpoint of another project to a folder of ours."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from robustexit.errors import ConfigError, ModelError
from robustexit.models.config import MultiExitConfig
from robustexit.models.imported.base import (
    CheckpointFormat,
    Encoder,
    Layout,
    Origin,
    formats,
    without_place_reason,
)
from robustexit.models.imported.reading import Checkpoint, Weights, read_checkpoint
from robustexit.models.loading import load_tokenizer
from robustexit.models.multi_exit import MultiExitForSequenceClassification
from robustexit.models.sources import quiet_transformers

_SHOWN = 4
"""Names listed in a message."""

_COMPUTED = (r".*\.embeddings\.(position_ids|token_type_ids)", "a counter, not a weight; it is computed")


@dataclass(frozen=True)
class ImportReport:
    """What became of a checkpoint.

    Attributes:
        format: Its format.
        folder: Our model.
        placed: Name in the checkpoint of each of our tensors, by our name.
        unplaced: Why each of the other tensors has no place in our model, by its name.
        extras: Tensors that post-hoc modules can be made of, by the module's name and their own names.
        num_exits: K.
        label_names: Name of each class.
    """

    format: str
    folder: Path
    placed: Mapping[str, str]
    unplaced: Mapping[str, str]
    extras: Mapping[str, Mapping[str, torch.Tensor]]
    num_exits: int
    label_names: tuple[str, ...]


def import_checkpoint(
    source: Path,
    format: str | None,
    out: Path,
    *,
    label_names: Sequence[str] | None = None,
    tokenizer: Path | None = None,
    field_names: Sequence[str] = ("text",),
    max_length: int | None = None,
) -> ImportReport:
    """Read a checkpoint of another early-exit project and save it as a multi-exit model of ours.

    Args:
        source: A folder with config.json and weights (safetensors, or .bin and .pt, read as tensors alone), or the
            weights file with config.json beside it.
        format: A registered format, or None to tell it from the tensors' names.
        out: The new folder.
        label_names: Name of each class; None for those in config.json.
        tokenizer: Folder of the tokenizer; None if its files are beside the weights.
        field_names: Text fields, in the order the tokenizer sees them.
        max_length: Longest input in tokens; None for the encoder's own limit.

    Returns:
        What found its place, what did not, and what post-hoc modules can be made of.

    Raises:
        ConfigError: Unknown format, or settings that cannot work.
        ModelError: Unreadable or truncated files, a pickle with code, a regression head, another format, tensors of
            ours without a value, or an `out` that holds something. Nothing is written then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ModelError(f"{out}: expected a new folder, found one with something in it; choose another")
    checkpoint = read_checkpoint(source)
    chosen = _format(checkpoint, format)
    classes = chosen.classes(checkpoint.weights)
    encoder = chosen.encoder(checkpoint.weights, checkpoint.config)
    layout = chosen.layout(encoder, checkpoint.weights, classes)
    names = _label_names(label_names, checkpoint, classes)
    model = _build(chosen, encoder, layout, checkpoint, names, field_names, max_length)
    origins = _origins(model, encoder, layout)
    _fill(model, origins, checkpoint, chosen)
    report = ImportReport(
        format=chosen.name,
        folder=out,
        placed={ours: origin.key for ours, origin in origins.items()},
        unplaced=_unplaced(encoder, layout, origins, checkpoint),
        extras=_extras(layout, checkpoint.weights),
        num_exits=model.num_exits,
        label_names=names,
    )
    _save(model, _tokenizer(tokenizer or checkpoint.file.parent, encoder), out)
    return report


def _tokenizer(folder: Path, encoder: Encoder) -> PreTrainedTokenizerBase:
    tokenizer = load_tokenizer(folder, encoder_config=encoder.config)
    if len(tokenizer) > encoder.config.vocab_size:
        raise ModelError(
            f"{folder}: expected a tokenizer that fits the model, got {len(tokenizer)} tokens for "
            f"{encoder.config.vocab_size} embeddings; give the folder of the checkpoint's own tokenizer"
        )
    return tokenizer


def _format(checkpoint: Checkpoint, name: str | None) -> CheckpointFormat:
    if name is not None:
        return formats.get(name)
    keys = frozenset(checkpoint.weights)
    known = {candidate: formats.get(candidate) for candidate in formats.names()}
    fitting = [candidate for candidate, one in known.items() if one.recognises(keys)]
    if len(fitting) == 1:
        return known[fitting[0]]
    if fitting:
        raise ModelError(f"{checkpoint.file}: expected one format, got {' or '.join(fitting)}; say which one it is")
    raise ModelError(
        f"{checkpoint.file}: expected a checkpoint of {', '.join(known)}, got one with none of their exits (its names "
        f"begin with {', '.join(sorted(keys)[:_SHOWN])}); a plain classifier needs no import: give its folder as it is"
    )


def _label_names(given: Sequence[str] | None, checkpoint: Checkpoint, classes: int) -> tuple[str, ...]:
    if classes < 2:
        raise ModelError(
            f"{checkpoint.file}: expected a classifier with at least 2 outputs, got {classes} (a regression head); "
            "robustness is measured on classes"
        )
    if given is not None:
        if len(given) != classes or isinstance(given, str):
            raise ConfigError(f"label_names: expected {classes} names, one an output, got {list(given)}")
        return tuple(given)
    stated = checkpoint.config.get("id2label")
    if isinstance(stated, Mapping) and set(stated) == {str(index) for index in range(classes)}:
        return tuple(str(stated[str(index)]) for index in range(classes))
    return tuple(f"LABEL_{index}" for index in range(classes))


def _build(
    chosen: CheckpointFormat,
    encoder: Encoder,
    layout: Layout,
    checkpoint: Checkpoint,
    label_names: tuple[str, ...],
    field_names: Sequence[str],
    max_length: int | None,
) -> MultiExitForSequenceClassification:
    config = MultiExitConfig(
        encoder=encoder.config,
        head=layout.head,
        pooling="cls",
        dropout=getattr(encoder.config, "classifier_dropout_prob", encoder.config.hidden_dropout_prob),
        head_norm=False,
        field_names=field_names,
        max_length=max_length,
        id2label=dict(enumerate(label_names)),
        label2id={name: index for index, name in enumerate(label_names)},
        pad_token_id=encoder.config.pad_token_id,
        training={"imported": chosen.name, "source_sha256": checkpoint.sha256},
    )
    with torch.random.fork_rng(devices=[]):
        model = MultiExitForSequenceClassification(config)
    model.train(False)
    return model


def _origins(model: MultiExitForSequenceClassification, encoder: Encoder, layout: Layout) -> dict[str, Origin]:
    """Return the origin of each of our tensors; the encoder's have the names that Hugging Face gave them."""
    origins = {}
    for ours in model.state_dict():
        inside = ours.removeprefix("encoder.")
        origins[ours] = layout.heads[ours] if inside == ours else Origin(f"{encoder.prefix}.{inside}")
    return origins


def _fill(
    model: MultiExitForSequenceClassification,
    origins: Mapping[str, Origin],
    checkpoint: Checkpoint,
    chosen: CheckpointFormat,
) -> None:
    weights = checkpoint.weights
    empty = [f"{origin.key} for our {ours}" for ours, origin in origins.items() if origin.key not in weights]
    if empty:
        keys = frozenset(weights)
        others = [name for name in formats.names() if name != chosen.name and formats.get(name).recognises(keys)]
        advice = f"it looks like {others[0]!r}" if others else "check the format, and that the file is complete"
        raise ModelError(
            f"{checkpoint.file}: as {chosen.name!r} it lacks {len(empty)} of {len(origins)} tensors "
            f"({_some(empty)}); {advice}"
        )
    state = {ours: origin.read(weights) for ours, origin in origins.items()}
    wrong = [
        f"{origins[ours].key}: {tuple(state[ours].shape)} for {tuple(value.shape)}"
        for ours, value in model.state_dict().items()
        if state[ours].shape != value.shape
    ]
    if wrong:
        raise ModelError(
            f"{checkpoint.file}: expected the shapes that config.json says, got others for {len(wrong)} tensors "
            f"({_some(wrong)}); the config.json is another model's"
        )
    model.load_state_dict(state)


def _unplaced(
    encoder: Encoder, layout: Layout, origins: Mapping[str, Origin], checkpoint: Checkpoint
) -> dict[str, str]:
    """Return why each tensor without a place has none.

    Raises:
        ModelError: The encoder has more layers than config.json says.
    """
    used = {origin.key for origin in origins.values()}.union(*layout.extras.values())
    layer = re.compile(rf"{encoder.prefix}\.(encoder\.(layer|albert_layer_groups)\.|embeddings\.)")
    unplaced, layers = {}, []
    for key in checkpoint.weights:
        if key in used:
            continue
        computed, reason = _COMPUTED
        if re.fullmatch(computed, key):
            unplaced[key] = reason
            continue
        unplaced[key] = without_place_reason(key, layout)
        if layer.match(key):
            layers.append(key)
    if layers:
        raise ModelError(
            f"{checkpoint.file}: expected the {encoder.layers} layers that config.json says, got tensors of others "
            f"({_some(layers)}); the config.json is another model's"
        )
    return unplaced


def _extras(layout: Layout, weights: Weights) -> dict[str, dict[str, torch.Tensor]]:
    missing = [key for keys in layout.extras.values() for key in keys if key not in weights]
    if missing:
        raise ModelError(f"checkpoint: expected {_some(missing)}, found none; check that the file is complete")
    return {module: {key: weights[key] for key in keys} for module, keys in layout.extras.items()}


def _save(model: MultiExitForSequenceClassification, tokenizer: PreTrainedTokenizerBase, out: Path) -> None:
    """Write the folder beside its place, then move it there: it is whole or not there.

    Raises:
        ModelError: It cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ModelError(f"{out}: could not be written ({error}); choose another folder") from error
    try:
        with quiet_transformers():
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        partial.chmod(0o755)  # mkdtemp's folders are the owner's alone
        if out.exists():
            out.rmdir()
        partial.rename(out)
    except OSError as error:
        raise ModelError(f"{out}: could not be written ({error}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
