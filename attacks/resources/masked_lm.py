"""Masked language models, which propose words for a gap."""

from __future__ import annotations

from typing import Final

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.hub import find_model, hub_model

BERT: Final = ("bert-base-uncased", "google-bert/bert-base-uncased")
DISTILROBERTA: Final = ("distilroberta-base", "distilbert/distilroberta-base")
XLM_ROBERTA: Final = ("xlm-roberta-base", "FacebookAI/xlm-roberta-base")
_KIND: Final = "masked language model"


@finder("masked-lm", hub=True, fetch=hub_model("masked-lm", BERT[-1]))
def masked_lm() -> Resource:
    """BERT, for BAE, BERT-Attack and A2T's variant."""
    return find_model("masked-lm", *BERT, kind=_KIND)


@finder("masked-lm-roberta", hub=True, fetch=hub_model("masked-lm-roberta", DISTILROBERTA[-1]))
def masked_lm_roberta() -> Resource:
    """DistilRoBERTa, for CLARE."""
    return find_model("masked-lm-roberta", *DISTILROBERTA, kind=_KIND)


@finder("masked-lm-chinese", hub=True, fetch=hub_model("masked-lm-chinese", XLM_ROBERTA[-1]))
def masked_lm_chinese() -> Resource:
    """XLM-RoBERTa, for the Chinese recipe."""
    return find_model("masked-lm-chinese", *XLM_ROBERTA, kind=_KIND)
