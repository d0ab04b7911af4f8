"""Finite perturbation sets: every text of one is known to keep its label, or the set says that it may not.

One file a set; each registers its set when it is imported.
"""

from robustexit.attacks.sets.base import PerturbationSet, make_set, perturbation_sets
from robustexit.attacks.sets.space import Choice, Replaced, Site, Space, revert
from robustexit.discovery import import_all

import_all(__name__, __path__)

__all__ = [
    "Choice",
    "PerturbationSet",
    "Replaced",
    "Site",
    "Space",
    "make_set",
    "perturbation_sets",
    "revert",
]
