"""The tagger behind ``AttackedText.pos_of_word_index``."""

from __future__ import annotations

from dataclasses import replace

from robustexit.attacks.resources.base import Resource, configured, finder
from robustexit.attacks.resources.flair_models import find_flair, flair_model
from robustexit.attacks.resources.pos_tagger import pos_tagger


@finder("upos-tagger", fetch=flair_model("flair/upos-english-fast"))
def upos_tagger() -> Resource:
    """Flair's tagger of universal parts of speech, for PSO (and Morpheus); NLTK's stands in."""
    flair = find_flair("upos-tagger", "flair/upos-english-fast")
    if flair.found or configured(flair.name):
        return flair
    nltk = pos_tagger()
    stands_in = "nltk-pos" if nltk.found else nltk.substitute
    return replace(flair, substitute=stands_in, how_to_get=flair.how_to_get if stands_in else nltk.how_to_get)
