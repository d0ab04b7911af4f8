"""What a resource is, how it is looked for, and where the user said that it lies.

A file of this folder defines one resource: a function without arguments that looks for it, under the decorator
`finder`. It looks in this order: the path that the user configured, NLTK's and TextAttack's folders, the packages of
the system, our own downloads; then it names what stands in. `require` downloads what is not found, if it may.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from robustexit.errors import ConfigError, ResourceError, unknown_name
from robustexit.network import ALLOWED
from robustexit.registry import Registry

_log = logging.getLogger(__name__)

PATHS_VARIABLE: Final = "ROBUSTEXIT_RESOURCES"
_CONFIGURED: Final = "_ROBUSTEXIT_CONFIGURED_RESOURCES"
"""Paths given to `configure`, as JSON: in the environment, so that worker processes have them too."""

HOW_TO_ALLOW: Final = f"allow them with --allow-network or {ALLOWED}=1"
CONFIGURE: Final = f"resources: in the campaign, --resource, or the file that {PATHS_VARIABLE} names"
_HUB_ID: Final = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


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


@dataclass(frozen=True)
class Finder:
    """How one resource is looked for.

    Attributes:
        look: Looks for it; light, without network.
        hub: The user may also name a model of the Hub in the place of a path.
        fetch: Downloads it to where `look` finds it, or None if no download does.
    """

    look: Callable[[], Resource]
    hub: bool = False
    fetch: Callable[[], None] | None = None


finders: Registry[Finder] = Registry("resource", "robustexit.resources")
"""Finders by the name of their resource."""


def finder(
    name: str, *, hub: bool = False, fetch: Callable[[], None] | None = None
) -> Callable[[Callable[[], Resource]], Callable[[], Resource]]:
    """Return a decorator that registers how a resource is looked for; the arguments are those of `Finder`."""

    def register(look: Callable[[], Resource]) -> Callable[[], Resource]:
        finders.register(name)(Finder(look, hub, fetch))
        return look

    return register


def network_allowed() -> bool:
    """Whether the user allowed downloads (``--allow-network``, ``ROBUSTEXIT_ALLOW_NETWORK=1``)."""
    return os.environ.get(ALLOWED, "").lower() in {"1", "true", "yes"}


def configure(paths: Mapping[str, str | Path], base: Path | None = None) -> None:
    """Say where resources lie, for this process and those it starts; replaces what was said before.

    To be called before the first attack is built: what NLTK and TextAttack have read, they keep.

    Args:
        paths: Path by resource name; for a language model or an encoder also a model's id on the Hub.
        base: Folder that relative paths start from; the current one by default.

    Raises:
        ConfigError: No resource of that name, or no path.
    """
    os.environ[_CONFIGURED] = json.dumps(_absolute(paths, base or Path.cwd(), "resources"))


def configured(name: str) -> str | None:
    """Return the absolute path (or id on the Hub) that the user configured for a resource, or None.

    Raises:
        ConfigError: The file that ``ROBUSTEXIT_RESOURCES`` names is unreadable or names no resource.
    """
    said: dict[str, str] = json.loads(os.environ.get(_CONFIGURED) or "{}")
    return said[name] if name in said else _from_file().get(name)


def configured_path(name: str) -> Path | None:
    """Return the configured path of a resource if there is something at it, else None."""
    value = configured(name)
    return Path(value) if value is not None and Path(value).exists() else None


def misconfigured(name: str, problem: str, expected: str) -> Resource:
    """Describe a resource whose configured path holds something else.

    Args:
        name: The resource.
        problem: What is wrong, as it follows the path: ``does not hold words.txt``.
        expected: What to give instead.
    """
    return Resource(
        name, False, f"the configured path {configured(name)} {problem}", None, f"give {expected} ({CONFIGURE})"
    )


def _from_file() -> dict[str, str]:
    file = os.environ.get(PATHS_VARIABLE)
    if not file:
        return {}
    import yaml

    path = Path(file).expanduser()
    where = f"{PATHS_VARIABLE}={file}"
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{where}: expected a YAML file of names and paths ({reason})") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise ConfigError(f"{where}: not valid YAML ({problem}); expected lines NAME: PATH") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigError(f"{where}: expected lines NAME: PATH, got {type(content).__name__}")
    return _absolute(content or {}, path.absolute().parent, where)


def _absolute(paths: Mapping[Any, Any], base: Path, where: str) -> dict[str, str]:
    """Check names and values, and make paths absolute."""
    found = {}
    for name, value in paths.items():
        if not isinstance(name, str) or name not in finders:
            raise ConfigError(f"{where}: {unknown_name('resource', str(name), finders)}")
        if not isinstance(value, str | Path) or not str(value):
            raise ConfigError(f"{where}: expected a path for {name!r}, got {value!r}")
        path = (base / Path(value).expanduser()).absolute()
        is_id = finders.get(name).hub and not path.exists() and _HUB_ID.fullmatch(str(value))
        found[name] = str(value) if is_id else str(path)
    return found


def find(name: str) -> Resource:
    """Look for one resource.

    Raises:
        ConfigError: No resource of that name.
    """
    known = finders.get(name)
    value = configured(name)
    if value is not None and Path(value).is_absolute() and not Path(value).exists():
        return misconfigured(name, "does not exist", "the path of a file or folder that does")
    return known.look()


def require(names: Iterable[str]) -> list[Resource]:
    """Look for resources and refuse the first that has neither itself nor a substitute here.

    What is not found is downloaded where that is possible and the user allowed it. If that fails, a substitute
    stands in and a warning says so.

    Raises:
        ConfigError: No resource of that name.
        ResourceError: One line: what is missing and how to get it, or why it could not be downloaded.
    """
    resources = [find(name) for name in names]
    for resource in resources:
        if not resource.usable and not (network_allowed() and downloadable(resource.name)):
            raise ResourceError(f"{resource.name} is missing ({resource.where}); do this: {way_out(resource)}")
    return [resource if resource.found or not network_allowed() else _downloaded(resource) for resource in resources]


def downloadable(name: str) -> bool:
    """Whether a resource is one that a download brings: no path is configured for it."""
    value = configured(name)
    return finders.get(name).fetch is not None and (value is None or not Path(value).is_absolute())


def way_out(resource: Resource) -> str:
    """Return what to do about a resource that is not here, the download first where there is one."""
    download = f"download it (--allow-network, or {ALLOWED}=1), or " if downloadable(resource.name) else ""
    return download + resource.how_to_get


def fetch(name: str) -> Resource:
    """Download a resource if it is not found and a download brings it.

    Raises:
        ConfigError: No resource of that name.
        ResourceError: The network is not allowed, or the download fails.
    """
    resource, download = find(name), finders.get(name).fetch
    if resource.found or download is None or not downloadable(name):
        return resource
    download()
    return find(name)


def _downloaded(resource: Resource) -> Resource:
    try:
        here = fetch(resource.name)
    except ResourceError as error:
        if not resource.usable:
            raise
        _log.warning("%s; %s stands in for %s", error, resource.substitute, resource.name)
        return resource
    if not here.usable:
        raise ResourceError(f"{here.name} is missing ({here.where}); do this: {here.how_to_get}")
    return here
