"""What tests of the core share."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Run the command line with the given arguments and return its exit code."""
    from robustexit.cli import main

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["robustexit", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return int(caught.value.code or 0)

    return run
