"""Risk-controlled thresholds: bounds by hand, the row, refusals, and the promised rate of violations on fresh draws."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from robustexit.errors import ConfigError
from robustexit.exits import Calibration, ExitPolicy, HeldOut, Target, calibrate, make_policy
from robustexit.exits.calibration import evaluate, prototype
from robustexit.exits.policy import Scalars, State, Update
from robustexit.exits.risk import Certified, Promise, certify, losses
from robustexit.modules import FitData, read_stored
from robustexit.modules.calm_meta import CalmMeta, CalmMetaSettings

EXITS, WIDTH = 5, 3


def draw(n: int, seed: int) -> FitData:
    """Texts of a known distribution: easy and hard ones, every exit a noisy look at the same signal."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    ease = rng.exponential(size=n)
    signal = np.where(labels, ease, -ease)[:, None]
    seen = signal + rng.normal(size=(n, EXITS)) * np.linspace(1, 0.25, EXITS)
    logits = 2 * np.stack([-seen, seen], axis=-1)
    pooled = np.stack([seen, np.abs(seen), rng.normal(size=seen.shape)], axis=-1)
    return FitData(
        pooled.astype(np.float32), logits.astype(np.float32), labels, np.arange(1, EXITS + 1, dtype=float) / EXITS
    )


def held_out(found: FitData, module: CalmMeta | None = None) -> HeldOut:
    costs = np.tile(found.costs, (len(found.labels), 1))
    if module is None:
        return HeldOut(found.logits, found.labels, costs, "h")
    reading = read_stored(module, found.pooled, found.logits)
    return HeldOut(reading.logits, found.labels, costs, "h", reading.scalars)


@dataclass(frozen=True)
class Both(ExitPolicy):
    """Two thresholds: early exits need more probability than later ones."""

    name: ClassVar[str] = "both"
    source: ClassVar[str] = "made up"
    early: float = 0.9
    late: float = 0.9

    def update(self, state: State, exit: int, logits: torch.Tensor, scalars: Scalars) -> Update:
        p = torch.softmax(logits, dim=-1)
        return Update(state, p.amax(dim=-1) >= (self.early if exit < 3 else self.late), p)

    def settings(self, held_out: HeldOut, most: int = 512) -> Sequence[Both]:
        grid = (1 - np.geomspace(0.5, 1e-4, int(most**0.5))).tolist()
        return [Both(early, late) for early in grid for late in grid]


@pytest.fixture(scope="module")
def population() -> FitData:
    return draw(4000, seed=10_001)


@pytest.fixture(scope="module")
def module() -> CalmMeta:
    return CalmMeta.fitted(draw(1500, seed=10_002), CalmMetaSettings(epochs=5))[0]


DRAWS = 60


@pytest.mark.parametrize("name", ["entropy", "patience", "both", "calm-meta"])
@pytest.mark.parametrize("loss", ["disagreement", "error-gap"])
def test_the_promised_risk_is_kept_on_fresh_draws(name, loss, population, module) -> None:
    """Learn-then-test may miss in at most delta of the draws; conformal keeps the mean over draws."""
    reader = module if name == "calm-meta" else None
    start = Both() if name == "both" else prototype(name)
    truth = held_out(population, reader)
    whole: dict[ExitPolicy, float] = {}

    def risk_of(policy: ExitPolicy) -> float:
        if policy not in whole:
            whole[policy] = float(losses(policy, truth, loss).mean())
        return whole[policy]

    tested, expected = Promise(0.1, loss, delta=0.2), Promise(0.1, loss, "conformal", None)
    risks: dict[str, list[float]] = {"tested": [], "expected": []}
    for seed in range(DRAWS):
        fresh = held_out(draw(240, seed), reader)
        for kind, promise in (("tested", tested), ("expected", expected)):
            try:
                risks[kind].append(risk_of(certify(start, fresh, promise, most=16).policy))
            except ConfigError:
                risks[kind].append(0.0)  # refused: run to full depth
    violations = sum(risk > tested.risk for risk in risks["tested"])
    assert violations <= stats.binom.ppf(0.999, DRAWS, tested.delta)
    spread = np.std(risks["expected"]) / np.sqrt(DRAWS)
    assert np.mean(risks["expected"]) <= expected.risk + 3 * spread
    # The promises are not kept by never leaving early.
    assert np.mean(np.array(risks["tested"]) > 0) > 0.8


def test_without_the_test_the_promise_would_be_broken(population) -> None:
    """The same draws, the fastest setting whose risk on the draw itself is within bounds: too many violations."""
    truth, promise = held_out(population), Promise(0.1, delta=0.2)
    violations = 0
    for seed in range(DRAWS):
        fresh = held_out(draw(120, seed))
        good = [p for p in prototype("entropy").settings(fresh, 16) if losses(p, fresh, "disagreement").mean() <= 0.1]
        fastest = max(good, key=lambda policy: evaluate(policy, fresh).speedup)
        violations += losses(fastest, truth, "disagreement").mean() > promise.risk
    assert violations > stats.binom.ppf(0.999, DRAWS, promise.delta)


