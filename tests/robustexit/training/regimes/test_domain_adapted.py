from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from robustexit.errors import ConfigError, DataError, RunError
from robustexit.training import finetuning, folder, read_result, train
from robustexit.training.objectives import Setting
from robustexit.training.regimes import build_regime


def started(model, **options):
    objective = build_regime("domain-adapted", {"clip_value": 1.0, **options}).stages[1].loss
    objective.start(Setting(model, None, 0, None))
    return objective


def test_discriminators_learn_source_from_target(model):
    objective = started(model, discriminator_learning_rate=0.01)
    source, target = torch.randn(16, 3, 16) + 1, torch.randn(16, 3, 16) - 1
    before = objective.judged(source, 1.0) + objective.judged(target, 0.0)
    for _ in range(20):
        objective.train_discriminators(source, target)
    after = objective.judged(source, 1.0) + objective.judged(target, 0.0)
    assert (after < 0.5 * before).all()
    # Source states are said to be source, and target states are not.
    assert (objective.judged(source, 1.0) < objective.judged(source, 0.0)).all()
    assert (objective.judged(target, 0.0) < objective.judged(target, 1.0)).all()


def test_weights_are_clipped(model):
    objective = started(model, clip_value=0.01, discriminator_learning_rate=0.1)
    objective.train_discriminators(torch.randn(4, 3, 16), torch.randn(4, 3, 16))
    sizes = [float(weight.detach().abs().max()) for weight in objective.discriminators.parameters()]
    assert max(sizes) == pytest.approx(0.01)


def test_the_encoder_learns_to_make_target_states_pass_for_source_ones(model, make_step, make_batch):
    objective = started(model, beta=0.0, discriminator_learning_rate=0.02)
    source, target = make_batch(rows=8, seed=1), make_batch(rows=8, seed=2)
    for _ in range(30):
        step = make_step(model, source, second=target)
        objective.train_discriminators(step.pooled.detach(), step.run(target.inputs)[1].detach())
    fixed = [weight.detach().clone() for weight in objective.discriminators.parameters()]
    objective.optimizers["discriminators"].param_groups[0]["lr"] = 0.0
    before = objective.judged(make_step(model, target).pooled, 1.0).detach()
    optimizer = torch.optim.SGD(model.encoder.parameters(), lr=0.05)
    for _ in range(5):
        optimizer.zero_grad()
        objective.gradients(make_step(model, source, second=target))
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(fixed, objective.discriminators.parameters(), strict=True))
    assert (objective.judged(make_step(model, target).pooled, 1.0) < before).all()


def test_the_loss_is_weighted_by_depth(model, make_step, make_batch):
    objective = started(model, alpha=0.7, beta=0.3, temperature=2.0)
    with torch.no_grad():
        for weight in model.encoder.parameters():
            weight.add_(0.02)
    step = make_step(model, second=make_batch(seed=4))
    value = objective.loss(step).item()
    _, target = step.run(step.second.inputs)
    taught, _ = step.run(step.batch.inputs, objective.before[0])
    assert not torch.allclose(taught, step.logits, atol=1e-3)
    expected = 0.0
    for exit_ in range(3):
        odds = objective.discriminators[exit_](target[:, exit_]).squeeze(1)
        adversarial = functional.binary_cross_entropy(odds.sigmoid(), torch.ones(len(odds))).item()
        kept = (
            4
            * functional.kl_div(
                (step.logits[:, exit_] / 2).log_softmax(-1), (taught[:, exit_] / 2).softmax(-1), reduction="batchmean"
            ).item()
        )
        expected += (exit_ + 1) / 6 * (0.7 * adversarial + 0.3 * kept)
    assert value == pytest.approx(expected, rel=1e-4)


@pytest.fixture
def adapted(spec):
    options = {"discriminator_learning_rate": 0.01, "clip_value": 0.5}
    return spec.model_copy(update={"regime": "domain-adapted", "regime_options": options})


