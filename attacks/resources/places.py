"""The folders that resources are looked for in, and how something appears in our own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import platformdirs

from robustexit.errors import ResourceError

CACHE_VARIABLE: Final = "ROBUSTEXIT_CACHE"
PACKAGED: Final = Path(__file__).parent


def cache_folder() -> Path:
    """RobustExit's own cache folder: ``$ROBUSTEXIT_CACHE``, or the platform's user cache."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("robustexit")).expanduser().absolute()


def downloads() -> Path:
    """The folder of RobustExit's own downloads, in its cache folder."""
    return cache_folder() / "downloads"


def nltk_downloads() -> Path:
    """The NLTK folder of RobustExit's own downloads; NLTK itself must be told of it."""
    return downloads() / "nltk"


def textattack_downloads() -> Path:
    """The folder TextAttack downloads into: ``$TA_CACHE_DIR`` or ``~/.cache/textattack``. Only read here."""
    return Path(os.environ.get("TA_CACHE_DIR") or "~/.cache/textattack").expanduser()


def hub_cache() -> Path:
    """The folder of the Hugging Face Hub's downloads, as its own library finds it."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable]).expanduser()
    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.environ.get("HF_HOME") or user).expanduser() / "hub"


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


def nltk_holds(folder: Path, *names: str, inside: str | None = None) -> bool:
    """Whether an NLTK folder holds all of `names`, each as a folder (with the file `inside`) or a zip."""
    places = [folder / name for name in names]
    return all((p / (inside or "")).exists() or p.with_name(f"{p.name}.zip").is_file() for p in places)


def in_nltk(*names: str, inside: str | None = None) -> Path | None:
    """First NLTK folder that holds all of `names`; see `nltk_holds`. RobustExit's own downloads come last.

    The folders that RobustExit made do not count: what they hold are substitutes.
    """
    for folder in (*nltk_folders(), nltk_downloads()):
        if not folder.is_relative_to(cache_folder() / "nltk") and nltk_holds(folder, *names, inside=inside):
            return folder
    return None


def publish(target: Path, fill: Callable[[Path], None]) -> Path:
    """Make the folder `target` appear whole or not at all, also when several processes do it at once.

    Args:
        target: The folder; nothing happens if it is there.
        fill: Writes the content into the new folder that it is given.

    Raises:
        ResourceError: The cache folder cannot be written.
    """
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
        raise unwritable(target, error) from error
    return target


def unwritable(target: Path, error: OSError) -> ResourceError:
    """Word the refusal of a cache that cannot be written."""
    return ResourceError(
        f"cannot write RobustExit's cache {target} ({error.strerror}); set {CACHE_VARIABLE} to a folder that can be"
    )


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
        raise unwritable(folder, error) from error
    return folder
