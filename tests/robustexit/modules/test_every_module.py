"""What holds for every registered module: a deterministic fit, safe files, rows that do not depend on each other."""

from __future__ import annotations

import dataclasses
import functools
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from robustexit.errors import ConfigError, ModelError
from robustexit.exits.layerwise import Reading
from robustexit.modules import (
    ExitModule,
    FitData,
    FittedOn,
    ModuleShape,
    StoredReading,
    load_module,
    make_module,
    modules,
    read_stored,
    save_module,
    saved_modules,
)
from robustexit.modules.base import READ_ROWS, make_settings

WIDTH = 5
HASH = "a" * 64
SHAPES = [(1, 2), (2, 20), (6, 2), (4, 20)]


def data(exits: int = 4, classes: int = 3, n: int = 60, seed: int = 0, width: int = WIDTH) -> FitData:
    """Outputs whose states tell the label, the better the deeper."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    centres = rng.normal(size=(classes, width))
    depth = np.linspace(0.5, 2, exits)[None, :, None]
    pooled = depth * centres[labels][:, None] + rng.normal(size=(n, exits, width))
    logits = pooled @ centres.T
    costs = np.arange(1, exits + 1) / exits
    return FitData(pooled.astype(np.float32), logits.astype(np.float32), labels.astype(np.int64), costs)


def quick(name: str) -> object:
    """Default settings with few passes and small layers."""
    settings = modules.get(name).Settings()
    small = {"epochs": 2, "rounds": 1, "max_iter": 10, "gp_hidden_dim": 50}
    known = {field.name for field in dataclasses.fields(settings)}
    return dataclasses.replace(settings, **{key: value for key, value in small.items() if key in known})


def fit(name: str, found: FitData, seed: int = 0) -> ExitModule:
    return modules.get(name).fitted(found, quick(name), seed)[0]


def learns(name: str) -> bool:
    """Whether a module has parameters; asked while tests are collected, before threads are set: nothing is fitted."""
    return bool(list(make_module(name, ModuleShape(4, 3, WIDTH)).parameters()))


@functools.cache
def fitted(name: str, exits: int = 4, classes: int = 3, width: int = WIDTH) -> ExitModule:
    return fit(name, data(exits, classes, width=width))


def reading(module: ExitModule, found: FitData) -> StoredReading:
    return read_stored(module, found.pooled, found.logits)


def assert_same(one: StoredReading, other: StoredReading) -> None:
    np.testing.assert_array_equal(one.logits, other.logits)
    assert one.scalars.keys() == other.scalars.keys()
    for name, values in one.scalars.items():
        np.testing.assert_array_equal(values, other.scalars[name])


def assert_finite(found: StoredReading) -> None:
    for values in (found.logits, *found.scalars.values()):
        assert values.dtype == np.float32
        assert np.isfinite(values).all()


every_module = pytest.mark.parametrize("name", modules.names())


@every_module
def test_fit_is_a_function_of_data_and_seed(name) -> None:
    first = fit(name, data(), seed=3)
    torch.manual_seed(99)
    torch.rand(5)
    second = fit(name, data(), seed=3)
    assert first.state_dict().keys() == second.state_dict().keys()
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key])


@every_module
def test_fit_leaves_random_state_and_data_alone(name) -> None:
    found = data()
    copies = [array.copy() for array in (found.pooled, found.logits, found.labels, found.costs)]
    torch.manual_seed(5)
    np.random.seed(5)
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    fit(name, found)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert random.getstate() == before[2]
    for array, copy in zip((found.pooled, found.logits, found.labels, found.costs), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_module
def test_a_fitted_module_is_done_learning(name) -> None:
    module = fitted(name)
    assert not module.training
    assert not any(parameter.requires_grad for parameter in module.parameters())
    report = modules.get(name).fitted(data(), quick(name))[1]
    assert all(isinstance(value, float) and np.isfinite(value) for value in report.values())
    json.dumps(report)


@every_module
def test_stored_outputs_may_be_memory_mapped(name, tmp_path) -> None:
    found = data()
    np.save(tmp_path / "pooled.npy", found.pooled)
    mapped = np.load(tmp_path / "pooled.npy", mmap_mode="r")
    module = fit(name, FitData(mapped, found.logits, found.labels, found.costs))
    assert_same(read_stored(module, mapped, found.logits), reading(fitted(name), found))


@every_module
@pytest.mark.parametrize(("exits", "classes"), SHAPES)
def test_any_number_of_exits_and_classes(name, exits, classes) -> None:
    module = fitted(name, exits, classes)
    found = data(exits, classes, n=40, seed=1)
    read = reading(module, found)
    assert read.logits.shape == found.logits.shape
    assert all(values.shape == (40, exits) for values in read.scalars.values())
    assert_finite(read)
    macs = module.macs()
    assert macs.shape == (exits,)
    assert macs.dtype == np.int64
    assert (macs >= 0).all()


def assert_rows_are(expected: StoredReading, rows: np.ndarray, index: int, found: Reading) -> None:
    np.testing.assert_array_equal(found.logits.numpy(), expected.logits[rows, index])
    assert found.scalars.keys() == expected.scalars.keys()
    for key, value in found.scalars.items():
        np.testing.assert_array_equal(value.numpy(), expected.scalars[key][rows, index])


def at_exit(found: FitData, rows: np.ndarray, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(found.pooled[rows, index]), torch.from_numpy(found.logits[rows, index])


@every_module
@pytest.mark.parametrize("width", [WIDTH, 8, 386])
@pytest.mark.parametrize("classes", [2, 5])
def test_a_row_does_not_depend_on_the_others(name, classes, width) -> None:
    """Neither on its place nor on how many there are: bit for bit what stored outputs are read as."""
    exits, n = 3, 100
    module = fitted(name, exits, classes, width)
    found = data(exits, classes, n, seed=2, width=width)
    expected = reading(module, found)
    for rows in (1, 7, READ_ROWS, READ_ROWS + 1, 40, n):
        order = np.random.default_rng(rows).permutation(n)
        for start in range(0, n if rows > 1 else 10, rows):
            lot = order[start : start + rows]
            state = module.start(len(lot))
            for index in range(exits):
                read = module.read_exit(state, index + 1, *at_exit(found, lot, index))
                assert_rows_are(expected, lot, index, read)
                state = read.state


@every_module
def test_one_exit_reads_any_number_of_rows(name) -> None:
    module, found = fitted(name, 1), data(1, n=70, seed=2)
    expected = reading(module, found)
    for rows in (np.arange(0), np.arange(69, 70), np.arange(70)[::-1].copy()):
        assert_rows_are(expected, rows, 0, module.read_exit(module.start(len(rows)), 1, *at_exit(found, rows, 0)))


@every_module
def test_rows_may_leave_on_the_way(name) -> None:
    module, found = fitted(name), data(n=READ_ROWS + 8, seed=3)
    expected = reading(module, found)
    present = np.arange(READ_ROWS + 8)
    state = module.start(len(present))
    for index in range(4):
        read = module.read_exit(state, index + 1, *at_exit(found, present, index))
        assert_rows_are(expected, present, index, read)
        kept = np.flatnonzero(present % (index + 2) != 0)
        present, state = present[kept], {key: value[torch.from_numpy(kept)] for key, value in read.state.items()}


@every_module
def test_extreme_outputs_are_read_as_numbers(name) -> None:
    logits = np.zeros((6, 4, 3), dtype=np.float32)
    logits[1], logits[2, :, 0], logits[2, :, 1] = 1e4, 1e4, -1e4
    pooled = np.zeros((6, 4, WIDTH), dtype=np.float32)
    pooled[3], pooled[4], pooled[5, ::2] = 1e3, -1e3, 1e-20
    assert_finite(read_stored(fitted(name), pooled, logits))


def all_alike(right: bool) -> FitData:
    found = data()
    answers = found.labels if right else (found.labels + 1) % 3
    logits = np.repeat(5 * np.eye(3, dtype=np.float32)[answers][:, None], 4, axis=1)
    return dataclasses.replace(found, logits=logits)


PLAIN = {
    "every exit right": all_alike(right=True),
    "every exit wrong": all_alike(right=False),
    "one class": dataclasses.replace(data(), labels=np.zeros(60, dtype=np.int64)),
    "one text": data(n=1),
    "two texts": data(n=2),
    "the same text": dataclasses.replace(
        data(),
        pooled=np.repeat(data().pooled[:1], 60, axis=0),
        logits=np.repeat(data().logits[:1], 60, axis=0),
    ),
    "states all zero": dataclasses.replace(data(), pooled=np.zeros((60, 4, WIDTH), dtype=np.float32)),
}


@every_module
@pytest.mark.parametrize("plain", PLAIN)
def test_plain_data_teaches_something_or_is_refused(name, plain) -> None:
    """Never a module that answers with NaN, never an error that is not the project's own."""
    try:
        module = fit(name, PLAIN[plain])
    except ConfigError as refused:
        assert len(str(refused)) > 20
        return
    assert_finite(reading(module, data(n=20, seed=4)))


