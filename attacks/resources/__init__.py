"""Word lists, lexicons and encoders that recipes need: where they are, what stands in, how to get them.

Looking for them is light (no TextAttack, no NLTK, no network). What is written goes to RobustExit's own cache
folder, never to another program's.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from robustexit.errors import ConfigError, ResourceError, unknown_name
from robustexit.network import ALLOWED

CACHE_VARIABLE: Final = "ROBUSTEXIT_CACHE"
PACKAGED: Final = Path(__file__).parent
DEBIAN_WORDNET: Final = Path("/usr/share/wordnet")
SENTENCE_ENCODER_URL: Final = "https://tfhub.dev/google/universal-sentence-encoder/3"

_WORDNET_FILES: Final = (
    *(f"{kind}.{part}" for kind in ("data", "index") for part in ("adj", "adv", "noun", "verb")),
    *(f"{part}.exc" for part in ("adj", "adv", "noun", "verb")),
    "cntlist.rev",
    "index.sense",
)
_VECTOR_FILES: Final = ("paragram.npy", "wordlist.pickle", "nn.npy", "mse_dist.p", "cos_sim.p")


@dataclass(frozen=True)
class Resource:
    """One resource as it stands on this machine.

    Attributes:
        name: Name used by recipes.
        found: The resource itself is here.
        where: Where it is, or what is missing.
        substitute: Name of what stands in if it is not found; it becomes part of the recipe's name.
        how_to_get: The one thing to do to have it.
    """

    name: str
    found: bool
    where: str
    substitute: str | None
    how_to_get: str

    @property
    def usable(self) -> bool:
        """The resource or its substitute is here."""
        return self.found or self.substitute is not None


def network_allowed() -> bool:
    """Whether the user allowed downloads by TextAttack and NLTK (``ROBUSTEXIT_ALLOW_NETWORK=1``)."""
    return os.environ.get(ALLOWED, "").lower() in {"1", "true", "yes"}


def cache_folder() -> Path:
    """RobustExit's own cache folder: ``$ROBUSTEXIT_CACHE``, or the platform's user cache."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("robustexit")).expanduser().absolute()


def textattack_downloads() -> Path:
    """The folder TextAttack downloads into: ``$TA_CACHE_DIR`` or ``~/.cache/textattack``. Only read here."""
    return Path(os.environ.get("TA_CACHE_DIR") or "~/.cache/textattack").expanduser()


