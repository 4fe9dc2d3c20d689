"""Where a tensor's elements lie."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler.runtime.buffers import lies_well
from chainrule.tensor.memory import LINE, empty


@pytest.mark.parametrize("shape", [(16,), (33, 7), (128, 128), (1000, 513)])
def test_tensors_from_arrays_start_on_a_cache_line(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for array in (values, values.T):
        tensor = cr.tensor(array)
        assert lies_well(tensor._node.value)
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (LINE,), (3, 41)])
def test_empty_has_the_shape_and_dtype(shape: tuple[int, ...]) -> None:
    array = empty(shape, np.dtype(np.float64))
    assert (array.shape, array.dtype) == (shape, np.float64)
    assert array.flags.c_contiguous and array.flags.writeable
