"""What pyproject.toml packs is what there is: a folder left out would be missing from the wheel alone."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")
def test_every_package_is_packed() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    there = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for top in ("robustexit", "attacks", "reports")
        for path in (ROOT / top).rglob("__init__.py")
    }
    outer = {folder: package for package, folder in settings["package-dir"].items()}
    tops = {name: name.partition(".") for name in there}
    expected = {outer.get(top, top) + dot + rest for top, dot, rest in tops.values()}
    assert expected == set(settings["packages"])
