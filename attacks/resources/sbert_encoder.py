"""The sentence encoder of A2T."""

from __future__ import annotations

from typing import Final

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.hub import find_model, hub_model
from robustexit.attacks.resources.sentence_encoder import or_minilm

SBERT: Final = ("stsb-distilbert-base", "sentence-transformers/stsb-distilbert-base")


@finder("sbert-encoder", hub=True, fetch=hub_model("sbert-encoder", SBERT[-1]))
def sbert_encoder() -> Resource:
    """The Sentence-BERT model ``stsb-distilbert-base``; in its place, the packaged MiniLM."""
    return or_minilm(find_model("sbert-encoder", *SBERT, kind="sentence encoder"))
