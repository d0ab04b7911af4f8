from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from robustexit.data import DataSpec, TextDataset, load_dataset_spec
from robustexit.errors import DataError

Load = Callable[..., TextDataset]
Message = Callable[..., str]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load with the temporary folder as the campaign's."""

    def run(allow_network: bool = False, **settings: Any) -> TextDataset:
        return load_dataset_spec(DataSpec(**settings), name="mine", base=tmp_path, allow_network=allow_network)

    return run


@pytest.fixture
def message(load: Load) -> Message:
    """Load what cannot be loaded and return the message."""

    def run(**settings: Any) -> str:
        with pytest.raises(DataError) as caught:
            load(**settings)
        return str(caught.value)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    """Write a file into the temporary folder and return its name."""

    def run(name: str, text: str) -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public data, which is not part of the repository."""
    default = Path(__file__).parents[3].parent / "shared" / "data"
    folder = Path(os.environ.get("ROBUSTEXIT_TEST_DATA", default))
    if not (folder / "sst2").is_dir():
        pytest.skip(f"no public data in {folder}; set ROBUSTEXIT_TEST_DATA to its folder")
    return folder
