"""Counter-fitted word vectors."""

from __future__ import annotations

from typing import Final

from robustexit.attacks.resources.base import Resource, finder
from robustexit.attacks.resources.textattack_files import find_download, stored

VECTORS: Final = "word_embeddings/paragramcf"
VECTOR_FILES: Final = ("paragram.npy", "wordlist.pickle", "nn.npy", "mse_dist.p", "cos_sim.p")


@finder("counter-fitted-vectors", fetch=stored("counter-fitted-vectors", VECTORS, VECTOR_FILES))
def counter_fitted_vectors() -> Resource:
    """The counter-fitted PARAGRAM vectors with their 50 neighbours, as TextAttack downloads them."""
    return find_download("counter-fitted-vectors", VECTORS, VECTOR_FILES)
