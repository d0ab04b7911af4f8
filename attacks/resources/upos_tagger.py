"""The tagger behind ``AttackedText.pos_of_word_index``."""

from __future__ import annotations

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.flair_models import find_flair, flair_model


@finder("upos-tagger", fetch=flair_model("flair/upos-english-fast"))
def upos_tagger() -> Resource:
    """Flair's tagger of universal parts of speech, for PSO (and Morpheus)."""
    return find_flair("upos-tagger", "flair/upos-english-fast")
