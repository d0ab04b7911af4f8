"""Stored arrays as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def own_copy(values: NDArray[Any]) -> torch.Tensor:
    """Return a copy of an array in PyTorch's own memory.

    Stored outputs may be memory-mapped for reading only, which tensors cannot be. And thin matrix products choose
    their kernels by where a matrix lies (rows off by 4 bytes end in other last bits; between 16 and 64 bytes, which
    NumPy's arrays are aligned to, no difference was seen here): copies lie alike on every machine.
    """
    return torch.from_numpy(np.array(values)).clone()
