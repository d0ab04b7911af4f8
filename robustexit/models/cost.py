"""What a model computes on a text: multiply-accumulates (MACs) up to each exit.

Counted by PyTorch's own `FlopCounterMode` (two FLOPs are one MAC) over matrix products and convolutions, with
eager attention so that attention's own products count. Element-wise work, norms, softmax and embedding
look-ups are not counted, as is usual (Schwartz et al., 2020). Masked attention counts in full, also
ModernBERT's sliding windows, since that is what the dense kernels compute.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from robustexit.models.exit_head import ExitHead
from robustexit.models.multi_exit import MultiExitForSequenceClassification

MacArray = NDArray[np.int64]

_FIT_POINTS = (4, 8, 16)
# Beyond Longformer's windows (512) and BigBird's switch to sparse attention (704), so that neither passes.
_CHECK_POINTS = (61, 720)


def _macs(compute: Callable[[], Any]) -> int:
    """Return the MACs of one call."""
    with FlopCounterMode(display=False) as counter:
        compute()
    return int(counter.get_total_flops()) // 2


def _shapes_only(model: PreTrainedModel) -> PreTrainedModel:
    """Return the same architecture with eager attention and shapes in place of numbers (meta device)."""
    config = copy.deepcopy(model.config)
    config._attn_implementation = "eager"
    if isinstance(model, MultiExitForSequenceClassification):
        config.encoder._attn_implementation = "eager"
    with torch.device("meta"):
        twin: PreTrainedModel = type(model)(config)
    twin.train(False)
    return twin


def _measure_multi_exit(model: MultiExitForSequenceClassification, input_ids: torch.Tensor) -> MacArray:
    """Return encoder MACs added at each exit and head MACs of each exit, shape [2, exits]."""
    passes = []
    embeddings = _macs(lambda: passes.append(model.layerwise(input_ids)))
    steps, heads = [], []
    for _ in range(model.num_exits):
        reached: list[ExitHead] = []
        steps.append(_macs(lambda: reached.append(passes[0].step_to_exit()[0])))  # noqa: B023 (called at once)
        heads.append(_macs(lambda: passes[0].read(reached[0])))  # noqa: B023 (called at once)
    steps[0] += embeddings
    return np.array([np.cumsum(steps), heads], dtype=np.int64)


def _measure_plain(model: PreTrainedModel, input_ids: torch.Tensor) -> MacArray:
    """Return encoder MACs and head MACs of a plain classifier, shape [2, 1]."""
    mask = torch.ones_like(input_ids)
    whole = _macs(lambda: model(input_ids=input_ids, attention_mask=mask))
    encoder = model.base_model
    # A model that names no base of its own counts as all encoder.
    below = whole if encoder is model else _macs(lambda: encoder(input_ids=input_ids, attention_mask=mask))
    return np.array([[below], [whole - below]], dtype=np.int64)


def _fit_quadratic(points: tuple[int, ...], values: list[MacArray]) -> Callable[[int], MacArray]:
    """Return the exact polynomial of degree 2 through three measurements (Newton's form, in fractions)."""
    t0, t1, t2 = points
    v0, v1, v2 = (value.astype(object) for value in values)
    slope01 = (v1 - v0) * Fraction(1, t1 - t0)
    slope12 = (v2 - v1) * Fraction(1, t2 - t1)
    bend = (slope12 - slope01) * Fraction(1, t2 - t0)

    def evaluate(tokens: int) -> MacArray:
        exact = v0 + slope01 * (tokens - t0) + bend * ((tokens - t0) * (tokens - t1))
        return np.asarray(exact, dtype=np.int64)

    return evaluate


class MacCounter:
    """Multiply-accumulates of a model on one text, by number of tokens.

    For the supported encoders they are a polynomial of degree 2 in the tokens, so a few measurements give
    every length exactly; two more measurements check that, and a model that fails the check is measured at
    every length asked for. The model itself is run (on a few made-up texts) only where its code cannot
    run without numbers, and is left as it was; precision plays no part.

    Args:
        model: A multi-exit model or a plain sequence classifier (one exit).
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self._subject = model
        self._positions = _position_limit(model)
        self._heads_read_earlier = getattr(model, "heads_read_earlier", False) is True
        self._known: dict[int, MacArray] = {}
        self._polynomial: Callable[[int], MacArray] | None = None
        self._prepare()

    def encoder(self, tokens: int) -> MacArray:
        """Return MACs of embeddings and layers up to each exit, for one text, cumulative, shape [exits].

        Args:
            tokens: Tokens of the text, special tokens included, padding excluded.
        """
        return self._at(tokens)[0]

    def heads(self, tokens: int) -> MacArray:
        """Return MACs of each exit's own head (pooling included where it is a product), shape [exits].

        Args:
            tokens: Tokens of the text, special tokens included, padding excluded.
        """
        return self._at(tokens)[1]

    def leaving(self, tokens: int, read: NDArray[np.bool_]) -> MacArray:
        """Return MACs of leaving at each exit, for one text and a policy that reads some of the heads, shape [exits].

        A head that is not read is free, unless a later one that is read needs what it says.

        Args:
            tokens: Tokens of the text, special tokens included, padding excluded.
            read: Whether the policy reads each exit's head, shape [exits].
        """
        encoder, heads = self._at(tokens)
        if not self._heads_read_earlier:
            return np.asarray(encoder + np.cumsum(heads * read), dtype=np.int64)
        # The last head read by each exit, and with it all heads before.
        last = np.maximum.accumulate(np.where(read, np.arange(1, len(heads) + 1), 0))
        return np.asarray(encoder + np.concatenate([[0], np.cumsum(heads)])[last], dtype=np.int64)

    def full_depth(self, tokens: int) -> int:
        """Return MACs of the full-depth control on one text: every layer, the last head and what that one reads.

        Args:
            tokens: Tokens of the text, special tokens included, padding excluded.
        """
        read = np.zeros(len(self._at(tokens)[1]), dtype=np.bool_)
        read[-1] = True
        return int(self.leaving(tokens, read)[-1])

    def _prepare(self) -> None:
        points = tuple(sorted({min(point, self._positions) for point in (*_FIT_POINTS, *_CHECK_POINTS)}))
        real = self._subject
        try:
            self._subject = _shapes_only(real)
            values = [self._measure(point) for point in points]
        except Exception:  # code that needs numbers, or (ModernBERT) autocast, which knows no meta device
            self._subject = real
            values = [self._measure(point) for point in points]
        self._known = dict(zip(points, values, strict=True))
        if len(points) > 3:
            polynomial = _fit_quadratic(points[:3], values[:3])
            if all(np.array_equal(polynomial(points[i]), values[i]) for i in range(3, len(points))):
                self._polynomial = polynomial

    def _at(self, tokens: int) -> tuple[MacArray, MacArray]:
        if tokens not in self._known:
            exact = self._polynomial
            self._known[tokens] = self._measure(tokens) if exact is None else exact(tokens)
        encoder, heads = self._known[tokens].copy()
        return encoder, heads

    def _measure(self, tokens: int) -> MacArray:
        model = self._subject
        # Any token but padding, whose positions some encoders treat apart.
        token = 1 if model.config.pad_token_id != 1 else 2
        was_training = model.training
        model.train(False)
        try:
            # Modelling code makes constants on the default device; they must meet the model's tensors.
            with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), model.device:
                input_ids = torch.full((1, tokens), token, dtype=torch.int64)
                if isinstance(model, MultiExitForSequenceClassification):
                    return _measure_multi_exit(model, input_ids)
                return _measure_plain(model, input_ids)
        finally:
            model.train(was_training)


def _position_limit(model: PreTrainedModel) -> int:
    """Return a length that the model surely has positions for."""
    if isinstance(model, MultiExitForSequenceClassification):
        return int(model.config.max_length)
    # RoBERTa's positions start after the padding index, which costs it two.
    return max(1, int(getattr(model.config, "max_position_embeddings", None) or 512) - 2)
