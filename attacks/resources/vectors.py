"""Counter-fitted word vectors, and what may stand in for them: a file of vectors, or a table of neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from robustexit.attacks.resources.base import CONFIGURE, Resource, configured_path, finder
from robustexit.attacks.resources.textattack_files import find_download, stored

VECTORS: Final = "word_embeddings/paragramcf"
VECTOR_FILES: Final = ("paragram.npy", "wordlist.pickle", "nn.npy", "mse_dist.p", "cos_sim.p")
NEIGHBOUR_TABLE: Final = "neighbour-table"
"""Name of a table in the place of vectors: a JSON file of lists of neighbours."""

_OF_A_TABLE: Final = "lists of neighbours without distances: listed pairs pass every threshold, others none"
_NAME: Final = "counter-fitted-vectors"
_fetch: Final[Callable[[], None]] = stored(_NAME, VECTORS, VECTOR_FILES)


@finder(_NAME, fetch=_fetch)
def counter_fitted_vectors() -> Resource:
    """The counter-fitted PARAGRAM vectors with their 50 neighbours, as TextAttack downloads them.

    In their place: vectors of the user's (GloVe's text form, word2vec's text or binary form, gzip or not), named by
    their file; or a table of neighbours, a JSON file ``{word: [neighbours]}``. A table has no distances: constraints
    on them let exactly the listed pairs pass.
    """
    chosen = word_file()
    if chosen is None:
        return _or_a_file(find_download(_NAME, VECTORS, VECTOR_FILES))
    own = f"leave {_NAME} out to use TextAttack's own"
    if is_table(chosen):
        return Resource(_NAME, False, f"{chosen}, {_OF_A_TABLE}", NEIGHBOUR_TABLE, own)
    return Resource(_NAME, False, str(chosen), f"vectors-{_stem(chosen)}", own)


@finder("word-vectors")
def word_vectors() -> Resource:
    """That `counter_fitted_vectors` are vectors, for recipes that add them: a table of neighbours has none.

    Needed beside ``counter-fitted-vectors``, whose name says what stands in.
    """
    here, file = counter_fitted_vectors(), word_file()
    table = here.substitute == NEIGHBOUR_TABLE
    return Resource(
        "word-vectors",
        here.usable and not table,
        f"{file} is a table of neighbours, without vectors" if table else here.where,
        None,
        f"give a file of word vectors as {_NAME} ({CONFIGURE})",
    )


def word_file() -> Path | None:
    """Return the user's file of vectors or table of neighbours, or None where TextAttack's own are to be used."""
    chosen = configured_path(_NAME)
    return chosen if chosen is not None and chosen.is_file() else None


def is_table(file: Path) -> bool:
    """Whether a file is a table of neighbours rather than one of vectors, by its name."""
    return file.suffix.lower() == ".json"


def _stem(file: Path) -> str:
    return file.name.removesuffix(".gz").rpartition(".")[0] or file.name


def _or_a_file(here: Resource) -> Resource:
    if here.found:
        return here
    way = f"give a file of word vectors, or a table of neighbours (.json), as {_NAME} ({CONFIGURE})"
    return replace(here, how_to_get=f"{here.how_to_get}; or {way}")