def test_losses_by_hand() -> None:
    right, wrong = [0.0, 9.0], [9.0, 0.0]
    logits = np.array([[right, right], [wrong, right], [right, wrong], [wrong, wrong]], dtype=np.float32)
    data = HeldOut(logits, np.ones(4, dtype=np.int64), np.ones((4, 2)), "h")
    at_1 = make_policy("fixed", k=1)
    assert losses(at_1, data, "disagreement").tolist() == [False, True, True, False]
    assert losses(at_1, data, "error-gap").tolist() == [False, True, False, False]
    assert not losses(make_policy("fixed", k=2), data, "disagreement").any()


@given(risk=st.floats(0.005, 0.5), delta=st.floats(0.01, 0.5))
def test_fewest_texts_are_those_that_pass_unscathed(risk, delta) -> None:
    tested = Promise(risk, delta=delta)
    assert stats.binom.cdf(0, tested.least, risk) <= delta * (1 + 1e-6)
    assert tested.least == 1 or stats.binom.cdf(0, tested.least - 1, risk) > delta * (1 - 1e-6)
    expected = Promise(risk, control="conformal", delta=None)
    assert 1 / (expected.least + 1) <= risk * (1 + 1e-6)
    assert expected.least <= 1 or 1 / expected.least > risk * (1 - 1e-6)


def test_bounds_by_hand() -> None:
    assert Promise(0.05, delta=0.1).least == 45  # 0.95^45 = 0.0994
    assert Promise(0.05, control="conformal", delta=None).least == 19
    # None of 10 lost: (1 - r)^10 = 0.1. All lost: nothing can be promised.
    assert Promise(0.05, delta=0.1).smallest_risk(0, 10) == pytest.approx(1 - 0.1**0.1)
    assert Promise(0.05, delta=0.1).smallest_risk(10, 10) == 1
    assert Promise(0.05, control="conformal", delta=None).smallest_risk(3, 19) == pytest.approx(0.2)


@given(lost=st.integers(0, 30), extra=st.integers(0, 30), delta=st.floats(0.02, 0.5))
def test_the_smallest_risk_is_where_the_test_turns(lost, extra, delta) -> None:
    n = lost + extra + 1
    smallest = Promise(0.5, delta=delta).smallest_risk(lost, n)
    assert stats.binom.cdf(lost, n, min(smallest * 1.001 + 1e-9, 1)) <= delta
    assert stats.binom.cdf(lost, n, smallest * 0.999 - 1e-9) > delta or smallest < 1e-6


def certificate(**target: object) -> tuple[Calibration, dict[str, object]]:
    found = calibrate("entropy", Target(**target), held_out(draw(600, 1)))  # type: ignore[arg-type]
    assert found.promise is not None
    return found, found.promise


def test_a_calibration_records_its_promise() -> None:
    found, promise = certificate(risk=0.05, delta=0.2, loss="error-gap")
    assert found.target == "error gap to full depth at most 0.05 with probability 0.8 (learn-then-test)"
    assert (promise["proposing"], promise["testing"]) == (300, 300)
    assert promise["smallest_risk"] <= 0.05
    again = Calibration(**json.loads(json.dumps(found.as_dict())))
    assert again == found
    assert again.make() == found.make()
    assert certificate(risk=0.05, delta=0.2, loss="error-gap")[0] == found
    _, conformal = certificate(risk=0.05, control="conformal")
    assert (conformal["delta"], conformal["loss"]) == (None, "disagreement")
    other = calibrate("entropy", Target(speedup=1.5), held_out(draw(600, 1)))
    assert other.promise is None
    kept = {name: value for name, value in other.as_dict().items() if name != "promise"}
    assert Calibration(**kept) == other  # as stored before there were promises


def test_a_stricter_promise_is_never_faster() -> None:
    speeds = [certificate(risk=risk)[0].reached_speedup for risk in (0.02, 0.05, 0.1, 0.2)]
    assert speeds == sorted(speeds)
    sure, unsure = (certificate(risk=0.05, delta=delta)[0].reached_speedup for delta in (0.01, 0.4))
    assert sure <= unsure
    assert speeds[-1] > 1.5


def test_the_message_names_a_risk_that_can_be_promised() -> None:
    data = held_out(draw(400, 3))
    flipped = data.logits.copy()
    flipped[:, :-1] = np.where(np.arange(400)[:, None, None, None] % 3 == 0, -1, 1)[..., 0] * flipped[:, -1:]
    bad = replace(data, logits=flipped)
    with pytest.raises(ConfigError, match="holds at no setting that leaves early") as caught:
        calibrate("patience", Target(risk=0.02), bad)
    reachable = float(re.search(r"allows a risk of ([\d.]+);", str(caught.value))[1])  # type: ignore[index]
    assert 0.02 < reachable < 0.6
    assert calibrate("patience", Target(risk=reachable), bad).promise["lost"] > 0  # type: ignore[index]
    with pytest.raises(ConfigError, match="holds at no setting"):
        calibrate("patience", Target(risk=reachable - 0.01), bad)


