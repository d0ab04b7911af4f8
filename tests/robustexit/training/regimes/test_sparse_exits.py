from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from transformers import (
    AlbertConfig,
    AlbertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    ModernBertConfig,
    ModernBertModel,
    RobertaConfig,
    RobertaModel,
)

from robustexit.errors import ConfigError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.models.loading import load_model
from robustexit.training import train
from robustexit.training.regimes import build_regime
from robustexit.training.regimes.sparse_exits import encoder_groups, envelope_factors


def envelope(norms: list[float], k: int) -> float:
    """Half the squared k-support norm, by its own formula (Argyriou, Foygel & Srebro 2012, proposition 2.1)."""
    ordered = sorted((abs(norm) for norm in norms), reverse=True)
    for r in range(k):
        rest = sum(ordered[k - r - 1 :]) / (r + 1)
        above = math.inf if k - r - 2 < 0 else ordered[k - r - 2]
        if above > rest - 1e-12 and rest >= ordered[k - r - 1] - 1e-12:
            return 0.5 * (sum(norm**2 for norm in ordered[: k - r - 1]) + (r + 1) * rest**2)
    raise AssertionError("no r fits")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0.05, 4), min_size=2, max_size=6),
    st.integers(1, 5),
    st.floats(0.05, 5),
)
def test_the_proximal_operator_minimises_its_objective(norms, k, strength):
    k = min(k, len(norms))
    factors = envelope_factors(torch.tensor(norms, dtype=torch.float64), k, strength)
    found = [norm * factor for norm, factor in zip(norms, factors.tolist(), strict=True)]

    def value(point) -> float:
        distance = sum((a - b) ** 2 for a, b in zip(point, norms, strict=True))
        return 0.5 * distance + strength * envelope(list(point), k)

    best = minimize(value, found, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000})
    assert value(found) <= best.fun + 1e-6 * (1 + best.fun)


def test_known_values_of_the_proximal_operator():
    norms = torch.tensor([4.0, 3.0, 0.0, 0.1], dtype=torch.float64)
    # With no more groups than allowed it is that of half the squared norm.
    assert torch.allclose(envelope_factors(norms, 4, 0.25), torch.full((4,), 0.8, dtype=torch.float64))
    # Strong enough, it is a hard choice.
    assert envelope_factors(norms, 2, 2.0)[3] == 0 and envelope_factors(norms, 2, 2.0)[0].item() == pytest.approx(1 / 3)
    assert envelope_factors(norms, 0, 1.0).tolist() == [0] * 4
    # One group allowed of two equal ones: u = 1/2 each.
    equal = torch.tensor([2.0, 2.0], dtype=torch.float64)
    assert envelope_factors(equal, 1, 0.5).tolist() == pytest.approx([0.5, 0.5])


def trained(spec, data, output, **options):
    mine = spec.model_copy(update={"regime": "sparse-exits", "regime_options": options})
    result = train(mine, data, data, output, progress=False)
    learned = json.loads((output / "training.json").read_text())["learned"]["sparse-exits"]
    return load_model(output).model, learned, result


@pytest.mark.parametrize("k", [1, 2, 3])
def test_at_most_k_exits_stand_and_zero_exits_never_stop_a_text(k, spec, train_data, tmp_path):
    model, learned, result = trained(spec, train_data, tmp_path / "out", groups="exits", k=k)
    zero = [
        exit_
        for exit_, head in enumerate(model.heads, start=1)
        if not any(weight.any() for weight in head.head.parameters())
    ]
    assert len(zero) == 3 - k and 3 not in zero
    assert learned["zero"] == [f"exit {exit_}" for exit_ in zero] and len(learned["kept"]) == k - 1
    logits = model(input_ids=torch.tensor([[2, 5, 9, 3]])).logits
    for exit_ in zero:
        probabilities = logits[0, exit_ - 1].softmax(-1)
        assert -(probabilities * probabilities.log()).sum().item() == pytest.approx(math.log(2))
        # The first class of a tie, which half of the texts have.
        assert result.exits[exit_ - 1].correct == 24
    assert logits[0, 2].any()