def nltk_folders() -> list[Path]:
    """The folders NLTK searches, in its order; NLTK's own list if it is loaded already."""
    loaded = sys.modules.get("nltk.data")
    if loaded is not None:
        return [Path(str(folder)) for folder in loaded.path]
    chosen = [folder for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    roots = [sys.prefix, f"{sys.prefix}/share", f"{sys.prefix}/lib"]
    if sys.platform == "win32":
        roots += [os.environ.get("APPDATA", "C:\\"), "C:\\", "D:\\", "E:\\"]
    else:
        roots += ["/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib"]
    return [Path(folder).expanduser() for folder in (*chosen, "~/nltk_data")] + [
        Path(root, "nltk_data") for root in roots
    ]


def in_nltk(*names: str, inside: str | None = None) -> Path | None:
    """First NLTK folder that holds all of `names`, each as a folder (with the file `inside`) or a zip.

    RobustExit's own folders do not count: what they hold are substitutes.
    """
    for folder in nltk_folders():
        if folder.is_relative_to(cache_folder() / "nltk"):
            continue
        places = [folder / name for name in names]
        if all((p / (inside or "")).exists() or p.with_name(f"{p.name}.zip").is_file() for p in places):
            return folder
    return None


def stopwords() -> Resource:
    """NLTK's English stop words; RobustExit's own list stands in."""
    folder = in_nltk("corpora/stopwords", inside="english")
    return Resource(
        "stopwords",
        folder is not None,
        str(folder) if folder else "no NLTK folder holds corpora/stopwords",
        None if folder else "robustexit-stopwords",
        "python -m nltk.downloader stopwords, or set NLTK_DATA to a folder holding corpora/stopwords",
    )


def wordnet() -> Resource:
    """WordNet 3.0: NLTK's copy, or the files of Debian's packages, which hold the same data."""
    folder = in_nltk("corpora/wordnet", inside="data.noun")
    missing = [name for name in _WORDNET_FILES if not (DEBIAN_WORDNET / name).is_file()]
    where = str(folder or DEBIAN_WORDNET)
    if folder is None and missing:
        where = f"no NLTK folder holds corpora/wordnet, and {DEBIAN_WORDNET} lacks {missing[0]}"
    return Resource(
        "wordnet",
        folder is not None or not missing,
        where,
        None,
        "apt-get install wordnet-base wordnet-sense-index, or set NLTK_DATA to a folder holding corpora/wordnet",
    )


def pos_tagger() -> Resource:
    """NLTK's English tagger and its universal tag set (NLTK >= 3.9 wants the name ending in ``_eng``)."""
    folder = in_nltk("taggers/averaged_perceptron_tagger_eng")
    tags = in_nltk("taggers/universal_tagset")
    lacking = "taggers/universal_tagset" if folder else "taggers/averaged_perceptron_tagger_eng"
    return Resource(
        "pos-tagger",
        bool(folder and tags),
        str(folder) if folder and tags else f"no NLTK folder holds {lacking}",
        None,
        "python -m nltk.downloader averaged_perceptron_tagger_eng universal_tagset, "
        "or set NLTK_DATA to a folder holding them under taggers/",
    )


def counter_fitted_vectors() -> Resource:
    """The counter-fitted PARAGRAM vectors with their 50 neighbours, as TextAttack downloads them."""
    folder = textattack_downloads() / "word_embeddings" / "paragramcf"
    found = all((folder / name).is_file() for name in _VECTOR_FILES)
    return Resource(
        "counter-fitted-vectors",
        found,
        str(folder) if found else f"{folder} does not hold {', '.join(_VECTOR_FILES)}",
        None,
        f"unpack https://textattack.s3.amazonaws.com/word_embeddings/paragramcf to {folder}",
    )


def sentence_encoder() -> Resource:
    """The Universal Sentence Encoder 3 and ``tensorflow_hub``, which loads it."""
    base = Path(os.environ.get("TFHUB_CACHE_DIR") or Path(tempfile.gettempdir(), "tfhub_modules")).expanduser()
    folder = base / hashlib.sha1(SENTENCE_ENCODER_URL.encode()).hexdigest()
    installed = importlib.util.find_spec("tensorflow_hub") is not None
    found = installed and folder.is_dir()
    lacking = f"{folder} is missing" if installed else "tensorflow_hub is not installed"
    return Resource(
        "sentence-encoder",
        found,
        str(folder) if found else lacking,
        None,
        f"pip install tensorflow tensorflow_hub, and unpack {SENTENCE_ENCODER_URL} to {folder}",
    )


def homoglyphs() -> Resource:
    """Unicode's intentional.txt, which TextAttack's wheel lacks; RobustExit's own table stands in."""
    path = _stock_homoglyphs()
    return Resource(
        "homoglyphs",
        path.is_file(),
        str(path) if path.is_file() else f"{path} is missing",
        None if path.is_file() else "robustexit-homoglyphs",
        f"save https://www.unicode.org/Public/security/latest/intentional.txt as {path}",
    )


def _stock_homoglyphs() -> Path:
    spec = importlib.util.find_spec("textattack")
    root = Path(spec.origin).parent if spec is not None and spec.origin else Path("textattack")
    return root / "shared" / "intentional_homoglyphs.txt"


def homoglyph_table() -> Path:
    """The table to use: TextAttack's own where it is found, else the packaged one."""
    return _stock_homoglyphs() if homoglyphs().found else PACKAGED / "homoglyphs.txt"


FINDERS: Final[Mapping[str, Callable[[], Resource]]] = {
    "stopwords": stopwords,
    "wordnet": wordnet,
    "pos-tagger": pos_tagger,
    "counter-fitted-vectors": counter_fitted_vectors,
    "sentence-encoder": sentence_encoder,
    "homoglyphs": homoglyphs,
}


def find(name: str) -> Resource:
    """Look for one resource.

    Raises:
        ConfigError: No resource of that name.
    """
    if name not in FINDERS:
        raise ConfigError(unknown_name("resource", name, FINDERS))
    return FINDERS[name]()


def require(names: Iterable[str]) -> list[Resource]:
    """Look for resources and refuse the first that has neither itself nor a substitute here.

    Raises:
        ResourceError: One line: what is missing and how to get it.
    """
    resources = [find(name) for name in names]
    for resource in resources:
        if not resource.usable:
            raise ResourceError(f"{resource.name} is missing ({resource.where}); do this: {resource.how_to_get}")
    return resources


def substitute_stopwords() -> Path:
    """Write the packaged stop words as an NLTK data folder and return it.

    Raises:
        ResourceError: The cache folder cannot be written.
    """
    words = (PACKAGED / "english_stopwords.txt").read_bytes()
    version = hashlib.sha256(words).hexdigest()[:8]

    def fill(folder: Path) -> None:
        target = folder / "corpora" / "stopwords"
        target.mkdir(parents=True)
        (target / "english").write_bytes(words)

    return _publish(cache_folder() / "nltk" / f"stopwords-{version}", fill)


def debian_wordnet() -> Path:
    """Copy Debian's WordNet files, completed with ``lexnames``, into an NLTK data folder and return it.

    Copies (36 MB), because NLTK refuses links that leave its folder.

    Raises:
        ResourceError: The cache folder cannot be written.
    """
    states = [(DEBIAN_WORDNET / name).stat() for name in _WORDNET_FILES]
    version = hashlib.sha256(repr([(s.st_size, s.st_mtime_ns) for s in states]).encode()).hexdigest()[:8]

    def fill(folder: Path) -> None:
        target = folder / "corpora" / "wordnet"
        target.mkdir(parents=True)
        for name in _WORDNET_FILES:
            shutil.copyfile(DEBIAN_WORDNET / name, target / name)
        shutil.copyfile(PACKAGED / "lexnames.txt", target / "lexnames")

    return _publish(cache_folder() / "nltk" / f"wordnet-{version}", fill)


def textattack_cache() -> Path:
    """Prepare the folder TextAttack is imported with: it holds the mark that spares its downloads.

    Raises:
        ResourceError: The cache folder cannot be written.
    """
    folder = cache_folder() / "textattack"
    mark = folder / "post_install_check_3"
    try:
        if not mark.exists():
            folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
    except OSError as error:
        raise _unwritable(folder, error) from error
    return folder


def _unwritable(target: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"cannot write RobustExit's cache {target} ({error.strerror}); set {CACHE_VARIABLE} to a folder that can be"
    )


def _publish(target: Path, fill: Callable[[Path], None]) -> Path:
    """Make `target` appear whole or not at all, also when several processes do it at once."""
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as staging:
            fill(Path(staging) / "folder")
            try:
                (Path(staging) / "folder").rename(target)
            except OSError:
                if not target.is_dir():  # else another process was first, with the same content
                    raise
    except OSError as error:
        raise _unwritable(target, error) from error
    return target
