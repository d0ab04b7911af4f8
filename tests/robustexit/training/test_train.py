from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from robustexit.data.types import Example
from robustexit.errors import ConfigError, DataError, ModelError, RunError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.models.loading import load_model
from robustexit.training import Regime, Stage, TrainSpec, features, folder, read_result, train
from robustexit.training.regimes import build_regime, every_head, regimes, sum_loss


def run(spec, train_data, eval_data, output):
    return train(spec, train_data, eval_data, output, progress=False)


def weights(folder: Path, part: str = "") -> dict[str, torch.Tensor]:
    return {name: value for name, value in load_file(folder / "model.safetensors").items() if part in name}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def untrained(spec: TrainSpec, exit_layers=None) -> dict[str, torch.Tensor]:
    model = MultiExitForSequenceClassification.from_backbone(
        spec.backbone, label_names=("negative", "positive"), exit_layers=exit_layers, seed=spec.seed
    )
    return model.state_dict()


class Breaks:
    """A loss that stops the process's training at its n-th call."""

    def __init__(self, loss, error: type[BaseException] = KeyboardInterrupt) -> None:
        self.loss, self.error, self.at, self.calls = loss, error, 0, 0

    def __call__(self, logits, labels):
        self.calls += 1
        if self.calls == self.at:
            raise self.error("stopped by the test")
        return self.loss(logits, labels)


@pytest.fixture
def breakable(monkeypatch):
    """Register regime 'breakable' (joint, or two-stage's stages) and return its loss."""
    monkeypatch.setattr(regimes, "_members", dict(regimes._members))

    def register(name: str = "joint") -> Breaks:
        regime = build_regime(name)
        loss = Breaks(regime.stages[-1].loss)
        stages = (*regime.stages[:-1], replace(regime.stages[-1], loss=loss))
        regimes._members["breakable"] = lambda: replace(regime, name="breakable", stages=stages)
        return loss

    return register


# What each regime does


@pytest.mark.parametrize("regime", ["joint", "depth-weighted", "two-stage", "frozen-heads", "final"])
def test_every_regime_learns_and_leaves_a_loadable_folder(regime, spec, train_data, eval_data, tmp_path):
    result = run(spec.model_copy(update={"regime": regime}), train_data, eval_data, tmp_path / "out")
    for stage in {epoch.stage for epoch in result.history}:
        losses = [epoch.loss for epoch in result.history if epoch.stage == stage]
        assert losses[-1] < losses[0]
    assert result.status == "trained"
    assert result.exit_layers == ((3,) if regime == "final" else (1, 2, 3))
    assert [accuracy.total for accuracy in result.exits] == [20] * len(result.exit_layers)
    assert all(accuracy.low <= accuracy.accuracy <= accuracy.high for accuracy in result.exits)
    loaded = load_model(tmp_path / "out")
    assert loaded.model.num_exits == len(result.exit_layers)
    assert loaded.model.config.training["regime"] == regime
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_accuracies_are_those_of_the_saved_model(spec, train_data, eval_data, tmp_path):
    for regime in ("joint", "frozen-heads"):
        result = run(spec.model_copy(update={"regime": regime}), train_data, eval_data, tmp_path / regime)
        loaded = load_model(tmp_path / regime)
        texts = [text["text"] for text in eval_data.texts]
        batch = loaded.tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            answers = loaded.model(**batch).logits.argmax(-1)
        right = (answers == torch.tensor(eval_data.labels)[:, None]).sum(0).tolist()
        assert [accuracy.correct for accuracy in result.exits] == right


def test_frozen_heads_leaves_the_encoder_bit_identical(spec, train_data, tmp_path):
    run(spec.model_copy(update={"regime": "frozen-heads"}), train_data, None, tmp_path / "out")
    before, after = untrained(spec), weights(tmp_path / "out")
    assert all(torch.equal(before[name], after[name]) for name in after if name.startswith("encoder."))
    assert not any(torch.equal(before[name], after[name]) for name in after if name.startswith("heads."))