@pytest.mark.parametrize(("groups", "total"), [("heads", 6), ("ffn", 3)])
def test_heads_and_blocks_are_groups_too(groups, total, spec, train_data, tmp_path):
    for k in (1, None):
        options = {"groups": groups} if k is None else {"groups": groups, "k": k}
        model, learned, _ = trained(spec, train_data, tmp_path / f"{groups}-{k}", **options)
        found = encoder_groups(model, groups)
        standing = [group.name for group in found if float(group.norm()) > 0]
        assert len(found) == total and standing == learned["kept"]
        assert len(standing) == (math.ceil(total / 2) if k is None else k)
        assert len(learned["zero"]) == total - len(standing)


def test_the_envelope_comes_first_and_the_choice_stays(model, make_step):
    objective = build_regime("sparse-exits", {"k": 2, "lam": 5.0, "envelope_share": 0.5}).stages[0].loss
    from robustexit.training.objectives import Setting

    objective.start(Setting(model, None, 0, None))
    for weight in model.heads[1].head.parameters():
        weight.data.mul_(2)
    norms = []
    for number in range(4):
        objective.after_step(make_step(model, number=number, total=4, head_rate=0.1))
        norms.append([float(head.head[1].weight.detach().norm()) for head in model.heads])
        for weight in model.heads[0].head.parameters():
            weight.data.add_(10.0)
    last = float(model.heads[2].head[1].weight.detach().norm())
    # Both shrink in the first two steps, exit K never; the third step chooses exit 1 (now the larger) for good.
    assert all(norm[2] == last for norm in norms)
    assert norms[0][0] > 0 and norms[0][1] > 0
    assert norms[2][1] == 0 and norms[3][1] == 0 and norms[2][0] > 0


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (RobertaConfig, RobertaModel),
        (ElectraConfig, ElectraModel),
        (AlbertConfig, AlbertModel),
        (DebertaV2Config, DebertaV2Model),
        (DistilBertConfig, DistilBertModel),
        (ModernBertConfig, ModernBertModel),
    ],
)
def test_zero_groups_silence_heads_and_blocks_in_every_family(config, kind, tmp_path):
    sizes = {"vocab_size": 30, "pad_token_id": 0, "max_position_embeddings": 20}
    if config is DistilBertConfig:
        sizes |= {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 32}
    else:
        sizes |= {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    if config in (ElectraConfig, AlbertConfig):
        sizes["embedding_size"] = 16
    kind(config(**sizes)).save_pretrained(tmp_path)
    model = MultiExitForSequenceClassification.from_backbone(tmp_path, label_names=("a", "b"), exit_layers=(1, 2))
    layers = 1 if config is AlbertConfig else 2
    # Layers above the last exit are no part of the model's answers.
    assert len(encoder_groups(model, "heads")) == 2 * layers and len(encoder_groups(model, "ffn")) == layers
    for groups in ("heads", "ffn"):
        for group in encoder_groups(model, groups):
            for view in group.views():
                view.zero_()
    mixed, alone = torch.tensor([[5, 6, 7, 8]]), torch.tensor([[5, 9, 10, 11]])
    states = [model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, 0] for ids in (mixed, alone)]
    # With no attention a token cannot see the others.
    assert torch.allclose(*states, atol=1e-6)


def test_what_cannot_be_grouped_is_refused(backbone):
    def check(options, **settings):
        model = MultiExitForSequenceClassification.from_backbone(backbone, label_names=("a", "b"), **settings)
        build_regime("sparse-exits", options).check_model(model)

    with pytest.raises(ConfigError, match=r"k: expected 1 to 3, the number of groups \(exits\), got 4"):
        check({"k": 4})
    with pytest.raises(ConfigError, match="1 to 6"):
        check({"k": 7, "groups": "heads"})
    with pytest.raises(ConfigError, match="shared head"):
        check({}, head="shared")
    check({"groups": "heads"}, head="shared")
