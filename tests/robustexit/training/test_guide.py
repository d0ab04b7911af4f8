"""docs/training.md: its options are the code's, its commands parse, and its word on regimes and heads holds."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path

import pytest
import typer

from robustexit.cli import app
from robustexit.errors import ConfigError
from robustexit.models.heads import head_options, heads
from robustexit.training import TrainSpec, train
from robustexit.training.regimes import regimes

GUIDE = (Path(__file__).parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
HEADS = ["attention", "binary", "linear", "mlp", "random-projection", "scalar-mix", "shared"]
APART = {"two-stage", "frozen-self-distillation", "capeen-mix"}
REFUSED = {"shared": APART | {"separated", "sparse-exits"}, "scalar-mix": APART}


def rows(title: str) -> dict[str, str]:
    """Lines of the tables under a title by their first name."""
    section = re.split(r"\n##+ ", GUIDE.split(f"# {title}\n", 1)[1], maxsplit=1)[0]
    return {line.split("`")[1]: line for line in section.splitlines() if line.startswith("| `")}


def plain(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, float) and 0 < default < 1 and default >= 0.01:
        return f"{default:g}".removeprefix("0")
    return f"{default:g}".replace("e-0", "e-") if isinstance(default, float) else str(default)


def test_every_option_of_a_regime_stands_with_its_default():
    told = rows("Options and what they leave behind")
    assert set(rows("Regimes")) >= set(regimes.names())
    for name in regimes.names():
        for option in inspect.signature(regimes.get(name)).parameters.values():
            row = told[name]
            assert f"`{option.name}`" in row, (name, option.name)
            if isinstance(option.default, (int, float)):
                assert f"`{option.name}` ({plain(option.default)})" in row, (name, option)


def test_every_option_of_a_head_stands_with_its_default():
    told = rows("Heads")
    assert heads.names() == HEADS == sorted(told)
    for name in HEADS:
        for option, default in head_options(name, {}).items():
            assert f"`{option}` (" in told[name]
            if isinstance(default, (int, float)):
                assert f"`{option}` ({plain(default)})" in told[name]


def test_every_setting_stands_in_the_guide():
    for name, field in TrainSpec.model_fields.items():
        (row,) = [line for line in GUIDE.splitlines() if line.startswith("| `") and f"`{name}`" in line.split(" | ")[0]]
        default = field.default
        if isinstance(default, float):
            assert plain(default) in row or f"{default:.0e}".replace("e-0", "e-") in row
        elif isinstance(default, (int, str)):
            assert str(default) in row


def test_the_commands_parse():
    joined = GUIDE.replace("\\\n", " ")
    lines = [line for line in joined.splitlines() if line.startswith("robustexit train ")]
    command = typer.main.get_command(app).commands["train"]
    assert len(lines) >= 6
    for line in lines:
        command.make_context("train", shlex.split(line)[2:])


# The other heads are like `linear` to a regime: functions of one pooled state, one at each exit.
@pytest.mark.slow
@pytest.mark.parametrize("head", ["attention", "scalar-mix", "shared"])
def test_regimes_work_with_heads_or_refuse_them(head, spec, train_data, make_data, tmp_path):
    small = {"epochs": 1, "feature_epochs": 2, "batch_size": 24, "head": head}
    for regime in regimes.names():
        mine = spec.model_copy(update={**small, "regime": regime})
        target = make_data(8, "target") if regime == "domain-adapted" else None

        def run(mine=mine, target=target, folder=tmp_path / regime):
            return train(mine, train_data, None, folder, target_data=target, progress=False)

        if regime in REFUSED.get(head, ()):
            with pytest.raises(ConfigError, match=r"expected (heads that can learn apart|a head of its own)"):
                run()
        else:
            assert run().history
