"""Past-Future: the forward and the loss against the authors' formulas written out, original tensors, the fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from robustexit.errors import ConfigError, ModelError
from robustexit.modules import FitData, ModuleShape, make_module, read_stored
from robustexit.modules.base import make_settings
from robustexit.modules.past_future import PastFuture, PastFutureSettings

SHAPE = ModuleShape(3, 2, 4)


def original(shape: ModuleShape, prefix: str = "bert.", seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors as in the authors' BERT checkpoints, with the pooler that they carry along unused."""
    torch.manual_seed(seed)
    exits, classes, width = shape.num_exits, shape.num_classes, shape.width
    tensors = {
        f"{prefix}pred_layer.weight": torch.randn(exits, width, width),
        f"{prefix}pred_layer.bias": torch.randn(exits, width),
        f"{prefix}pooler.dense.weight": torch.randn(width, width),
        f"{prefix}pooler.dense.bias": torch.randn(width),
        "classifiers.weight": torch.randn(exits, width, 2 * classes),
        "classifiers.bias": torch.randn(exits, 2 * classes),
        "classifiers.gate_proj.weight": torch.randn(classes, classes),
        "classifiers.gate_proj.bias": torch.randn(classes),
    }
    for index in range(exits):
        tensors[f"{prefix}poolers.{index}.dense.weight"] = torch.randn(width, width)
        tensors[f"{prefix}poolers.{index}.dense.bias"] = torch.randn(width)
    return tensors


def by_the_paper(tensors: dict[str, torch.Tensor], states: list[torch.Tensor], exit: int) -> torch.Tensor:
    """z_i of one text, in double precision: loops over exits and classes."""
    tensors = {name.removeprefix("bert."): value.double() for name, value in tensors.items()}
    weight, bias = tensors["classifiers.weight"], tensors["classifiers.bias"]
    classes = weight.shape[2] // 2
    poolers = [(tensors[f"poolers.{k}.dense.weight"], tensors[f"poolers.{k}.dense.bias"]) for k in range(len(states))]
    h = [torch.tanh(matrix @ state.double() + shift) for (matrix, shift), state in zip(poolers, states, strict=True)]
    past, gate, future = torch.zeros(classes), torch.zeros(classes), torch.zeros(classes)
    for k in range(len(states)):
        if k < exit:
            past = past + h[k] @ weight[k, :, :classes] + bias[k, :classes]
            gate = gate + (h[k] @ weight[k, :, classes:] + bias[k, classes:]) / exit
        else:
            imagined = torch.tanh(h[exit - 1] @ tensors["pred_layer.weight"][k] + tensors["pred_layer.bias"][k])
            future = future + imagined @ weight[k, :, :classes] + bias[k, :classes]
    inner = tensors["classifiers.gate_proj.weight"] @ torch.tanh(gate) + tensors["classifiers.gate_proj.bias"]
    share = torch.sigmoid(inner)
    return 2 * share * past + 2 * (1 - share) * future


def logits_of(module: PastFuture, pooled: torch.Tensor) -> np.ndarray:
    own = np.zeros((len(pooled), module.shape.num_exits, module.shape.num_classes), dtype=np.float32)
    return read_stored(module, pooled.numpy(), own).logits


@pytest.mark.parametrize("prefix", ["bert.", "roberta.", ""])
def test_original_tensors_give_the_papers_logits(prefix) -> None:
    shape = ModuleShape(4, 3, 5)
    tensors = original(shape, prefix)
    module = PastFuture.from_original(tensors, shape)
    pooled = torch.randn(6, 4, 5)
    named = {name.removeprefix(prefix): value for name, value in tensors.items()}
    found = logits_of(module, pooled)
    for row in range(6):
        for exit in range(1, 5):
            expected = by_the_paper(named, list(pooled[row]), exit)
            np.testing.assert_allclose(found[row, exit - 1], expected.numpy(), rtol=2e-4, atol=2e-4)