@every_module
def test_states_that_are_not_numbers_do_not_give_a_module(name) -> None:
    bad = data()
    bad.pooled[7] = np.nan
    module = None
    try:
        module = fit(name, bad)
    except (ModelError, ConfigError):
        return
    assert_finite(reading(module, data(n=20, seed=4)))  # one that does not learn from states


@every_module
def test_outputs_of_another_shape_are_refused(name) -> None:
    other = data(exits=3)
    with pytest.raises(ModelError, match="was fitted for"):
        reading(fitted(name), other)


def saved(name: str, folder: Path) -> Path:
    fitted_on = FittedOn(HASH, "train", "h", 60, 0, {"loss": 1.0})
    return save_module(folder, fitted(name), fitted_on)


@every_module
@pytest.mark.parametrize(("exits", "classes"), SHAPES)
def test_saved_and_loaded_reads_the_same(name, exits, classes, tmp_path) -> None:
    module = fitted(name, exits, classes)
    save_module(tmp_path, module, FittedOn(HASH, "train", "h", 60, 7, {"loss": 0.25}))
    assert saved_modules(tmp_path) == [name]
    again, fitted_on = load_module(tmp_path, name, HASH)
    assert (fitted_on.seed, fitted_on.n, fitted_on.report) == (7, 60, {"loss": 0.25})
    assert again.settings == module.settings
    assert not again.training
    found = data(exits, classes, n=50, seed=5)
    assert_same(reading(again, found), reading(module, found))
    np.testing.assert_array_equal(again.macs(), module.macs())


