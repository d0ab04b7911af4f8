"""Sweeps: curves choose nothing, table rows are tuned on calibration texts alone, what cannot work is said."""

from __future__ import annotations

import numpy as np
import pytest

from robustexit.errors import ConfigError, NotFittedError
from robustexit.exits import HeldOut
from robustexit.exits.sweep import NOT_FITTED, Split, sweep


def outputs(seed: int, n: int = 400, exits: int = 6) -> HeldOut:
    """Exits grow more accurate and more certain with depth."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    signal = np.linspace(0.5, 2.5, exits) * np.where(labels, 1, -1)[:, None] + rng.normal(size=(n, exits))
    logits = np.stack([-signal, signal], axis=-1).astype(np.float32)
    return HeldOut(logits, labels, np.tile(np.arange(1, exits + 1) / exits, (n, 1)), "h")


@pytest.fixture(scope="module")
def split() -> Split:
    return Split(outputs(0), outputs(1))


def no_modules(split: Split):
    def give(module: str | None) -> Split:
        if module is not None:
            raise NotFittedError(f"no fitted module {module!r}")
        return split

    return give


def test_curve_and_table(split) -> None:
    found = sweep(["fixed", "entropy", "patience"], no_modules(split), speedups=(1.5, 3.0), most=20)
    fixed = found.curve[found.curve["policy"] == "fixed"]
    np.testing.assert_allclose(fixed["accuracy"], split.evaluated.correct.mean(axis=0))
    np.testing.assert_allclose(fixed["speedup"], [6, 3, 2, 1.5, 1.2, 1])
    assert found.full_depth == fixed["accuracy"].iloc[-1]
    assert (found.curve["low"] <= found.curve["accuracy"]).all()
    table = found.table.set_index(["policy", "target"])
    assert set(table.index) == {(p, t) for p in ("entropy", "patience") for t in (1.5, 3.0)}
    assert table.loc[("entropy", 1.5), "reached"] == pytest.approx(1.5, rel=0.1)
    assert not table.loc[("entropy", 1.5), "missed"]
    row = table.loc[("entropy", 3.0)]
    assert row["difference"] == pytest.approx(row["accuracy"] - found.full_depth)


def test_thresholds_are_chosen_on_the_calibration_texts_alone(split) -> None:
    """Other evaluated texts change what a setting does, never which setting is taken."""
    give = no_modules(split)
    one = sweep(["entropy"], give, most=20).table
    other = sweep(["entropy"], no_modules(Split(split.calibration, outputs(7))), most=20).table
    assert one["setting"].tolist() == other["setting"].tolist()
    assert one["accuracy"].tolist() != other["accuracy"].tolist()


def test_a_target_out_of_reach_is_marked(split) -> None:
    table = sweep(["patience"], no_modules(split), speedups=(5.5,)).table
    assert bool(table["missed"].iloc[0])


def test_stream_policies_stand_frozen_and_live(split) -> None:
    found = sweep(["entropy", "ceebert"], no_modules(split), orders=(0, 1, 2))
    frozen, live = found.streams.to_dict("records")
    assert (frozen["evaluation"], live["evaluation"], live["orders"]) == ("frozen", "live", 3)
    assert "arm=" in frozen["arms"]
    assert live["arms"].startswith("learned ")
    assert live["speedup_deviation"] > 0
    assert sweep(["entropy"], no_modules(split)).streams.empty


def test_what_cannot_work_is_left_out_with_the_reason(split) -> None:
    found = sweep(["entropy", "learning-to-exit"], no_modules(split), most=8)
    assert found.skipped == {"learning-to-exit": NOT_FITTED}
    two = Split(outputs(0, exits=2), outputs(1, exits=2))
    assert "at least 3 exits" in sweep(["patience", "entropy"], no_modules(two)).skipped["patience"]
    with pytest.raises(ConfigError, match="did you mean 'entropy'"):
        sweep(["entropi"], no_modules(split))
