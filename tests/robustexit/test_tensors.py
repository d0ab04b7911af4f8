"""Stored arrays as tensors."""

import numpy as np
import torch

from robustexit.tensors import own_copy


def test_copies_lie_alike_wherever_the_array_lay(tmp_path) -> None:
    values = np.arange(301, dtype=np.float32)
    np.save(tmp_path / "values.npy", values)
    mapped = np.load(tmp_path / "values.npy", mmap_mode="r")
    for start in range(16):
        for source in (values, mapped):
            found = own_copy(source[start:])
            assert found.data_ptr() % 64 == 0
            assert torch.equal(found, torch.arange(start, 301, dtype=torch.float32))
            found[0] = -1
    assert values[0] == mapped[0] == 0