def test_two_stage_keeps_encoder_and_last_head_in_its_second_stage(spec, train_data, eval_data, tmp_path, monkeypatch):
    kept = {}
    finish_stage = folder.RunFolder.finish_stage

    def keep(self, number, model, history, learned):
        finish_stage(self, number, model, history, learned)
        kept.update(load_file(self.stage(number) / "weights.safetensors"))

    monkeypatch.setattr(folder.RunFolder, "finish_stage", keep)
    two_stage = spec.model_copy(update={"regime": "two-stage"})
    result = run(two_stage, train_data, eval_data, tmp_path / "out")
    start, after = untrained(spec), weights(tmp_path / "out")
    for name in after:
        inner = name.startswith(("heads.0.", "heads.1."))
        assert torch.equal(after[name], kept[name]) is not inner, name
        # Stage 1 leaves the inner heads as they were made.
        assert not inner or torch.equal(start[name], kept[name]), name
    assert [epoch.trained_exits for epoch in result.history] == [(3,)] * 2 + [(1, 2)] * 5
    assert len({epoch.exit_correct[2] for epoch in result.history[2:]}) == 1


def test_stored_states_are_the_forwards(spec, train_data, eval_data, tmp_path, backbone):
    result = run(spec.model_copy(update={"regime": "frozen-heads"}), train_data, eval_data, tmp_path / "out")
    model = load_model(tmp_path / "out").model
    tokenizer = load_model(tmp_path / "out").tokenizer
    texts = features.EncodedTexts(eval_data, tokenizer, 24)
    seen: list[int] = []
    stored = features.store_features(
        model, texts, tmp_path / "states.npy", batch_size=8, bf16=False, advance=seen.append
    )
    assert stored.pooled.shape == (20, 3, 16) and sum(seen) == 20
    batch = tokenizer([text["text"] for text in eval_data.texts], padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = model(**batch).logits
    assert torch.allclose(torch.from_numpy(features.stored_logits(model, stored, 7)), logits, atol=1e-5)
    assert result.exits


def test_half_stored_states_are_completed(spec, train_data, backbone, tmp_path, monkeypatch):
    model = MultiExitForSequenceClassification.from_backbone(backbone, label_names=("a", "b"))
    texts = features.EncodedTexts(train_data, load_model_tokenizer(backbone), 24)
    monkeypatch.setattr(features, "FLUSH_BATCHES", 2)

    def store(path, advance):
        return features.store_features(model, texts, path, batch_size=8, bf16=False, advance=advance)

    def stop(rows):
        if rows and next(left) == 0:
            raise KeyboardInterrupt

    left = iter([1, 1, 1, 0])
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path / "broken.npy", stop)
    seen: list[int] = []
    completed = store(tmp_path / "broken.npy", seen.append)
    assert seen == [16, 8, 8, 8, 8]
    assert (completed.pooled == store(tmp_path / "whole.npy", lambda rows: None).pooled).all()


