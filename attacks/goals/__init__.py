"""Attack goals, one file a family; each file registers its goals when it is imported."""

from robustexit.attacks.goals.base import Goal, goals, softmax
from robustexit.attacks.goals.parse import make_goal
from robustexit.discovery import import_all

import_all(__name__, __path__)

__all__ = ["Goal", "goals", "make_goal", "softmax"]
