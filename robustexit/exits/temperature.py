"""Temperature scaling of every exit: fitted on held-out logits, with the calibration error before and after."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from robustexit.errors import ModelError
from robustexit.measures.statistics import expected_calibration_error

FloatArray = NDArray[np.float64]

RANGE = (0.05, 20.0)
"""Lowest and highest temperature. Where a larger or smaller one would fit still better (every answer is right, or the
logits know nothing), the likelihood has no optimum inside and the end of the range is taken."""

STEPS = 40
"""Halvings of the range: the temperature is exact to a part in 10^11."""


def fit_temperatures(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Fit one temperature an exit by negative log-likelihood (Guo et al. 2017, arXiv 1706.04599).

    The likelihood of softmax(z / T) is concave in 1/T, so the zero of its derivative is found by halving.

    Args:
        logits: Shape [N, K, C].
        labels: Shape [N].

    Returns:
        Temperatures T_i, shape [K], within `RANGE`; 1 at an exit whose logits are the same for every class of every
        text, where any temperature fits alike.

    Raises:
        ModelError: No texts, logits that are not finite, or shapes or labels that do not belong together.
    """
    z, y = _checked(logits, labels)
    z = z - z.max(axis=-1, keepdims=True)
    at_label = np.take_along_axis(z, y[:, None, None], axis=-1)[..., 0].mean(axis=0)
    low, high = np.full(z.shape[1], np.log(1 / RANGE[1])), np.full(z.shape[1], np.log(1 / RANGE[0]))
    for _ in range(STEPS):
        middle = (low + high) / 2
        # The derivative of the mean negative log-likelihood by 1/T: expected less observed logit.
        slope = (softmax(z * np.exp(middle)[:, None], axis=-1) * z).sum(axis=-1).mean(axis=0) - at_label
        low, high = np.where(slope < 0, middle, low), np.where(slope < 0, high, middle)
    flat = (z == 0).all(axis=(0, 2))
    return np.where(flat, 1.0, np.exp(-(low + high) / 2))


def calibration_error(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Return the expected calibration error of every exit; see `robustexit.measures.statistics`.

    Args:
        logits: Shape [N, K, C]; divide them by the temperatures to see the error after scaling.
        labels: Shape [N].

    Returns:
        Shape [K], each from 0 to 1.

    Raises:
        ModelError: No texts, logits that are not finite, or shapes or labels that do not belong together.
    """
    z, y = _checked(logits, labels)
    confidence = softmax(z, axis=-1).max(axis=-1)
    right = (z.argmax(axis=-1) == y[:, None]).astype(np.float64)
    return np.array([expected_calibration_error(confidence[:, k], right[:, k]) for k in range(z.shape[1])])


def negative_log_likelihood(logits: ArrayLike, labels: ArrayLike) -> FloatArray:
    """Return the mean negative log-likelihood of the labels at every exit, in nats (arguments as above), shape [K]."""
    z, y = _checked(logits, labels)
    loss: FloatArray = -np.take_along_axis(log_softmax(z, axis=-1), y[:, None, None], axis=-1)[..., 0].mean(axis=0)
    return loss


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[FloatArray, NDArray[np.int64]]:
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.int64)
    if z.ndim != 3 or 0 in z.shape or y.shape != z.shape[:1]:
        raise ModelError(
            f"expected logits of shape [N, exits, classes] and N labels, N at least 1, got {list(z.shape)} "
            f"and {list(y.shape)}"
        )
    if not np.isfinite(z).all():
        raise ModelError("expected finite logits, got a NaN or an infinity; check the model's weights and precision")
    if y.min() < 0 or y.max() >= z.shape[-1]:
        raise ModelError(f"expected labels from 0 to {z.shape[-1] - 1}, got {y.min()} to {y.max()}")
    return z, y
