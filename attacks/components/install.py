"""Build TextAttack's parts with the resources of this machine: the one place where substitutes are put in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from robustexit.attacks import resources
from robustexit.attacks.textattack_api import add_nltk_folder, no_nltk_downloads


@contextmanager
def prepared(needs: Sequence[str]) -> Iterator[None]:
    """Build TextAttack components within this context: resources in place, no download.

    Args:
        needs: Names of the resources the components read.

    Raises:
        ResourceError: One of them is missing.
    """
    resources.require(needs)
    if "wordnet" in needs and not resources.in_nltk("corpora/wordnet", inside="data.noun"):
        add_nltk_folder(resources.debian_wordnet())
    with no_nltk_downloads():
        yield
