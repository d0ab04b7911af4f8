"""What holds for every registered policy: online = replay, both ends, ties, one exit, two and twenty classes, NaN."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robustexit.errors import ConfigError, ModelError
from robustexit.exits import ExitOutput, ExitPolicy, HeldOut, make_policy, policies, run_policy
from robustexit.exits.calibration import prototype
from robustexit.exits.policy import require_deployable
from robustexit.exits.replay import replay_held_out
from robustexit.exits.threshold import Threshold
from robustexit.modules import ExitModule, FitData, ModuleShape, modules, read_stored

WIDTH = 5
ROWS_TO_FIT = 48


class StoredRun:
    """A forward pass over stored outputs that counts the rows it is asked for."""

    def __init__(self, logits: torch.Tensor, pooled: torch.Tensor) -> None:
        self.logits, self.pooled = logits, pooled
        self.exit = 0
        self.rows_run: list[int] = []

    def advance(self) -> ExitOutput:
        self.exit += 1
        self.rows_run.append(len(self.logits))
        return ExitOutput(self.logits[:, self.exit - 1], self.pooled[:, self.exit - 1])

    def keep(self, rows: torch.Tensor) -> None:
        self.logits, self.pooled = self.logits[rows], self.pooled[rows]


def fit_data(exits: int, classes: int) -> FitData:
    """Outputs whose states tell the label, the better the deeper."""
    rng = np.random.default_rng(exits * 100 + classes)
    labels = np.arange(ROWS_TO_FIT) % classes
    centres = rng.normal(size=(classes, WIDTH))
    pooled = np.linspace(0.5, 2, exits)[None, :, None] * centres[labels][:, None] + rng.normal(
        size=(ROWS_TO_FIT, exits, WIDTH)
    )
    logits = pooled @ centres.T
    return FitData(
        pooled.astype(np.float32),
        logits.astype(np.float32),
        labels.astype(np.int64),
        np.arange(1, exits + 1) / exits,
    )


@functools.cache
def module_of(name: str, exits: int, classes: int) -> ExitModule:
    kind = modules.get(name)
    chosen = kind.Settings()
    if "epochs" in {field.name for field in dataclasses.fields(chosen)}:
        chosen = dataclasses.replace(chosen, epochs=2)
    return kind.fitted(fit_data(exits, classes), chosen)[0]


def held_out(logits: np.ndarray, pooled: np.ndarray, module: ExitModule | None) -> HeldOut:
    rows, exits, classes = logits.shape
    labels = np.arange(rows) % classes
    costs = np.tile(np.arange(1, exits + 1) / exits, (rows, 1))
    if module is None:
        return HeldOut(logits, labels, costs, "h")
    reading = read_stored(module, pooled, logits)
    return HeldOut(reading.logits, labels, costs, "h", reading.scalars)


@functools.cache
def variants(name: str, exits: int, classes: int) -> tuple[tuple[ExitPolicy, ...], ExitModule | None]:
    """The policy at up to eight settings spread over all that a calibration would try, both ends among them."""
    kind = policies.get(name)
    module = None if kind.module is None else module_of(kind.module, exits, classes)
    data = fit_data(exits, classes)
    stored = held_out(data.logits, data.pooled, module)
    found = list(prototype(name).fitted(stored).settings(stored, 16)) or [prototype(name).fitted(stored)]
    at = np.unique(np.linspace(0, len(found) - 1, 8).round().astype(int))
    return tuple(found[i] for i in at), module


@st.composite
def outputs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    rows, exits, classes = (
        draw(st.integers(1, 6)),
        draw(st.sampled_from([1, 2, 3, 6])),
        draw(st.sampled_from([2, 3, 20])),
    )
    values = st.floats(-8, 8, width=32) | st.sampled_from([0.0, 1.0, -1.0])
    logits = draw(arrays(np.float32, (rows, exits, classes), elements=values))
    return logits, draw(arrays(np.float32, (rows, exits, WIDTH), elements=values))


@pytest.mark.parametrize("name", policies.names())
@settings(max_examples=25, deadline=None)
@given(
    drawn=outputs(),
    which=st.integers(0, 7),
    min_depth=st.integers(1, 6),
    min_rows=st.integers(1, 4),
    filler=st.integers(0, 3),
)
def test_online_equals_replay(name, drawn, which, min_depth, min_rows, filler) -> None:
    logits, pooled = drawn
    rows, exits, classes = logits.shape
    several, module = variants(name, exits, classes)
    policy = several[which % len(several)]
    min_depth = min(min_depth, exits)
    stored = replay_held_out(policy, held_out(logits, pooled, module))
    assert ((stored.exit >= 1) & (stored.exit <= exits)).all()
    assert np.isfinite(stored.probabilities).all()
    np.testing.assert_array_equal(stored.answer, stored.probabilities.argmax(-1))
    if policy.needs_labels:
        with pytest.raises(ConfigError, match="cannot be deployed"):
            require_deployable(policy)
        return

    def padded(values: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([values, np.repeat(values[-1:], filler, axis=0)]))

    run = StoredRun(padded(logits), padded(pooled))
    online = run_policy(
        run,
        policy,
        rows=rows,
        batch_rows=rows + filler,
        shape=(exits, classes),
        min_depth=min_depth,
        min_rows=min_rows,
        reader=module,
    )
    for row, result in enumerate(online):
        assert result.exit == stored.exit[row]
        np.testing.assert_array_equal(result.probabilities, stored.probabilities[row])
        assert len(result.logits) >= max(result.exit, min_depth)
        assert all(len(values) == len(result.logits) for values in result.scalars.values())
    assert len(run.rows_run) == max(max(int(e) for e in stored.exit), min_depth)
    assert all(count >= min(min_rows, rows + filler) for count in run.rows_run)


@pytest.mark.parametrize("name", policies.names())
@pytest.mark.parametrize(("exits", "classes"), [(1, 2), (2, 20), (6, 2), (6, 20)])
def test_ties_and_extreme_logits_are_defined(name, exits, classes) -> None:
    several, module = variants(name, exits, classes)
    logits = np.zeros((3, exits, classes), dtype=np.float32)
    logits[1] = 1e4
    logits[2, :, 0], logits[2, :, 1] = 1e4, -1e4
    stored = held_out(logits, np.zeros((3, exits, WIDTH), dtype=np.float32), module)
    for policy in several:
        result = replay_held_out(policy, stored)
        assert np.isfinite(result.probabilities).all()
        if module is None and not policy.needs_labels:
            assert result.answer.tolist() == [0, 0, 0]  # ties go to the lowest class index


@pytest.mark.parametrize("name", policies.names())
def test_settings_reach_from_early_to_late(name) -> None:
    """Among the settings that a calibration tries some must leave early: a policy that cannot is no policy."""
    several, module = variants(name, 6, 3)
    data = fit_data(6, 3)
    exits = [replay_held_out(policy, held_out(data.logits, data.pooled, module)).exit.mean() for policy in several]
    assert min(exits) < 6


AT_EQUALITY = {
    ">=": """max-probability calibrated-max-probability arithmetic-mean geometric-mean product-of-experts exit-chain
    jei-gates calm-meta sngp exemplar-cosine""",
    ">": "margin saturation consistent-ee ztw",
    "<": "entropy normalised-entropy learning-to-exit past-future class-means de3",
}
"""How the methods' papers and codes compare with t where a text leaves."""

