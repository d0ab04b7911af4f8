"""Word lists, lexicons and models that recipes need: where they are, what stands in, how to get them.

One file a resource; each registers its finder when it is imported. Looking is light (no TextAttack, no NLTK, no
network). What is written goes to RobustExit's own cache folder, never to another program's.
"""

from robustexit.attacks.resources.base import (
    CONFIGURE,
    PATHS_VARIABLE,
    Finder,
    Resource,
    configure,
    configured,
    configured_path,
    downloadable,
    fetch,
    find,
    finder,
    finders,
    misconfigured,
    network_allowed,
    require,
    way_out,
)
from robustexit.attacks.resources.homoglyphs import homoglyph_table
from robustexit.attacks.resources.places import (
    CACHE_VARIABLE,
    PACKAGED,
    cache_folder,
    in_nltk,
    nltk_downloads,
    nltk_folders,
    nltk_holds,
    publish,
    textattack_cache,
    textattack_downloads,
)
from robustexit.attacks.resources.stopwords import substitute_stopwords
from robustexit.attacks.resources.textattack_files import stock_path
from robustexit.attacks.resources.wordnet import wordnet_folder
from robustexit.discovery import import_all

import_all(__name__, __path__)

__all__ = [
    "CACHE_VARIABLE",
    "CONFIGURE",
    "PACKAGED",
    "PATHS_VARIABLE",
    "Finder",
    "Resource",
    "cache_folder",
    "configure",
    "configured",
    "configured_path",
    "downloadable",
    "fetch",
    "find",
    "finder",
    "finders",
    "homoglyph_table",
    "in_nltk",
    "misconfigured",
    "network_allowed",
    "nltk_downloads",
    "nltk_folders",
    "nltk_holds",
    "publish",
    "require",
    "stock_path",
    "substitute_stopwords",
    "textattack_cache",
    "textattack_downloads",
    "way_out",
    "wordnet_folder",
]
