"""k-level structured sparsity: at most k exits, attention heads or feed-forward blocks keep weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn

from robustexit.errors import ConfigError
from robustexit.models import MultiExitForSequenceClassification
from robustexit.models.exit_head import ExitHead
from robustexit.training.losses import sum_loss
from robustexit.training.objectives import Objective, Setting, Step
from robustexit.training.regimes.base import Regime, Stage, check_choice, check_number, every_head, regimes

ATTENTION_OUTPUT = re.compile(r"(attention\.output\.dense|attention\.out_lin|attn\.Wo|attention\.dense)$")
FFN_OUTPUT = re.compile(r"((?<!attention)\.output\.dense|ffn\.lin2|mlp\.Wo|ffn_output)$")
"""Output projections in the supported encoder families (BERT's, DistilBERT, ModernBERT, ALBERT)."""


@dataclass(frozen=True)
class Group:
    """Weights that are kept or set to zero together.

    Attributes:
        name: What the group is, e.g. ``"exit 2"``.
        parts: Its parameters, each with the columns that belong to the group (None for all of it).
        in_heads: They learn at the heads' rate.
    """

    name: str
    parts: tuple[tuple[nn.Parameter, slice | None], ...]
    in_heads: bool

    def views(self) -> list[torch.Tensor]:
        """Return its weights as views that write through."""
        return [part.data if columns is None else part.data[:, columns] for part, columns in self.parts]

    def norm(self) -> torch.Tensor:
        """Return the Euclidean norm of its weights, a float64 scalar on the CPU."""
        norms = [torch.linalg.vector_norm(view).cpu().double() for view in self.views()]
        whole: torch.Tensor = torch.linalg.vector_norm(torch.stack(norms))
        return whole


def exit_groups(model: MultiExitForSequenceClassification) -> list[Group]:
    """Return the heads of exits 1..K-1; exit K has to answer and stands outside."""
    heads = cast("list[ExitHead]", list(model.heads)[:-1])
    return [
        Group(f"exit {exit_}", tuple((weight, None) for weight in head.head.parameters()), True)
        for exit_, head in enumerate(heads, start=1)
    ]


def encoder_groups(model: MultiExitForSequenceClassification, kind: str) -> list[Group]:
    """Return attention heads or feed-forward blocks, each as its part of an output projection.

    Zeros there silence a head or block whatever its other weights are.

    Args:
        model: The model; layers above its last exit have no groups.
        kind: ``"heads"`` or ``"ffn"``.

    Raises:
        ConfigError: An encoder family whose projections are not known.
    """
    wanted = ATTENTION_OUTPUT if kind == "heads" else FFN_OUTPUT
    groups: list[Group] = []
    for name, module in model.encoder.named_modules():
        layer = re.search(r"\blayers?\.(\d+)\.", name)
        above = layer is not None and int(layer[1]) >= model.exit_layers[-1]
        if not wanted.search(name) or not isinstance(module, nn.Linear) or above:
            continue
        if kind == "ffn":
            groups.append(Group(name, tuple((weight, None) for weight in module.parameters()), False))
            continue
        number = int(model.config.encoder.num_attention_heads)
        width = module.in_features // number
        columns = [slice(head * width, (head + 1) * width) for head in range(number)]
        weight = cast("nn.Parameter", module.weight)
        groups += [Group(f"{name} head {head}", ((weight, mine),), False) for head, mine in enumerate(columns, start=1)]
    if not groups:
        raise ConfigError(
            f"regime 'sparse-exits': groups {kind!r}: expected an encoder of a known family, found no output "
            f"projections in a {model.config.encoder.model_type}; use groups 'exits'"
        )
    return groups


def envelope_factors(norms: torch.Tensor, k: int, strength: float) -> torch.Tensor:
    """Return what each group is multiplied with by the proximal operator of the group sparse envelope.

    The envelope is the largest convex function below half the squared norm restricted to at most k groups; half the
    squared k-support norm of the groups' norms. It equals min sum_g n_g^2 / (2 u_g) over 0 <= u <= 1, sum u <= k, and
    its proximal operator multiplies group g with u_g / (strength + u_g), u_g = clip(a n_g - strength, 0, 1), where a
    makes the u sum to k (or every u is 1, if no more than k groups are not zero).

    Args:
        norms: Norm of each group, shape [G], float64.
        k: Groups that can stand without loss.
        strength: Step size times weight of the regulariser, > 0.

    Returns:
        Shape [G].
    """
    if k == 0:
        return torch.zeros_like(norms)
    positive = norms[norms > 0]
    if len(positive) <= k:
        kept = torch.ones_like(norms)
        return kept / (strength + kept)
    corners = torch.cat([strength / positive, (1 + strength) / positive]).sort().values
    sums = (corners[:, None] * positive - strength).clamp(0, 1).sum(1)
    # The sum rises piecewise linearly from 0 to the number of groups: k lies between two corners.
    after = int(torch.searchsorted(sums, torch.tensor(float(k), dtype=sums.dtype, device=sums.device)))
    low, high = sums[after - 1], sums[after]
    a = corners[after - 1] + (k - low) / (high - low) * (corners[after] - corners[after - 1])
    kept = (a * norms - strength).clamp(0, 1)
    return kept / (strength + kept)


class SparseExits(Objective):
    """sum_i CE_i under a group regulariser; in the end at most k groups are not zero.

    In the first steps each optimiser step is followed by the proximal operator of lam * the group sparse envelope,
    which draws weights towards k groups. Then the k largest groups are chosen and the others set to zero, after
    every step to the end.

    Args:
        groups: ``"exits"``, ``"heads"`` or ``"ffn"``.
        k: Groups to keep; None for half of them, rounded up.
        lam: Weight of the regulariser.
        envelope_share: Share of the steps before the choice.
    """

    kept: torch.Tensor

    def __init__(self, groups: str, k: int | None, lam: float, envelope_share: float) -> None:
        super().__init__()
        self.kind = groups
        self.k = k
        self.lam = lam
        self.envelope_share = envelope_share

    def _groups(self, model: MultiExitForSequenceClassification) -> list[Group]:
        return exit_groups(model) if self.kind == "exits" else encoder_groups(model, self.kind)

    def _free(self, groups: Sequence[Group]) -> int:
        """Return how many of the groups may stand; exit K counts among the k and always does."""
        fixed = 1 if self.kind == "exits" else 0
        total = len(groups) + fixed
        k = -(-total // 2) if self.k is None else self.k
        if k > total:
            raise ConfigError(
                f"regime 'sparse-exits': k: expected 1 to {total}, the number of groups ({self.kind}), got {k}"
            )
        return k - fixed

    def check(self, model: MultiExitForSequenceClassification) -> None:
        """Refuse more groups than there are, and exits that share a head."""
        self._free(self._groups(model))
        if self.kind == "exits" and model.heads_shared:
            raise ConfigError(
                "regime 'sparse-exits': groups 'exits' expected a head of its own at every exit, got the shared head "
                f"{model.config.head!r}; choose another head or other groups"
            )

    def start(self, setting: Setting) -> None:
        """Begin without a choice."""
        self.names = [group.name for group in self._groups(setting.model)]
        self.register_buffer("kept", torch.ones(len(self.names), dtype=torch.bool))

    def loss(self, step: Step) -> torch.Tensor:
        """Return sum_i CE_i."""
        return sum_loss(step.logits, step.labels)

    @torch.no_grad()
    def after_step(self, step: Step) -> None:
        """Shrink the groups, or set those that were not chosen to zero."""
        groups = self._groups(step.model)
        if not groups:
            return
        number = step.number + 1
        chosen_at = min(int(self.envelope_share * step.total) + 1, step.total)
        norms = torch.stack([group.norm() for group in groups])
        if number < chosen_at:
            rate = step.head_rate if groups[0].in_heads else step.encoder_rate
            if rate == 0:
                return
            factors = envelope_factors(norms, self._free(groups), rate * self.lam)
        else:
            if number == chosen_at:
                self.kept.zero_()
                self.kept[norms.topk(self._free(groups)).indices.to(self.kept.device)] = True
            factors = self.kept.to(norms)
        for group, factor in zip(groups, factors.tolist(), strict=True):
            for view in group.views():
                view.mul_(factor)

    def facts(self) -> dict[str, Any]:
        """Return the names of the groups that stand and of those set to zero."""
        kept = self.kept.tolist()
        return {
            "groups": self.kind,
            "kept": [name for name, stands in zip(self.names, kept, strict=True) if stands],
            "zero": [name for name, stands in zip(self.names, kept, strict=True) if not stands],
        }


@regimes.register("sparse-exits")
def sparse_exits(groups: str = "exits", k: int | None = None, lam: float = 10.0, envelope_share: float = 0.5) -> Regime:
    """Train all exits on sum_i CE_i with k-level group sparsity.

    The regulariser and its proximal operator are WGSEF (Refael et al. 2022, arXiv 2212.12921) with unit weights.
    The paper reaches k groups in the limit of training; here the k largest are chosen after a share of the steps and
    the others stay at zero, so that at most k stand however short the training. The gradient step is AdamW's, at
    the rate of the step.

    A zero exit has equal logits for all classes, so no confidence or entropy rule stops there: train or save the
    model again with the exit layers that were kept (training.json lists them) to be rid of it. Exit K is always kept
    and counts among the k. Zero heads and blocks add nothing to the residual stream.

    Args:
        groups: ``"exits"``, ``"heads"`` (attention heads) or ``"ffn"`` (feed-forward blocks).
        k: Groups to keep; None for half of them, rounded up.
        lam: Weight of the regulariser.
        envelope_share: Share of the steps before the choice.
    """
    name = "sparse-exits"
    check_choice(name, "groups", groups, ("exits", "heads", "ffn"))
    if k is not None:
        check_number(name, "k", k, 1, whole=True)
    check_number(name, "lam", lam, 0, above=True)
    check_number(name, "envelope_share", envelope_share, 0, 1)
    objective = SparseExits(groups, k, lam, envelope_share)
    return Regime(name, "WGSEF (Refael et al. 2022), over exits", (Stage(name, True, every_head, objective),))
