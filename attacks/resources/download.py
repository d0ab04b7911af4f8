"""Downloads: only if the user allowed them, checked, and whole or not there at all.

What comes is written beside its place under a hidden name, checked, and renamed; a download that fails leaves the
cache as it was. The hash that its publisher gives is checked where there is one. Nobody gives one for TextAttack's
storage, Unicode's tables and OpenHowNet: of these the length is checked, the MD5 that Amazon's storage states where
it states one, and the checks of zip archives. Their SHA-256 is recorded in ``NAME.source.json`` beside them, and a
later download that differs is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from robustexit.attacks.resources.base import HOW_TO_ALLOW, network_allowed
from robustexit.attacks.resources.places import unwritable
from robustexit.errors import ResourceError

TIMEOUT: Final = 60
"""Seconds without a byte after which a connection is given up."""

HIDDEN: Final = ".new-"
"""How the names of unfinished downloads begin."""

ABANDONED: Final = 3600
"""Seconds after which an unfinished download that nothing was written to is swept away; far more than `TIMEOUT`."""

_BLOCK: Final = 2**18


@dataclass(frozen=True)
class Source:
    """Where something is downloaded from, and what its publisher says of it.

    Attributes:
        url: Its address.
        sha256: Published SHA-256, in hexadecimal.
        md5: Published MD5, looked at if there is no SHA-256.
        size: Published size in bytes.
    """

    url: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None


def record_of(target: Path) -> Path:
    """Where the source and the SHA-256 of a download are recorded."""
    return target.with_name(f"{target.name}.source.json")


def download(source: Source, target: Path, inside: str | None = None, *, folder: bool = False) -> Path:
    """Download a file, or a zip archive and unpack it, unless it is there already.

    Args:
        source: Where from.
        target: The file or folder that it becomes.
        inside: If a zip archive comes: what of it becomes the target; the whole for ``""``. None keeps the archive.
        folder: Nothing but an archive will do.

    Returns:
        The target.

    Raises:
        ResourceError: The network is not allowed, the download fails or is not what it should be, or the cache
            cannot be written. Nothing of it is left then.
    """
    if target.exists():
        return target
    with _workshop(target) as staging:
        received = staging / "received"
        sha256 = _receive(source, received, target.name)
        _refuse_change(source, target, sha256)
        made = received
        if inside is not None and zipfile.is_zipfile(received):
            made = _unpacked(source, received, staging / "unpacked") / inside
            if not made.exists():
                raise ResourceError(f"{source.url}: expected {inside!r} in the archive; nothing was kept")
        elif folder:
            raise ResourceError(f"{source.url}: expected a zip archive; nothing was kept")
        record = {"url": source.url, "sha256": sha256, "size": received.stat().st_size, "published_hash": _hash(source)}
        (staging / "record").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        _move(made, target)
        (staging / "record").replace(record_of(target))
    return target


def read_text(url: str) -> str:
    """Download a small text, which is kept nowhere.

    Raises:
        ResourceError: The network is not allowed, or the download fails.
    """
    _refuse_unless_allowed(url)
    return b"".join(_blocks(url, lambda _: None)).decode("utf-8")


@contextmanager
def _workshop(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, gone afterwards; folders made for it go too if nothing came into them."""
    missing = [folder for folder in target.parents if not folder.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=HIDDEN) as staging:
            yield Path(staging)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        for folder in missing:
            try:
                folder.rmdir()
            except OSError:
                break


def _sweep(folder: Path) -> None:
    """Remove what downloads left that were killed, when no download can still be at it."""
    for left in folder.glob(f"{HIDDEN}*"):
        with suppress(OSError):  # another process may be sweeping too
            if time.time() - max(path.stat().st_mtime for path in (left, *left.rglob("*"))) > ABANDONED:
                shutil.rmtree(left)


def _receive(source: Source, file: Path, what: str) -> str:
    """Write a download to a file, check it, and return its SHA-256."""
    _refuse_unless_allowed(source.url)
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    stated: dict[str, Any] = {}
    with file.open("wb") as out, _progress(what) as progress:

        def head(headers: Mapping[str, str]) -> None:
            stated["size"] = _number(headers.get("Content-Length"))
            stated["md5"] = _amazon_md5(headers)
            progress(0, stated["size"])

        for block in _blocks(source.url, head):
            out.write(block)
            sha256.update(block)
            md5.update(block)
            progress(len(block), None)
    size = file.stat().st_size
    _compare(source.url, "bytes", stated.get("size"), size)
    _compare(source.url, "bytes", source.size, size)
    _compare(source.url, "the SHA-256", source.sha256, sha256.hexdigest())
    _compare(source.url, "the MD5", source.md5 if source.sha256 is None else None, md5.hexdigest())
    _compare(source.url, "the MD5", stated.get("md5"), md5.hexdigest())
    return sha256.hexdigest()


def _blocks(url: str, head: Callable[[Mapping[str, str]], None]) -> Iterator[bytes]:
    """Yield what an address sends; `head` is told the answer's headers first."""
    try:
        with urlopen(Request(url, headers={"User-Agent": "robustexit"}), timeout=TIMEOUT) as response:
            head(response.headers)
            while block := response.read(_BLOCK):
                yield block
    except HTTPError as error:
        raise ResourceError(f"could not download {url} (HTTP {error.code} {error.reason}); nothing was kept") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise ResourceError(
            f"could not download {url} ({str(reason) or type(reason).__name__}); nothing was kept"
        ) from error


def _refuse_unless_allowed(url: str) -> None:
    if not network_allowed():
        raise ResourceError(f"downloads are not allowed ({url}); {HOW_TO_ALLOW}")


def _compare(url: str, what: str, expected: Any, got: Any) -> None:
    if expected is not None and expected != got:
        shown = f"{expected} {what}, got {got}" if what == "bytes" else f"{what} {expected}, got {got}"
        raise ResourceError(f"{url}: expected {shown}; nothing was kept, try again")


def _refuse_change(source: Source, target: Path, sha256: str) -> None:
    """Refuse another content than the one recorded, where no published hash tells which is right."""
    record = record_of(target)
    if _hash(source) is not None or not record.is_file():
        return
    try:
        known = json.loads(record.read_text("utf-8"))["sha256"]
    except (ValueError, KeyError, TypeError):
        known = None
    if known != sha256:
        raise ResourceError(
            f"{source.url} is not what it was when it was first downloaded (SHA-256 {known}, now {sha256}); "
            f"nothing was kept; delete {record} to accept the change"
        )


def _hash(source: Source) -> str | None:
    return source.sha256 or source.md5


def _unpacked(source: Source, archive: Path, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)  # leaves no file outside the folder: zipfile strips roots and ".."
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise ResourceError(f"{source.url}: a damaged zip archive ({error}); nothing was kept") from error
    return folder


def _move(made: Path, target: Path) -> None:
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same content
            raise


def _amazon_md5(headers: Mapping[str, str]) -> str | None:
    """The MD5 in the answer of Amazon's storage: the tag of objects sent in one part and not encrypted by keys."""
    tag = (headers.get("ETag") or "").strip('"')
    is_md5 = len(tag) == 32 and all(letter in "0123456789abcdef" for letter in tag)
    plain = headers.get("x-amz-server-side-encryption") in (None, "AES256")
    return tag if headers.get("Server") == "AmazonS3" and is_md5 and plain else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on standard error; yields a function told the bytes that came and, once, how many will."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"downloading {what}", total=None)

        def tell(came: int, total: int | None) -> None:
            if total is not None:
                bar.update(task, total=total)
            bar.advance(task, came)

        yield tell
