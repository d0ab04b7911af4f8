from __future__ import annotations

import re

import pytest
import torch
from transformers import AlbertConfig, AlbertModel

from robustexit.errors import ConfigError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.training.regimes import build_regime, exit_cross_entropies


def spans(model) -> dict[str, int]:
    """The exit (1-based) that each parameter belongs to."""
    found = {}
    for name, _ in model.named_parameters():
        layer, head = re.search(r"layer\.(\d+)\.", name), re.match(r"heads\.(\d+)\.", name)
        found[name] = 1 + int((layer or head)[1]) if layer or head else 1
    return found


@pytest.mark.parametrize("exit_", [1, 2, 3])
def test_an_exit_reaches_its_own_span_alone(exit_, model, make_step):
    model.cut_gradients = True
    step = make_step(model)
    exit_cross_entropies(step.logits, step.labels)[exit_ - 1].backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    own = {name for name, owner in spans(model).items() if owner == exit_}
    assert reached <= own
    # Unused: the attention key's bias cancels in the softmax, and positions beyond the text.
    assert {name for name in own - reached if not name.endswith("key.bias")} == set()


def test_the_forward_is_the_same_and_the_whole_gradient_is_each_exits_own(model, make_step):
    plain = make_step(model)
    model.cut_gradients = True
    cut = make_step(model)
    assert torch.equal(plain.logits, cut.logits)
    build_regime("separated").stages[0].loss.gradients(cut)
    whole = {name: weight.grad.clone() for name, weight in model.named_parameters()}
    for name, exit_ in spans(model).items():
        model.zero_grad()
        step = make_step(model)
        exit_cross_entropies(step.logits, step.labels)[exit_ - 1].backward()
        assert torch.allclose(dict(model.named_parameters())[name].grad, whole[name], atol=1e-6), name


def test_the_trainer_cuts_and_leaves_the_model_as_it_was(spec, train_data, tmp_path, monkeypatch):
    from robustexit.training import train
    from robustexit.training.regimes.separated import Separated

    seen = []
    loss = Separated.loss
    monkeypatch.setattr(Separated, "loss", lambda self, step: (seen.append(step.model), loss(self, step))[1])
    monkeypatch.setattr(Separated, "after_step", lambda self, step: seen.append(step.model.cut_gradients))
    cuts = []
    monkeypatch.setattr(Separated, "set_modes", lambda self, model: (model.train(), cuts.append(model.cut_gradients)))
    one = spec.model_copy(update={"regime": "separated", "epochs": 1})
    train(one, train_data, None, tmp_path / "out", progress=False)
    assert set(cuts) == {False} and set(seen[1::2]) == {False} and not seen[0].cut_gradients


def test_shared_layers_and_shared_heads_are_refused(backbone, tmp_path):
    regime = build_regime("separated")
    shared = MultiExitForSequenceClassification.from_backbone(backbone, label_names=("a", "b"), head="shared")
    with pytest.raises(ConfigError, match="shared head 'shared'"):
        regime.check_model(shared)
    config = AlbertConfig(
        vocab_size=20,
        embedding_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
    )
    AlbertModel(config).save_pretrained(tmp_path)
    albert = MultiExitForSequenceClassification.from_backbone(tmp_path, label_names=("a", "b"))
    with pytest.raises(ConfigError, match="ALBERT, whose layers share"):
        regime.check_model(albert)