def load_model_tokenizer(path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


def test_exits_heads_and_pairs_are_the_specs(spec, make_data, tmp_path):
    changed = spec.model_copy(update={"exit_layers": (1, 3), "head": "mlp", "pooling": "cls", "max_length": 8})
    pairs = make_data(16, pair=True)
    result = run(changed, pairs, pairs, tmp_path / "out")
    loaded = load_model(tmp_path / "out").model
    assert result.exit_layers == loaded.exit_layers == (1, 3)
    assert (loaded.config.head, loaded.config.pooling) == ("mlp", "cls")
    assert tuple(loaded.config.field_names) == ("first", "second")
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["data"]["train"]["truncated"] > 0


def test_bf16_trains_to_fp32_weights(spec, train_data, eval_data, tmp_path):
    for regime in ("joint", "frozen-heads"):
        changed = spec.model_copy(update={"precision": "bf16", "regime": regime})
        run(changed, train_data, eval_data, tmp_path / regime)
        assert {value.dtype for value in weights(tmp_path / regime).values()} == {torch.float32}


# Seeds, records


def test_same_seed_same_weights_other_seed_other_weights(spec, train_data, tmp_path):
    for regime in ("joint", "two-stage"):
        base = spec.model_copy(update={"regime": regime})
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            run(base.model_copy(update={"seed": seed}), train_data, None, tmp_path / (regime + name))
        a, b, c = (weights(tmp_path / (regime + name)) for name in "abc")
        assert same(a, b) and not same(a, c)


def test_training_json_says_what_was_done(spec, train_data, eval_data, tmp_path):
    result = run(spec, train_data, eval_data, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["spec"] == spec.model_dump(mode="json")
    assert record["train_hash"] == train_data.content_hash()
    assert record["eval_hash"] == eval_data.content_hash()
    assert record["synthetic"] is True and record["resumed"] is False and record["seconds"] > 0
    assert record["data"]["train"]["classes"] == {"negative": 24, "positive": 24}
    assert {"torch", "transformers", "robustexit"} <= record["machine"]["packages"].keys()
    assert len(record["history"]) == 2 and len(record["exits"]) == 3
    assert replace(read_result(tmp_path / "out"), seconds=0, status="trained") == replace(result, seconds=0)


def test_without_held_out_data_there_are_no_accuracies(spec, train_data, tmp_path):
    result = run(spec, replace(train_data, synthetic=False), None, tmp_path / "out")
    assert result.exits == () and result.synthetic is False
    assert all(epoch.exit_correct is None for epoch in result.history)


# Killed, finished, refused


@pytest.mark.parametrize("at", [3, 6, 7, 10, 12])
def test_a_resumed_run_ends_with_the_uninterrupted_weights(at, breakable, spec, train_data, eval_data, tmp_path):
    loss = breakable()
    spec = spec.model_copy(update={"regime": "breakable"})
    whole = run(spec, train_data, eval_data, tmp_path / "whole")
    loss.calls, loss.at = 0, at
    with pytest.raises(KeyboardInterrupt):
        run(spec, train_data, eval_data, tmp_path / "out")
    assert not (tmp_path / "out" / "training.json").exists()
    assert not (tmp_path / "out" / "config.json").exists()
    loss.calls, loss.at = 0, 0
    resumed = run(spec, train_data, eval_data, tmp_path / "out")
    assert resumed.status == ("resumed" if at > 4 else "trained")
    # Checkpoints stand after steps 4, 6 (the epoch's end) and 8 of 12.
    assert loss.calls == {3: 12, 6: 8, 7: 6, 10: 4, 12: 4}[at]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))
    assert (resumed.history, resumed.exits) == (whole.history, whole.exits)


def test_two_stage_resumes_in_its_second_stage(breakable, spec, train_data, eval_data, tmp_path):
    loss = breakable("two-stage")
    spec = spec.model_copy(update={"regime": "breakable"})
    whole = run(spec, train_data, eval_data, tmp_path / "whole")
    loss.calls, loss.at = 0, 7
    with pytest.raises(KeyboardInterrupt):
        run(spec, train_data, eval_data, tmp_path / "out")
    resumed = run(spec, train_data, eval_data, tmp_path / "out")
    assert resumed.status == "resumed"
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))
    assert resumed.history == whole.history


def test_a_half_written_checkpoint_is_passed_over(breakable, spec, train_data, tmp_path):
    loss = breakable()
    spec = spec.model_copy(update={"regime": "breakable"})
    run(spec, train_data, None, tmp_path / "whole")
    loss.calls, loss.at = 0, 8
    with pytest.raises(KeyboardInterrupt):
        run(spec, train_data, None, tmp_path / "out")
    stage = tmp_path / "out" / "checkpoints" / "stage-1"
    (newest,) = stage.glob("checkpoint-*")
    shutil.copytree(newest, stage / "checkpoint-9")
    (stage / "checkpoint-9" / "trainer_state.json").write_text('{"global_step": 9, "log_hi')
    run(spec, train_data, None, tmp_path / "out")
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


@pytest.mark.slow
def test_a_killed_process_resumes(spec, make_data, tmp_path):
    """SIGKILL at the first checkpoint, then the same command again."""
    spec = spec.model_copy(update={"epochs": 40})
    (tmp_path / "spec.json").write_text(spec.model_dump_json())
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from robustexit.data.types import Example, TextDataset\n"
        "from robustexit.training import TrainSpec, train\n"
        "torch.set_num_threads(1)\n"
        "spec = TrainSpec.model_validate_json(Path(sys.argv[1]).read_text())\n"
        "rows = tuple(Example(str(i), {'text': ['good film', 'a bad plot'][i % 2]}, i % 2) for i in range(48))\n"
        "data = TextDataset('toy', rows, ('positive', 'negative'), 'generated')\n"
        "train(spec, data, None, Path(sys.argv[2]), progress=False)\n"
    )

    def start(output: Path) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, str(script), str(tmp_path / "spec.json"), str(output)])

    process = start(tmp_path / "out")
    stage = tmp_path / "out" / "checkpoints" / "stage-1"
    while not list(stage.glob("checkpoint-*/trainer_state.json")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "training.json").exists()
    assert start(tmp_path / "out").wait() == 0
    assert start(tmp_path / "whole").wait() == 0
    assert json.loads((tmp_path / "out" / "training.json").read_text())["resumed"] is True
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "out"))


