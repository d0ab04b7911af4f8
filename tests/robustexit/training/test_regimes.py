from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from robustexit.errors import ConfigError
from robustexit.training.regimes import Regime, Stage, build_regime, every_head, final_loss, regimes

LOGITS = torch.tensor([[[2.0, 0.0, -1.0], [0.5, 0.1, 0.2]], [[0.0, 1.0, 3.0], [1.0, -1.0, 0.3]]])
LABELS = torch.tensor([0, 2])


def by_hand() -> list[float]:
    """CE of each exit, written out."""
    found = []
    for exit_ in range(2):
        rows = [
            math.log(sum(math.exp(z) for z in LOGITS[row, exit_].tolist())) - float(LOGITS[row, exit_, LABELS[row]])
            for row in range(2)
        ]
        found.append(sum(rows) / 2)
    return found


@pytest.mark.parametrize(
    ("name", "stage", "weights"),
    [
        ("joint", 0, (1, 1)),
        ("depth-weighted", 0, (1 / 3, 2 / 3)),
        ("two-stage", 0, (0, 1)),
        ("two-stage", 1, (1, 0)),
        ("frozen-heads", 0, (1, 1)),
        ("final", 0, (0, 1)),
    ],
)
def test_losses_are_the_papers_formulas(name, stage, weights):
    expected = sum(weight * loss for weight, loss in zip(weights, by_hand(), strict=True))
    assert build_regime(name).stages[stage].loss(LOGITS, LABELS).item() == pytest.approx(expected, rel=1e-6)


def test_the_stages_say_what_learns():
    two = build_regime("two-stage").stages
    assert [stage.train_encoder for stage in two] == [True, False]
    assert [stage.heads(4) for stage in two] == [(4,), (1, 2, 3)]
    assert [stage.train_encoder for stage in build_regime("frozen-heads").stages] == [False]
    assert build_regime("joint").stages[0].heads(3) == (1, 2, 3)


def test_unknown_regime_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'joint'"):
        build_regime("jiont")


def test_impossible_numbers_of_exits_are_refused():
    with pytest.raises(ConfigError, match="at least 2 exits, got 1"):
        build_regime("two-stage").check_exits(1)
    with pytest.raises(ConfigError, match="at most 1 exit, got 3"):
        build_regime("final").check_exits(3)


def test_a_new_regime_is_one_factory_with_options(monkeypatch):
    monkeypatch.setattr(regimes, "_members", dict(regimes._members))

    @regimes.register("smoothed")
    def smoothed(smoothing: float = 0.1) -> Regime:
        def loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return functional.cross_entropy(logits[:, -1], labels, label_smoothing=smoothing)

        return Regime("smoothed", "a test", (Stage("all", True, every_head, loss),))

    plain = build_regime("smoothed", {"smoothing": 0.0}).stages[0].loss(LOGITS, LABELS)
    assert torch.equal(plain, final_loss(LOGITS, LABELS))
    with pytest.raises(ConfigError, match="did you mean 'smoothing'"):
        build_regime("smoothed", {"smooting": 0.2})