THRESHOLDS = [name for name in policies.names() if issubclass(policies.get(name), Threshold)]


def test_equality_is_what_the_methods_say() -> None:
    assert {name: policies.get(name).leaves for name in THRESHOLDS} == {
        name: leaves for leaves, names in AT_EQUALITY.items() for name in names.split()
    }
    for name in THRESHOLDS:
        policy = dataclasses.replace(prototype(name), t=0.5)
        assert (
            policy.passes(torch.tensor([0.25, 0.5, 0.75])).tolist()
            == {
                ">=": [False, True, True],
                ">": [False, False, True],
                "<": [True, False, False],
            }[policy.leaves]
        )


@pytest.mark.parametrize("name", [*THRESHOLDS, "q-exit"])
def test_thresholds_reach_from_the_first_exit_to_the_last(name) -> None:
    """In rising order they let texts leave ever earlier or ever later, in many steps."""
    module = variants(name, 4, 3)[1]
    data = fit_data(4, 3)
    stored = held_out(data.logits, data.pooled, module)
    tried = prototype(name).fitted(stored).settings(stored)
    exits = np.stack([replay_held_out(policy, stored).exit for policy in tried])
    earliest = 2 if name == "saturation" else 1  # which compares with the exit before
    assert {tuple(exits[0]), tuple(exits[-1])} == {(earliest,) * ROWS_TO_FIT, (4,) * ROWS_TO_FIT}
    steps = np.diff(exits, axis=0)
    assert (steps >= 0).all() or (steps <= 0).all()
    assert len(np.unique(exits, axis=0)) > ROWS_TO_FIT / 2


@pytest.mark.parametrize("name", policies.names())
def test_parameters_survive_json(name) -> None:
    import json

    for policy in variants(name, 6, 3)[0]:
        again = make_policy(name, **json.loads(json.dumps(policy.parameters)))
        assert again == policy
        assert again.describe() == policy.describe()


@pytest.mark.parametrize("name", policies.names())
def test_nan_is_refused(name) -> None:
    several, module = variants(name, 3, 2)
    logits = np.zeros((2, 3, 2), dtype=np.float32)
    logits[1, 1, 0] = np.nan
    pooled = torch.zeros(2, 3, WIDTH)
    with pytest.raises(ModelError, match="not finite"):
        replay_held_out(several[0], HeldOut(logits, np.zeros(2, dtype=np.int64), np.ones((2, 3)), "h", zeros(module)))
    if not several[0].needs_labels:
        run = StoredRun(torch.from_numpy(logits), pooled)
        with pytest.raises(ModelError, match="not finite"):
            run_policy(run, several[0], rows=2, batch_rows=2, shape=(3, 2), min_depth=3, reader=module)


def zeros(module: ExitModule | None) -> dict[str, np.ndarray]:
    if module is None:
        return {}
    logits, pooled = np.zeros((2, 3, 2), dtype=np.float32), np.zeros((2, 3, WIDTH), dtype=np.float32)
    return dict(read_stored(module, pooled, logits).scalars)


def test_every_policy_names_a_module_that_exists() -> None:
    for name in policies.names():
        module = policies.get(name).module
        assert module is None or module in modules.names()
    assert ModuleShape(1, 2, 3).width == 3
