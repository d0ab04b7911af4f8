"""Sweeps on paper: what the table and the curves say is what was found."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from robustexit.exits import HeldOut
from robustexit.exits.sweep import Split, sweep
from robustexit.measures.sweeps import Sweep
from robustexit.reports.sweep import About, curves, left_out, markdown, summary, write_sweep


def outputs(seed: int) -> HeldOut:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 300)
    signal = np.linspace(0.5, 2.5, 6) * np.where(labels, 1, -1)[:, None] + rng.normal(size=(300, 6))
    logits = np.stack([-signal, signal], axis=-1).astype(np.float32)
    return HeldOut(logits, labels, np.tile(np.arange(1, 7) / 6, (300, 1)), "h")


@pytest.fixture(scope="module")
def found() -> Sweep:
    split = Split(outputs(0), outputs(1))
    return sweep(["fixed", "entropy", "patience", "oracle", "ceebert"], lambda module: split, speedups=(1.5, 5.5))


ABOUT = About("model", "reviews", 300, "held-out", 300, True, {"ztw": "40 texts of reviews"})


def test_the_page_says_what_was_found(found: Sweep) -> None:
    text = markdown(found, ABOUT)
    assert "generated (synthetic)" in text
    row = found.table[(found.table["policy"] == "entropy") & (found.table["target"] == 1.5)].iloc[0]
    line = next(line for line in text.splitlines() if line.startswith("| `entropy`"))
    assert f"{100 * row['accuracy']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}]" in line
    assert f"at {row['speedup']:.2f}×" in line
    assert "†" in next(line for line in text.splitlines() if line.startswith("| `patience`"))
    assert "Not deployable, a bound: oracle." in text
    assert "ztw fitted on 40 texts of reviews" in text
    assert "| `ceebert` | live, 5 orders |" in text
    assert len(summary(found, 1.5)) == 4


def test_policies_left_out_for_one_reason_stand_in_one_line(found: Sweep) -> None:
    some = dataclasses.replace(found, skipped={"ztw": "not fitted", "sngp": "not fitted", "patience": "too few exits"})
    assert left_out(some) == ["ztw, sngp: not fitted", "patience: too few exits"]
    assert "- ztw, sngp: not fitted" in markdown(some, ABOUT)


def test_the_curves_hold_every_setting_and_no_bound_in_the_envelope(found: Sweep) -> None:
    spec = curves(found).to_dict(validate=False)
    panels = [panel for row in spec["vconcat"] for panel in row["hconcat"]]
    assert [panel["title"] for panel in panels] == ["entropy", "patience", "oracle", "ceebert"]
    layers = panels[0]["layer"]
    envelope, exits, mine = (spec["datasets"][layer["data"]["name"]] for layer in layers)
    assert len(mine) == (found.curve["policy"] == "entropy").sum()
    assert len(exits) == 6
    deployable = found.curve[found.curve["deployable"]]
    assert max(point["percent"] for point in envelope) == pytest.approx(100 * deployable["accuracy"].max(), abs=1e-3)
    for point in envelope[:-1]:
        within = deployable[100 * deployable["cost"] <= point["cost_percent"] + 1e-3]
        assert point["percent"] == pytest.approx(100 * within["accuracy"].max(), abs=1e-3)


def test_every_file_is_written(found: Sweep, tmp_path) -> None:
    paths = write_sweep(found, ABOUT, tmp_path)
    assert [path.name for path in paths] == [
        "curve.csv",
        "table.csv",
        "sweep.md",
        "streams.csv",
        "curves.svg",
        "curves.png",
    ]
    assert len(pd.read_csv(paths[0])) == len(found.curve)