def test_albert_shares_one_pooler() -> None:
    tensors = {n: v for n, v in original(SHAPE, "albert.").items() if "pooler" not in n}
    tensors["albert.pooler.weight"], tensors["albert.pooler.bias"] = torch.randn(4, 4), torch.randn(4)
    spread = {name.removeprefix("albert."): value for name, value in tensors.items()}
    for index in range(3):
        spread[f"poolers.{index}.dense.weight"] = tensors["albert.pooler.weight"]
        spread[f"poolers.{index}.dense.bias"] = tensors["albert.pooler.bias"]
    pooled = torch.randn(2, 3, 4)
    np.testing.assert_array_equal(
        logits_of(PastFuture.from_original(tensors, SHAPE), pooled),
        logits_of(PastFuture.from_original(spread, SHAPE), pooled),
    )


def test_without_poolers_the_states_are_the_poolers_output() -> None:
    tensors = original(SHAPE)
    without = {name: value for name, value in tensors.items() if "pooler" not in name}
    pooled = torch.randn(2, 3, 4)
    by_hand = torch.stack(
        [
            torch.tanh(
                functional.linear(
                    pooled[:, k], tensors[f"bert.poolers.{k}.dense.weight"], tensors[f"bert.poolers.{k}.dense.bias"]
                )
            )
            for k in range(3)
        ],
        dim=1,
    )
    plain = PastFuture.from_original(without, SHAPE)
    assert not plain.settings.pooler
    np.testing.assert_allclose(
        logits_of(plain, by_hand), logits_of(PastFuture.from_original(tensors, SHAPE), pooled), rtol=1e-4, atol=1e-5
    )


def test_damaged_checkpoints_are_refused() -> None:
    tensors = original(SHAPE)
    with pytest.raises(ModelError, match=r"lacks poolers\.2\.dense\.weight, poolers\.2\.dense\.bias"):
        PastFuture.from_original({n: v for n, v in tensors.items() if "poolers.2" not in n}, SHAPE)
    with pytest.raises(ModelError, match=r"classifiers\.gate_proj\.bias"):
        PastFuture.from_original({n: v for n, v in tensors.items() if n != "classifiers.gate_proj.bias"}, SHAPE)
    with pytest.raises(ModelError, match="does not fit"):
        PastFuture.from_original(tensors, ModuleShape(2, 2, 4))


def test_the_loss_is_the_papers() -> None:
    tensors = original(SHAPE)
    module = PastFuture(SHAPE, PastFutureSettings(dropout=0))
    module.load_state_dict(PastFuture.from_original(tensors, SHAPE).state_dict())
    pooled, labels = torch.randn(5, 3, 4), torch.tensor([0, 1, 1, 0, 1])
    with torch.no_grad():
        classification, imitation = module._losses(pooled, labels)
    z = torch.stack([torch.stack([by_the_paper(tensors, list(row), exit) for row in pooled]) for exit in (1, 2, 3)])
    entropies = [functional.cross_entropy(z[i], labels).item() for i in range(3)]
    expected = (1 * entropies[0] + 2 * entropies[1] + 3 * entropies[2]) / 6
    assert float(classification) == pytest.approx(expected, rel=1e-4)
    h = [module._pool(k, pooled[:, k]) for k in range(3)]
    pairs = torch.nn.CosineEmbeddingLoss()
    first = pairs(torch.cat([h[1], h[2]]), torch.cat(list(module._imagine(0, h[0]))), torch.ones(10))
    second = pairs(h[2], module._imagine(1, h[1])[0], torch.ones(5))
    assert float(imitation) == pytest.approx(float((first + second).detach() / 2), rel=1e-4)


def test_gradients_stop_at_earlier_and_imitated_states() -> None:
    """Only exit 1's own loss reaches the pooler of exit 1, and imitation moves the imagining exit alone."""
    module = PastFuture(SHAPE, PastFutureSettings(dropout=0, initializer_range=1))
    pooled, labels = torch.randn(5, 3, 4), torch.tensor([0, 1, 1, 0, 1])
    classification, imitation = module._losses(pooled, labels)
    first = functional.cross_entropy(module.read(module.start(5), 1, pooled[:, 0], torch.zeros(5, 2)).logits, labels)
    pooler = module.poolers[0].weight
    (expected,) = torch.autograd.grad(first / 6, pooler)
    (found,) = torch.autograd.grad(classification, pooler, retain_graph=True)
    assert expected.any()
    torch.testing.assert_close(found, expected)
    imitation.backward()
    assert module.poolers[0].weight.grad.any()
    assert module.poolers[2].weight.grad is None


