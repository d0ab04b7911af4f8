"""NLTK's part-of-speech tagger for English, and the lexicon-based one in its place."""

from __future__ import annotations

from typing import Final

from robustexit.attacks.resources.base import Resource, configured_path, find, finder, misconfigured
from robustexit.attacks.resources.nltk_packages import nltk_packages
from robustexit.attacks.resources.places import in_nltk, nltk_holds

TAGGER: Final = "taggers/averaged_perceptron_tagger_eng"
TAG_SET: Final = "taggers/universal_tagset"
LEXICON_TAGGER: Final = "lexicon-tagger"
"""Name of the tagger made from WordNet, closed word classes and endings."""


@finder("pos-tagger", fetch=nltk_packages(TAGGER, TAG_SET))
def pos_tagger() -> Resource:
    """NLTK's English tagger and its universal tag set; in their place, a tagger made from WordNet.

    NLTK >= 3.9 wants the name ending in ``_eng``, which TextAttack does not fetch.
    """
    chosen = configured_path("pos-tagger")
    if chosen is not None and not nltk_holds(chosen, TAGGER, TAG_SET):
        return misconfigured("pos-tagger", f"holds no {TAGGER} and {TAG_SET}", "an NLTK data folder that does")
    folder = chosen or in_nltk(TAGGER)
    tags = chosen or in_nltk(TAG_SET)
    lacking = TAG_SET if folder else TAGGER
    found = folder is not None and tags is not None
    return Resource(
        "pos-tagger",
        found,
        str(folder) if found else f"no NLTK folder holds {lacking}",
        LEXICON_TAGGER if not found and find("wordnet").found else None,
        "python -m nltk.downloader averaged_perceptron_tagger_eng universal_tagset, "
        "or set NLTK_DATA to a folder holding them under taggers/",
    )
