"""Stored arrays as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def own_copy(values: NDArray[Any]) -> torch.Tensor:
    """Return a copy of an array in PyTorch's own memory.

    Stored outputs may be memory-mapped for reading only, which tensors cannot be. And NumPy aligns its arrays now to
    16 bytes, now to 64, by which matrix products choose their kernels: the same numbers would end in other last bits.
    """
    return torch.from_numpy(np.array(values)).clone()