def test_a_finished_run_is_returned_as_it_is(breakable, spec, train_data, eval_data, tmp_path):
    loss = breakable()
    spec = spec.model_copy(update={"regime": "breakable"})
    first = run(spec, train_data, eval_data, tmp_path / "out")
    calls = loss.calls
    again = run(spec, train_data, eval_data, tmp_path / "out")
    # How often to save is no part of what was trained.
    run(spec.model_copy(update={"checkpoint_steps": 7}), train_data, eval_data, tmp_path / "out")
    assert loss.calls == calls
    assert again.status == "already finished"
    assert (again.history, again.exits) == (first.history, first.exits)


def test_other_settings_or_data_in_the_same_folder_are_refused(
    breakable, spec, train_data, eval_data, make_data, tmp_path
):
    loss = breakable()
    spec = spec.model_copy(update={"regime": "breakable"})
    loss.at = 8
    with pytest.raises(KeyboardInterrupt):
        run(spec, train_data, eval_data, tmp_path / "out")
    for state in ("an unfinished run", "a finished run"):
        with pytest.raises(RunError, match=f"{state} .*learning_rate: 0.003 there, 0.1 here"):
            run(spec.model_copy(update={"learning_rate": 0.1}), train_data, eval_data, tmp_path / "out")
        with pytest.raises(RunError, match="training data"):
            run(spec, make_data(50), eval_data, tmp_path / "out")
        with pytest.raises(RunError, match=r"held-out data.*None here"):
            run(spec, train_data, None, tmp_path / "out")
        run(spec, train_data, eval_data, tmp_path / "out")


def test_runs_of_an_earlier_version_are_still_theirs(spec, train_data, tmp_path):
    """Settings and data that came later had their defaults then."""
    run(spec, train_data, None, tmp_path / "out")
    path = tmp_path / "out" / "training.json"
    record = json.loads(path.read_text())
    for later in ("target_hash", "target_exits", "learned"):
        del record[later]
    del record["spec"]["head_options"]
    path.write_text(json.dumps(record))
    assert run(spec, train_data, None, tmp_path / "out").status == "already finished"
    other = spec.model_copy(update={"head": "random-projection", "head_options": {"seed": 7, "projection": 4}})
    with pytest.raises(RunError, match=r"head_options: \{\} there"):
        run(other, train_data, None, tmp_path / "out")


def test_head_options_reach_the_heads(spec, train_data, tmp_path):
    for seed in (1, 2):
        options = {
            "head": "random-projection",
            "head_options": {"seed": seed, "projection": 4},
            "regime": "frozen-heads",
        }
        run(spec.model_copy(update=options), train_data, None, tmp_path / str(seed))
    assert not same(weights(tmp_path / "1"), weights(tmp_path / "2"))
    assert load_model(tmp_path / "1").model.config.head_options["seed"] == 1


def test_a_backbone_that_changed_under_an_unfinished_run_is_refused(breakable, spec, train_data, backbone, tmp_path):
    loss = breakable()
    loss.at = 8
    shutil.copytree(backbone, tmp_path / "backbone")
    spec = spec.model_copy(update={"regime": "breakable", "backbone": str(tmp_path / "backbone")})
    with pytest.raises(KeyboardInterrupt):
        run(spec, train_data, None, tmp_path / "out")
    changed = load_file(tmp_path / "backbone" / "model.safetensors")
    changed["embeddings.LayerNorm.bias"] += 1
    save_file(changed, tmp_path / "backbone" / "model.safetensors", {"format": "pt"})
    with pytest.raises(RunError, match="began from other weights"):
        run(spec, train_data, None, tmp_path / "out")


def test_somebody_elses_model_is_not_overwritten(spec, train_data, backbone, tmp_path):
    shutil.copytree(backbone, tmp_path / "out")
    with pytest.raises(RunError, match="no training run of ours"):
        run(spec, train_data, None, tmp_path / "out")


