"""A language model that reads from left to right."""

from __future__ import annotations

from typing import Final

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.hub import find_model, hub_model

GPT2: Final = ("gpt2", "openai-community/gpt2")


@finder("causal-lm", hub=True, fetch=hub_model("causal-lm", GPT2[-1]))
def causal_lm() -> Resource:
    """GPT-2, for Kuleshov's recipe."""
    return find_model("causal-lm", *GPT2, kind="causal language model")
