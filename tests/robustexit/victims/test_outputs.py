"""One stored forward: the same numbers as a victim's traces, used again, refused when damaged, read by modules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from robustexit.data.types import Example, TextDataset
from robustexit.errors import ModelError
from robustexit.exits import make_policy
from robustexit.exits.replay import replay_held_out
from robustexit.models import load_model
from robustexit.modules import module_folder
from robustexit.victims.fitting import fit_and_save
from robustexit.victims.model_victim import DeployedModel, ModelVictim
from robustexit.victims.outputs import collect_outputs

WORDS = "the story was slow but fine and warm with bad jokes no heart great cast dull end"


@pytest.fixture(scope="module")
def deployed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> DeployedModel:
    return DeployedModel(load_model(tiny_model), modules=module_folder(tmp_path_factory.mktemp("modules")))


@pytest.fixture(scope="module")
def data() -> TextDataset:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS.split(), size=rng.integers(3, 30))) for _ in range(70)]
    examples = tuple(Example(str(i), {"text": text}, i % 2) for i, text in enumerate(texts))
    return TextDataset("made-up", examples, ("negative", "positive"), "generated", synthetic=True)


def test_outputs_are_what_a_victim_computes(deployed, data) -> None:
    outputs = collect_outputs(deployed, data)
    traces = ModelVictim(deployed).trace(data.texts, min_depth=4)
    np.testing.assert_array_equal(outputs.logits, np.stack([trace.logits for trace in traces]))
    assert outputs.tokens.tolist() == [trace.tokens for trace in traces]
    assert outputs.full_macs.tolist() == [trace.full_macs for trace in traces]
    costs = outputs.costs()
    early = ModelVictim(deployed, make_policy("max-probability", t=0.7)).trace(data.texts)
    for row, trace in enumerate(early):
        assert costs[row, trace.exit - 1] == pytest.approx(trace.cost)


def test_stored_outputs_are_used_again(deployed, data, tmp_path, monkeypatch) -> None:
    first = collect_outputs(deployed, data, tmp_path)
    monkeypatch.setattr(deployed, "forward", lambda batch: pytest.fail("a second forward"))
    again = collect_outputs(deployed, data, tmp_path)
    np.testing.assert_array_equal(first.pooled, again.pooled)
    other = data.with_examples(data.examples[:-1])
    with pytest.raises(pytest.fail.Exception, match="a second forward"):
        collect_outputs(deployed, other, tmp_path)


@pytest.mark.parametrize("damage", ["truncate", "remove", "rows"])
def test_damaged_outputs_are_refused(deployed, data, tmp_path, damage) -> None:
    collect_outputs(deployed, data, tmp_path)
    (home,) = tmp_path.iterdir()
    if damage == "truncate":
        whole = (home / "pooled.npy").read_bytes()
        (home / "pooled.npy").write_bytes(whole[: len(whole) // 2])
    elif damage == "remove":
        (home / "logits.npy").unlink()
    else:
        np.save(home / "labels.npy", np.zeros(3, dtype=np.int64))
    with pytest.raises(ModelError, match=r"cannot be read .* delete that folder"):
        collect_outputs(deployed, data, tmp_path)


def test_a_module_is_fitted_saved_and_deployed(deployed, data) -> None:
    with pytest.raises(ModelError, match=r"holds no fitted module 'learning-to-exit'.*fit-modules"):
        ModelVictim(deployed, make_policy("learning-to-exit", t=0.5))
    outputs = collect_outputs(deployed, data)
    fitted = fit_and_save(deployed, "learning-to-exit", data, outputs, settings={"epochs": 3})
    assert fitted.fitted_on.n == 70
    assert fitted.fitted_on.data_hash == data.content_hash()
    module = deployed.module("learning-to-exit")
    held_out = outputs.held_out(module)
    t = float(np.median(held_out.scalars["uncertainty"][:, :2]))
    policy = make_policy("learning-to-exit", t=t)
    stored = replay_held_out(policy, held_out)
    assert len(set(stored.exit.tolist())) > 1
    victim = ModelVictim(deployed, policy)
    for row, trace in enumerate(victim.trace(data.texts)):
        assert trace.exit == stored.exit[row]
        np.testing.assert_array_equal(trace.scalars["uncertainty"], held_out.scalars["uncertainty"][row, : trace.depth])
        assert trace.cost == pytest.approx(held_out.costs[row, trace.exit - 1])
    assert victim.fingerprint != ModelVictim(deployed).fingerprint


def test_the_module_is_part_of_the_fingerprint_and_charged(deployed, data) -> None:
    outputs = collect_outputs(deployed, data)
    policy = make_policy("learning-to-exit", t=0.5)
    prints = set()
    for seed in (0, 1):
        fit_and_save(deployed, "learning-to-exit", data, outputs, settings={"epochs": 1}, seed=seed)
        prints.add(ModelVictim(deployed, policy).fingerprint)
    assert len(prints) == 2
    module = deployed.module("learning-to-exit")
    assert module.macs().tolist() == [32] * 4  # one product of the width an exit
    extra = outputs.costs(module) - outputs.costs()
    np.testing.assert_allclose(extra[:, -1] * outputs.full_macs, 4 * 32)


def test_modules_of_other_weights_are_refused(deployed, data) -> None:
    fit_and_save(deployed, "learning-to-exit", data, collect_outputs(deployed, data), settings={"epochs": 1})
    loaded = deployed.loaded
    other = DeployedModel(
        type(loaded)(loaded.model, loaded.tokenizer, "multi_exit", "x" * 64), None, deployed.module_folder
    )
    with pytest.raises(ModelError, match="fitted on other weights"):
        other.module("learning-to-exit")
