"""Temperature scaling of every exit: a model whose logits are divided by what held-out data ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robustexit.errors import ConfigError, ModelError
from robustexit.models import LoadedModel, MultiExitConfig, MultiExitForSequenceClassification


def save_scaled(loaded: LoadedModel, temperatures: Sequence[float], out: Path) -> None:
    """Save a copy of a model whose exits' logits are divided by temperatures (Guo et al. 2017, arXiv 1706.04599).

    Answers stay as they are; confidences change, and with them what every confidence-based policy does.

    Args:
        loaded: A multi-exit model that is not scaled yet.
        temperatures: T_i of each exit, from `robustexit.exits.temperature.fit_temperatures`, shape [K].
        out: The new folder.

    Raises:
        ModelError: A plain model, or one that is scaled already.
        ConfigError: The folder is not empty, or a head that cannot be scaled.
    """
    model = loaded.model
    if not isinstance(model, MultiExitForSequenceClassification):
        raise ModelError("expected a multi-exit model, got a plain classifier; train one with `robustexit train`")
    if model.config.temperatures is not None:
        raise ModelError(
            f"{loaded.path or 'the model'} is scaled already (temperatures {list(model.config.temperatures)}); scale "
            "the model it was made of"
        )
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty; choose a new folder")
    settings = {**model.config.to_dict(), "temperatures": [float(value) for value in temperatures]}
    scaled = MultiExitForSequenceClassification(MultiExitConfig.from_dict(settings))
    wanting, unknown = scaled.load_state_dict(model.state_dict(), strict=False)
    if unknown or any(not name.endswith(".temperature") for name in wanting):
        raise ModelError(f"the model's weights do not fit its configuration: {[*wanting, *unknown][:4]}")
    scaled.train(False)
    scaled.save_pretrained(out, safe_serialization=True)
    loaded.tokenizer.save_pretrained(out)
