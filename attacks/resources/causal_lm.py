"""A language model that reads from left to right."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from robustexit.attacks.resources.base import CONFIGURE, Resource, configured, find, finder
from robustexit.attacks.resources.hub import find_model, hub_model, model_name

GPT2: Final = ("gpt2", "openai-community/gpt2")


@finder("causal-lm", hub=True, fetch=hub_model("causal-lm", GPT2[-1]))
def causal_lm() -> Resource:
    """GPT-2, for Kuleshov's recipe."""
    return find_model("causal-lm", *GPT2, kind="causal language model")


def or_causal_lm(here: Resource) -> Resource:
    """Let the model of ``causal-lm`` stand in for another language model that is not found, under its own name."""
    if here.found or configured(here.name) is not None:
        return here
    causal = find("causal-lm")
    if causal.usable:
        return replace(here, where=causal.where, substitute=causal.substitute or model_name(GPT2[0]))
    setting = f"give a folder (or id on the Hub) of a causal language model as causal-lm ({CONFIGURE})"
    return replace(here, how_to_get=f"{setting}; or {here.how_to_get}")
