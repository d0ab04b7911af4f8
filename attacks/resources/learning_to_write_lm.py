"""The language model of Jia's faster genetic algorithm."""

from __future__ import annotations

from typing import Final

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.textattack_files import find_download, stored

LEARNING_TO_WRITE: Final = "constraints/grammaticality/language-models/learning-to-write"
LEARNING_TO_WRITE_FILES: Final = ("word_map.th7", "word_freq.th7", "lm-state-dict.pt")


@finder("learning-to-write-lm", fetch=stored("learning-to-write-lm", LEARNING_TO_WRITE, LEARNING_TO_WRITE_FILES))
def learning_to_write_lm() -> Resource:
    """The recurrent model of "Learning to Write" (Holtzman et al. 2018), as TextAttack downloads it."""
    return find_download("learning-to-write-lm", LEARNING_TO_WRITE, LEARNING_TO_WRITE_FILES)