def test_one_exit_has_neither_future_nor_imitation() -> None:
    shape = ModuleShape(1, 2, 4)
    tensors = original(shape)
    pooled = torch.randn(3, 1, 4)
    found = logits_of(PastFuture.from_original(tensors, shape), pooled)
    expected = torch.stack([by_the_paper(tensors, list(row), 1) for row in pooled])
    np.testing.assert_allclose(found[:, 0], expected.numpy(), rtol=1e-4, atol=1e-5)
    rng = np.random.default_rng(0)
    data = FitData(
        rng.normal(size=(64, 1, 4)).astype(np.float32),
        np.zeros((64, 1, 2), dtype=np.float32),
        rng.integers(0, 2, 64),
        np.ones(1),
    )
    assert PastFuture.fitted(data)[1]["last_imitation"] == 0


def parts(n: int, exits: int = 4, width: int = 8, seed: int = 0) -> FitData:
    """Every exit sees one feature of its own; the label is the sign of all features' sum."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, exits))
    labels = (features.sum(axis=1) > 0).astype(np.int64)
    pooled = 0.1 * rng.normal(size=(n, exits, width))
    pooled[:, np.arange(exits), 0] = features
    logits = np.stack([-features, features], axis=-1)
    return FitData(pooled.astype(np.float32), logits.astype(np.float32), labels, np.arange(1, exits + 1) / exits)


def accuracy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (logits.argmax(-1) == labels[:, None]).mean(axis=0)


def test_past_states_help() -> None:
    train, test = parts(1500), parts(1500, seed=1)
    module, report = PastFuture.fitted(train, PastFutureSettings(learning_rate=1e-2, batch_size=32))
    combined = accuracy(logits_of(module, torch.from_numpy(test.pooled)), test.labels)
    single = accuracy(test.logits, test.labels)
    assert combined[3] > single.max() + 0.15
    assert (np.diff(combined) > 0.02).all()
    assert set(report) == {"loss", "last_classification", "last_imitation"}


def test_deeper_states_that_follow_from_this_one_are_imagined() -> None:
    """Deeper states are a fixed turn of the first: after the fit exit 1 imagines them."""
    rng = np.random.default_rng(0)
    turns = [np.linalg.qr(rng.normal(size=(8, 8)))[0] for _ in range(3)]
    first = rng.choice([-0.9, 0.9], size=(1500, 8))
    pooled = np.stack([first @ turn for turn in turns], axis=1).astype(np.float32)
    labels = (first[:, 0] > 0).astype(np.int64)
    data = FitData(pooled, np.zeros((1500, 3, 2), dtype=np.float32), labels, np.arange(1, 4) / 3)
    module, _ = PastFuture.fitted(data, PastFutureSettings(learning_rate=1e-2, epochs=10, batch_size=32))
    with torch.no_grad():
        h = [module._pool(k, torch.from_numpy(pooled[:, k])) for k in range(3)]
        imagined = module._imagine(0, h[0])
        fresh = PastFuture(module.shape, module.settings)._imagine(0, h[0])
        for k in (1, 2):
            assert functional.cosine_similarity(imagined[k - 1], h[k]).mean() > 0.9
            assert functional.cosine_similarity(fresh[k - 1], h[k]).mean() < 0.5


def test_macs_count_pooler_imagination_and_classifiers() -> None:
    module = make_module("past-future", ModuleShape(3, 4, 12))
    head = 12 * 8
    assert module.macs().tolist() == [
        144 + head + 2 * (144 + head) + 16,
        144 + head + 1 * (144 + head) + 16,
        144 + head + 16,
    ]


def test_settings_are_checked() -> None:
    with pytest.raises(ConfigError, match="dropout"):
        make_settings("past-future", dropout=1.5)