def test_a_broken_record_is_explained(spec, train_data, tmp_path):
    run(spec, train_data, None, tmp_path / "out")
    (tmp_path / "out" / "training.json").write_text("{")
    with pytest.raises(RunError, match=r"training\.json"):
        run(spec, train_data, None, tmp_path / "out")
    with pytest.raises(RunError, match=r"training\.json"):
        read_result(tmp_path)


def test_a_full_disk_is_explained_and_leaves_nothing_that_looks_finished(spec, train_data, tmp_path, monkeypatch):
    def full(*_args, **_settings):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(MultiExitForSequenceClassification, "save_pretrained", full)
        with pytest.raises(RunError, match="No space left on device; free space"):
            run(spec.model_copy(update={"checkpoint_steps": 100}), train_data, None, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"checkpoints"}
    assert run(spec, train_data, None, tmp_path / "out").history


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs os.posix_fallocate")
def test_a_disk_too_small_for_the_states_is_explained(spec, train_data, tmp_path, monkeypatch):
    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(RunError, match="No space left on device; free space"):
        run(spec.model_copy(update={"regime": "frozen-heads"}), train_data, None, tmp_path / "out")


# Data and models that cannot be trained


def test_unusable_data_is_refused_before_anything_is_written(spec, train_data, eval_data, tmp_path):
    def refuse(train_set, held_out, message):
        with pytest.raises(DataError, match=message):
            run(spec, train_set, held_out, tmp_path / "out")

    positive = tuple(example for example in train_data.examples if example.label == 1)
    refuse(train_data.with_examples(()), None, "expected examples, got none")
    refuse(train_data, eval_data.with_examples(()), "expected examples, got none")
    refuse(train_data.with_examples(positive), None, "at least two classes, got only 'positive'")
    stray = Example("stray", {"text": "good"}, 2)
    refuse(train_data.with_examples((*positive, stray)), None, "'stray' has label 2, expected 0 to 1")
    hidden = Example("hidden", {"text": "good"}, -1)
    refuse(train_data, eval_data.with_examples((hidden,)), "'hidden' has label -1")
    uneven = Example("uneven", {"body": "good"}, 1)
    refuse(train_data.with_examples((*train_data.examples, uneven)), None, r"'uneven' has fields \['body'\]")
    refuse(train_data, replace(eval_data, label_names=("positive", "negative")), "as in toy")
    assert not (tmp_path / "out").exists()


def test_impossible_combinations_are_refused_before_anything_is_written(spec, train_data, tmp_path):
    for update, message in (
        ({"regime": "jiont"}, "did you mean 'joint'"),
        ({"regime": "two-stage", "exit_layers": (3,)}, "at least 2 exits"),
        ({"regime": "final", "exit_layers": (1, 3)}, "at most 1 exit"),
        ({"head": "liner"}, "did you mean 'linear'"),
        ({"pooling": "maen"}, "did you mean 'mean'"),
        ({"exit_layers": (1, 4)}, "exit_layers"),
    ):
        with pytest.raises(ConfigError, match=message):
            run(spec.model_copy(update=update), train_data, None, tmp_path / "out")
    with pytest.raises(ModelError, match="nowhere"):
        run(spec.model_copy(update={"backbone": "nowhere/at-all"}), train_data, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("train_encoder", [True, False])
def test_a_loss_that_is_not_finite_stops_the_run(train_encoder, monkeypatch, spec, train_data, tmp_path):
    def not_a_number(logits, labels):
        return sum_loss(logits, labels) * torch.nan

    monkeypatch.setattr(regimes, "_members", dict(regimes._members))
    stages = (Stage("all", train_encoder, every_head, not_a_number),)
    regimes._members["broken"] = lambda: Regime("broken", "a test", stages)
    with pytest.raises(ModelError, match=r"finite loss, got nan at .*; lower .*learning_rate"):
        run(spec.model_copy(update={"regime": "broken"}), train_data, None, tmp_path / "out")
    assert not (tmp_path / "out" / "training.json").exists()


def test_nothing_is_printed_and_the_network_is_not_asked(spec, train_data, tmp_path, monkeypatch, capfd, recwarn):
    def refuse(*_args, **_settings):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    run(spec, train_data, None, tmp_path / "out")
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == "" and not recwarn.list


def test_progress_goes_to_standard_error(spec, train_data, tmp_path, capfd):
    train(spec, train_data, None, tmp_path / "out")
    captured = capfd.readouterr()
    assert captured.out == "" and "training" in captured.err