@pytest.mark.parametrize(
    ("target", "fewest"), [({"risk": 0.05}, 89), ({"risk": 0.05, "control": "conformal"}, 37), ({"risk": 0.9}, 2)]
)
def test_too_few_texts_say_how_many_are_needed(target, fewest) -> None:
    agree = np.tile(np.array([-5.0, 5.0], dtype=np.float32), (fewest, EXITS, 1))
    enough = HeldOut(agree, np.ones(fewest, dtype=np.int64), np.tile(np.arange(1, EXITS + 1) / EXITS, (fewest, 1)), "h")
    assert calibrate("max-probability", Target(**target), enough).exit_shares[0] == 1
    with pytest.raises(ConfigError, match=f"hold out at least {fewest}, or ask for a larger risk"):
        calibrate("max-probability", Target(**target), enough.take(np.arange(fewest - 1)))


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("loss", ["disagreement", "error-gap"])
def test_exits_that_are_all_right_or_all_wrong_lose_nothing(right, loss) -> None:
    data = held_out(draw(200, 4))
    sign = np.where(data.labels, 1, -1) * (1 if right else -1)
    same = np.stack([-sign, sign], axis=-1)[:, None] * np.linspace(1, 3, EXITS)[None, :, None]
    found = calibrate("max-probability", Target(risk=0.05, loss=loss), replace(data, logits=same.astype(np.float32)))
    assert found.reached_speedup == pytest.approx(EXITS)
    assert found.promise["lost"] == 0  # type: ignore[index]


def test_one_class_in_the_data() -> None:
    data = held_out(draw(300, 5))
    one = data.take(np.flatnonzero(data.labels == 1))
    found = calibrate("entropy", Target(risk=0.1, loss="error-gap"), one)
    assert found.promise["smallest_risk"] <= 0.1  # type: ignore[index]
    assert found.reached_speedup > 1


def test_a_policy_with_two_parameters() -> None:
    """Two parameters cost no power: the row leads past settings that others beat to ones as fast as one parameter's."""
    data = held_out(draw(2000, 6))
    found = certify(Both(), data, Promise(0.05), most=100)
    assert 1 < found.passed <= found.tried <= 100
    alone = certify(make_policy("max-probability", t=0.9), data, Promise(0.05))
    assert evaluate(found.policy, data).speedup >= 0.9 * evaluate(alone.policy, data).speedup


def test_what_learns_on_held_out_data_learns_on_the_proposing_half() -> None:
    """Were it fitted on the tested texts too, the promise would not be exact."""
    sizes: list[int] = []

    @dataclass(frozen=True)
    class Learns(Both):
        def fitted(self, held_out: HeldOut) -> Learns:
            sizes.append(len(held_out.labels))
            return self

        def settings(self, held_out: HeldOut, most: int = 512) -> Sequence[Both]:
            sizes.append(len(held_out.labels))
            return super().settings(held_out, most)

    certify(Learns(), held_out(draw(301, 7)), Promise(0.3), most=9)
    assert sizes == [150, 150]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: calibrate("entropy", Target(risk=0.1), held_out_of_one_exit()), "one exit"),
        (lambda: calibrate("patience", Target(risk=0.1), held_out_of_two_exits()), "needs at least 3 exits"),
        (
            lambda: certify(make_policy("uee-ucb", evaluation="live"), held_out(draw(300, 8)), Promise(0.1)),
            "keeps learning",
        ),
        (lambda: certify(NeedsLabels(), held_out(draw(300, 8)), Promise(0.1)), "cannot be deployed"),
    ],
)
def test_what_nothing_can_be_promised_of_is_refused(refused: Callable[[], Certified], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refused()


@dataclass(frozen=True)
class NeedsLabels(Both):
    needs_labels: ClassVar[bool] = True


def held_out_of_one_exit() -> HeldOut:
    data = held_out(draw(300, 8))
    return HeldOut(data.logits[:, :1], data.labels, data.costs[:, :1], "h")


def held_out_of_two_exits() -> HeldOut:
    data = held_out(draw(300, 8))
    return HeldOut(data.logits[:, -2:], data.labels, data.costs[:, -2:], "h")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"risk": 0.1, "speedup": 1.5}, "exactly one"),
        ({"risk": 0.1, "accuracy_drop": 0.1}, "exactly one"),
        ({"speedup": 1.5, "delta": 0.1}, "belong to risk"),
        ({"accuracy_drop": 0.1, "loss": "error-gap"}, "belong to risk"),
        ({"risk": 0.1, "control": "conformal", "delta": 0.1}, "has no delta"),
        ({"risk": 0.1, "control": "bonferroni"}, "learn-then-test"),
        ({"risk": 0.1, "loss": "hinge"}, "error-gap"),
        ({"risk": 0.0}, "greater than 0"),
        ({"risk": 0.1, "delta": 1.0}, "less than 1"),
    ],
)
def test_targets_that_make_no_sense_are_refused(target, message) -> None:
    with pytest.raises(ValueError, match=message):
        Target(**target)