@every_module
def test_a_module_of_other_weights_is_refused(name, tmp_path) -> None:
    saved(name, tmp_path)
    with pytest.raises(ModelError, match="fitted on other weights"):
        load_module(tmp_path, name, "b" * 64)


@every_module
def test_a_module_that_is_not_there_is_refused(name, tmp_path) -> None:
    with pytest.raises(ModelError, match="no fitted module"):
        load_module(tmp_path, name, HASH)


def without_weights(home: Path) -> None:
    (home / "weights.safetensors").unlink()


def empty_weights(home: Path) -> None:
    (home / "weights.safetensors").write_bytes(b"")


def truncated_weights(home: Path) -> None:
    path = home / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def garbled_header(home: Path) -> None:
    path = home / "weights.safetensors"
    path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])


def another_tensor(home: Path) -> None:
    path = home / "weights.safetensors"
    save_file({**load_file(path), "surplus": torch.zeros(1)}, path)


def truncated_description(home: Path) -> None:
    path = home / "module.json"
    path.write_bytes(path.read_bytes()[:40])


def unknown_setting(home: Path) -> None:
    path = home / "module.json"
    content = json.loads(path.read_text())
    content["settings"]["no_such_setting"] = 1
    path.write_text(json.dumps(content))


def incomplete_description(home: Path) -> None:
    path = home / "module.json"
    content = json.loads(path.read_text())
    del content["shape"]
    path.write_text(json.dumps(content))


def description_of_something_else(home: Path) -> None:
    (home / "module.json").write_text("[]")


DAMAGES = [
    without_weights,
    empty_weights,
    truncated_weights,
    garbled_header,
    another_tensor,
    truncated_description,
    unknown_setting,
    incomplete_description,
    description_of_something_else,
]


@every_module
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_files_are_refused(name, damage, tmp_path) -> None:
    damage(saved(name, tmp_path))
    with pytest.raises((ModelError, ConfigError)):
        load_module(tmp_path, name, HASH)


@pytest.mark.parametrize("name", [name for name in modules.names() if learns(name)])
def test_weights_of_another_shape_are_refused(name, tmp_path) -> None:
    """Parameters have the shape that follows from the description; only buffers may follow from the data."""
    home = saved(name, tmp_path)
    parameters = {key for key, _ in fitted(name).named_parameters()}
    weights = load_file(home / "weights.safetensors")
    key = min(parameters)
    save_file({**weights, key: torch.zeros(*weights[key].shape, 2)}, home / "weights.safetensors")
    with pytest.raises(ModelError, match="fit the module again"):
        load_module(tmp_path, name, HASH)


def test_macs_of_one_linear_layer_by_hand() -> None:
    assert make_module("learning-to-exit", ModuleShape(3, 2, 8)).macs().tolist() == [8, 8, 8]


WRONG = {
    "epochs": (0, 1.5),
    "batch_size": (0, True),
    "learning_rate": (0.0, -1.0, float("inf"), "fast"),
    "weight_decay": (-0.1,),
}


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        (name, field.name)
        for name in modules.names()
        for field in dataclasses.fields(modules.get(name).Settings)
        if field.name in WRONG
    ],
)
def test_settings_of_the_fit_are_checked(name, setting) -> None:
    for value in WRONG[setting]:
        with pytest.raises(ConfigError, match=f"post-hoc module '{name}'.*{setting}"):
            make_settings(name, **{setting: value})


def test_unknown_module_and_setting_are_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'calm-meta'"):
        make_module("calm-mete", ModuleShape(2, 2, 3))
    with pytest.raises(ConfigError, match="did you mean 'epochs'"):
        make_module("calm-meta", ModuleShape(2, 2, 3), epoch=3)