def test_heads_stay_bit_for_bit_and_target_labels_are_never_read(
    adapted, train_data, eval_data, make_data, tmp_path, monkeypatch
):
    kept = {}
    finish_stage = folder.RunFolder.finish_stage

    def keep(self, number, model, history, learned):
        finish_stage(self, number, model, history, learned)
        kept.update(load_file(self.stage(number) / "weights.safetensors"))

    monkeypatch.setattr(folder.RunFolder, "finish_stage", keep)
    target = make_data(20, "target")
    found = {}
    for name, label in (("true", None), ("turned", 1), ("none", -1)):
        examples = tuple(
            replace(example, label=example.label if label is None else label if label < 0 else 1 - example.label)
            for example in target.examples
        )
        result = train(
            adapted, train_data, eval_data, tmp_path / name, target_data=target.with_examples(examples), progress=False
        )
        found[name] = (load_file(tmp_path / name / "model.safetensors"), result)
    weights = found["true"][0]
    for other in ("turned", "none"):
        assert all(torch.equal(weights[part], found[other][0][part]) for part in weights)
    assert all(torch.equal(weights[part], kept[part]) for part in weights if part.startswith("heads."))
    assert any(not torch.equal(weights[part], kept[part]) for part in weights if part.startswith("encoder."))
    true, turned, none = (found[name][1] for name in ("true", "turned", "none"))
    assert [exit_.correct for exit_ in turned.target_exits] == [20 - exit_.correct for exit_ in true.target_exits]
    assert len(true.target_exits) == 3 and none.target_exits == ()
    assert read_result(tmp_path / "true").target_exits == true.target_exits
    assert [epoch.trained_exits for epoch in true.history] == [(1, 2, 3)] * 2 + [()] * 2


def test_the_target_belongs_to_the_runs_identity_and_record(adapted, train_data, make_data, tmp_path):
    target = make_data(20, "target")
    train(adapted, train_data, None, tmp_path / "out", target_data=target, progress=False)
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["target_hash"] == target.content_hash() and record["data"]["target"]["size"] == 20
    with pytest.raises(RunError, match=r"target data \(SHA-256\)"):
        train(adapted, train_data, None, tmp_path / "out", target_data=make_data(22, "target"), progress=False)


def test_missing_useless_and_unfit_targets_are_refused(adapted, spec, train_data, make_data, tmp_path):
    def refuse(error, message, target, settings=adapted):
        with pytest.raises(error, match=message):
            train(settings, train_data, None, tmp_path / "out", target_data=target, progress=False)

    target = make_data(6, "target")
    refuse(ConfigError, "expected a target dataset", None)
    refuse(ConfigError, "'joint' expected no target dataset, got 'target'", target, spec)
    refuse(DataError, "expected examples, got none", target.with_examples(()))
    refuse(DataError, "expected fields", make_data(6, "target", pair=True))
    hidden = replace(target.examples[0], label=-1)
    refuse(DataError, "has label -1", target.with_examples((hidden, *target.examples[1:])))
    refuse(DataError, "expected fields .* labels", replace(target, label_names=("no", "yes")))
    assert not (tmp_path / "out").exists()


def test_unlabelled_targets_need_no_label_names(adapted, train_data, make_data, tmp_path):
    target = make_data(6, "target")
    bare = tuple(replace(example, label=-1) for example in target.examples)
    one = adapted.model_copy(update={"epochs": 1})
    result = train(
        one,
        train_data,
        None,
        tmp_path / "out",
        target_data=replace(target, examples=bare, label_names=()),
        progress=False,
    )
    assert result.target_exits == ()


def test_the_encoder_adapts_at_a_rate_of_its_own(adapted, train_data, make_data, tmp_path, monkeypatch):
    rates, build = [], finetuning.optimizer_for

    def keep(model, objective, spec):
        made = build(model, objective, spec)
        rates.append({group["lr"] for group in made.param_groups})
        return made

    monkeypatch.setattr(finetuning, "optimizer_for", keep)
    target = make_data(8, "target")
    train(adapted, train_data, None, tmp_path / "a", target_data=target, progress=False)
    options = {**adapted.regime_options, "adaptation_learning_rate": 2e-4}
    other = adapted.model_copy(update={"regime_options": options})
    train(other, train_data, None, tmp_path / "b", target_data=target, progress=False)
    assert rates == [{3e-3, 1e-2}, {1e-5}, {3e-3, 1e-2}, {2e-4}]
    with pytest.raises(ConfigError, match="adaptation_learning_rate: expected a number above 0"):
        build_regime("domain-adapted", {"adaptation_learning_rate": 0})
