"""Taggers that find names of people and places; rules over TextAttack's own lists of names stand in."""

from __future__ import annotations

from dataclasses import replace

from robustexit.attacks.resources.base import Resource, configured, finder
from robustexit.attacks.resources.flair_models import find_flair, flair_model


@finder("ner-tagger", fetch=flair_model("flair/ner-english"))
def ner_tagger() -> Resource:
    """Flair's English tagger, for CheckList."""
    return _or_rules(find_flair("ner-tagger", "flair/ner-english"))


@finder("ner-tagger-french", fetch=flair_model("flair/ner-french"))
def ner_tagger_french() -> Resource:
    """Flair's French tagger, for the French recipe."""
    return _or_rules(find_flair("ner-tagger-french", "flair/ner-french"))


@finder("ner-tagger-multi", fetch=flair_model("flair/ner-multi-fast"))
def ner_tagger_multi() -> Resource:
    """Flair's tagger for several languages, for the Spanish recipe."""
    return _or_rules(find_flair("ner-tagger-multi", "flair/ner-multi-fast"))


def _or_rules(flair: Resource) -> Resource:
    return flair if flair.found or configured(flair.name) else replace(flair, substitute="rule-ner")
