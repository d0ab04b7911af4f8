"""Loading what is to be attacked: our multi-exit folders and any plain sequence classifier."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from robustexit.errors import ConfigError, ModelError
from robustexit.models.config import check_single_label
from robustexit.models.multi_exit import MultiExitForSequenceClassification
from robustexit.models.sources import (
    EMBEDDED_PREFIX,
    check_config_file,
    load_weights,
    read_checked,
    resolve_backbone,
)

Kind = Literal["multi_exit", "plain"]


@dataclass(frozen=True)
class LoadedModel:
    """A classifier ready to be queried.

    Attributes:
        model: In evaluation mode, on the device asked for.
        tokenizer: Its tokenizer.
        kind: ``"multi_exit"`` for our folders, ``"plain"`` for any other sequence classifier (one exit).
        weights_hash: SHA-256 of its weights.
        path: Folder (or, with the network allowed, Hub id) it was loaded from; empty if it was not loaded.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    kind: Kind
    weights_hash: str
    path: str = ""


def weights_hash(model: nn.Module) -> str:
    """Return a SHA-256 over names, dtypes, shapes and bytes of a model's state, in the order of names.

    Args:
        model: Any module; where its weights live does not matter.

    Raises:
        ModelError: State that is not tensors (a quantised module); hash the model before quantising it.
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if not isinstance(value, torch.Tensor):
            raise ModelError(
                f"weights_hash: expected tensors, got {type(value).__name__} for {name}; "
                "hash the model before quantising it"
            )
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        # Flat first, since a scalar cannot be viewed as bytes; as bytes, since numpy has no bfloat16.
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def load_tokenizer(
    name_or_path: str | Path,
    *,
    allow_network: bool = False,
    trust_remote_code: bool = False,
    encoder_config: PretrainedConfig | None = None,
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder, Hub id or ``"embedded:minilm"``.

    Args:
        name_or_path: Where it is.
        allow_network: Let the Hub be asked.
        trust_remote_code: Run tokenizer code that comes with it.
        encoder_config: Says which tokenizer it is where its own files do not; None for the config.json beside them.

    Raises:
        ModelError: Missing or unreadable.
        ResourceError: The embedded encoder's package is not installed.
    """
    where = resolve_backbone(name_or_path, allow_network=allow_network)
    tokenizer: PreTrainedTokenizerBase = read_checked(
        "tokenizer",
        where,
        lambda: AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
            where, config=encoder_config, local_files_only=not allow_network, trust_remote_code=trust_remote_code
        ),
    )
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise ModelError(
            f"{where}: expected a tokenizer with a vocabulary, got none; save the model's tokenizer in its "
            "folder (tokenizer.save_pretrained)"
        )
    return tokenizer


def load_model(
    name_or_path: str | Path,
    *,
    allow_network: bool = False,
    trust_remote_code: bool = False,
    device: str | torch.device = "cpu",
) -> LoadedModel:
    """Load a multi-exit folder or any plain sequence classifier, with its tokenizer.

    Args:
        name_or_path: Folder or Hub id.
        allow_network: Let the Hub be asked; otherwise a Hub id must be in the local cache.
        trust_remote_code: Run modelling and tokenizer code that comes with the checkpoint.
        device: Where to put the model.

    Returns:
        The model in evaluation mode, its tokenizer, its kind and its weights' hash.

    Raises:
        ModelError: Missing, corrupt or incomplete; a regression or multi-label head; a bare encoder.
    """
    if str(name_or_path).startswith(EMBEDDED_PREFIX):
        raise ModelError(
            f"{name_or_path}: expected a trained classifier, got a pretrained encoder without heads; use it "
            "as the backbone of robustexit train, then load the folder that training wrote"
        )
    where = resolve_backbone(name_or_path, allow_network=allow_network)
    check_config_file(where)
    access: dict[str, Any] = {"allow_network": allow_network, "trust_remote_code": trust_remote_code}
    config = read_checked(
        "configuration",
        where,
        lambda: AutoConfig.from_pretrained(
            where, local_files_only=not allow_network, trust_remote_code=trust_remote_code
        ),
    )
    try:
        check_single_label(config.problem_type, config.num_labels, where)
    except ConfigError as error:
        raise ModelError(str(error)) from error
    tokenizer = load_tokenizer(where, **access)
    model = load_weights(AutoModelForSequenceClassification, where, config=config, **access)
    table = cast(torch.Tensor, model.get_input_embeddings().weight)
    if len(tokenizer) > len(table):
        raise ModelError(
            f"{where}: expected a tokenizer that fits the model, got {len(tokenizer)} tokens, "
            f"{len(table)} embeddings; save this model's own tokenizer with it"
        )
    kind: Kind = "multi_exit" if isinstance(model, MultiExitForSequenceClassification) else "plain"
    digest = weights_hash(model)
    module: nn.Module = model
    module.to(device)
    return LoadedModel(model, tokenizer, kind, digest, where)
