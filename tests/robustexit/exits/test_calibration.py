"""Thresholds hit a reachable target on held-out data, and impossible ones are refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from robustexit.errors import ConfigError
from robustexit.exits import HeldOut, Target, calibrate, make_policy, refuse_inert
from robustexit.exits.calibration import Point, nearest


def held_out(n: int = 800, exits: int = 6, seed: int = 0) -> HeldOut:
    """Logits whose exits grow more accurate and more certain with depth."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    strength = np.linspace(0.5, 2.5, exits)
    signal = strength[None, :] * np.where(labels, 1, -1)[:, None] + rng.normal(size=(n, exits))
    logits = np.stack([-signal, signal], axis=-1).astype(np.float32)
    costs = np.tile(np.arange(1, exits + 1) / exits, (n, 1))
    return HeldOut(logits, labels, costs, "hash")


@pytest.mark.parametrize("name", ["entropy", "normalised-entropy", "max-probability"])
@pytest.mark.parametrize("speedup", [1.2, 1.5, 3.0])
def test_thresholds_reach_a_speedup(name, speedup) -> None:
    found = calibrate(name, Target(speedup=speedup), held_out())
    assert found.reached_speedup == pytest.approx(speedup, rel=0.02)
    assert sum(found.exit_shares) == pytest.approx(1)
    assert found.make().describe().startswith(name)


def test_patience_takes_the_nearest_reachable_speedup() -> None:
    data = held_out()
    found = calibrate("patience", Target(speedup=1.5), data)
    reachable = {t: calibrate("patience", Target(speedup=s), data) for t, s in ((1, 3.0), (4, 1.01))}
    assert found.parameters["t"] in {1, 2, 3, 4}
    assert reachable[1].parameters["t"] == 1
    assert reachable[4].parameters["t"] == 4


def test_among_settings_of_two_parameters_that_reach_a_speedup_the_accurate_one_is_taken() -> None:
    policies = [make_policy("soft-patience", t=t, tau=tau) for t, tau in ((1, 0.1), (2, 0.1), (2, 0.2), (3, 0.2))]
    reached = [(1.5, 0.70), (1.48, 0.80), (1.47, 0.79), (1.4, 0.95)]
    points = [Point(policy, s, a, 0.5, 3.0) for policy, (s, a) in zip(policies, reached, strict=True)]
    assert nearest(points, 1.5) is points[1]
    one_parameter = [Point(make_policy("entropy", t=t), s, a, 0.5, 3.0) for t, (s, a) in enumerate(reached)]
    assert nearest(one_parameter, 1.5) is one_parameter[0]


def test_accuracy_target_takes_the_fastest_setting_within_it() -> None:
    data = held_out()
    found = calibrate("entropy", Target(accuracy_drop=0.01), data)
    assert found.clean_accuracy >= found.full_depth_accuracy - 0.01 - 1e-9
    assert found.reached_speedup > 1.2


def test_accuracy_target_out_of_reach_names_the_best() -> None:
    data = held_out()
    wrong_early = data.logits.copy()
    wrong_early[:, :-1] = -20 * np.stack([np.where(data.labels, -1, 1), np.where(data.labels, 1, -1)], -1)[:, None]
    with pytest.raises(ConfigError, match="the best reaches"):
        calibrate("max-probability", Target(accuracy_drop=0.0), HeldOut(wrong_early, data.labels, data.costs, "h"))


def test_one_exit_is_refused() -> None:
    data = held_out(exits=1)
    with pytest.raises(ConfigError, match="one exit"):
        calibrate("entropy", Target(speedup=1.5), data)


def test_patience_on_two_exits_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigError, match=r"needs at least 3 exits"):
        calibrate("patience", Target(speedup=1.5), held_out(exits=2))


def test_a_threshold_at_which_no_held_out_text_leaves_is_refused() -> None:
    with pytest.raises(ConfigError, match="none of 800 held-out texts leaves"):
        refuse_inert(make_policy("entropy", t=1e-12), 6, 2, held_out())


@pytest.mark.parametrize("target", [{}, {"speedup": 1.5, "accuracy_drop": 0.1}, {"speedup": 0.9}])
def test_target_is_exactly_one(target) -> None:
    with pytest.raises(ValueError, match=r"exactly one|greater than 1"):
        Target(**target)
