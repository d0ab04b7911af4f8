"""The guide's own example, installed as another package would install it, and used everywhere by its name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robustexit.exits import HeldOut, Target, calibrate, make_policy, policies, refuse_inert
from robustexit.exits.sweep import Split, sweep

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "adding_a_policy.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the guide's policy and its entry point, as pip would lay it out."""
    rule, _ = blocks("python")
    (entry,) = blocks("toml")
    group, name, target = re.search(r'entry-points\."(.+?)"\]\n(\w+) = "(.+?)"', entry).groups()
    package = tmp_path / "my_policies"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / f"{target.partition(':')[0].partition('.')[2]}.py").write_text(rule, encoding="utf-8")
    info = tmp_path / "my_policies-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-policies\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(policies, "_members", dict(policies._members))
    return tmp_path


def test_the_guides_test_passes(installed: Path) -> None:
    _, test = blocks("python")
    found: dict[str, object] = {}
    exec(compile(test, str(GUIDE), "exec"), found)
    found["test_tally_by_hand"]()  # type: ignore[operator]


def test_calibration_and_sweep_know_it(installed: Path) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    signal = np.linspace(0.5, 2.5, 6) * np.where(labels, 1, -1)[:, None] + rng.normal(size=(200, 6))
    logits = np.stack([-signal, signal], axis=-1).astype(np.float32)
    data = HeldOut(logits, labels, np.tile(np.arange(1, 7) / 6, (200, 1)), "h")
    found = calibrate("tally", Target(speedup=2.0), data)
    assert found.parameters["t"] in range(1, 6)
    assert "tally" in set(sweep(["fixed", "tally"], lambda module: Split(data, data)).table["policy"])
    with pytest.raises(Exception, match="at exit 9 at the earliest"):
        refuse_inert(make_policy("tally", t=9), 6, 2)


def test_the_command_line_lists_it(installed: Path) -> None:
    code = "import sys; sys.argv = ['robustexit', 'list', 'policies']; from robustexit.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PYTHONPATH": str(installed), "PATH": "", "HOME": str(installed)},
    )
    assert "tally" in result.stdout, result.stderr
