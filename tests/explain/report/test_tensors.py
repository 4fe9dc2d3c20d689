"""Arrays packed for the page come back bit for bit; pictures come back as near as 255 steps allow."""

import numpy as np
import pytest
from tests.explain.report.reading import TYPES

from chainrule.explain.report.tensors import Tensors


def unpacked(tensors, ref):
    dtype = np.dtype(TYPES[ref["type"]])
    count = int(np.prod(ref["shape"]))
    raw = np.frombuffer(tensors.bytes(), np.uint8, count * dtype.itemsize, ref["at"])
    return raw.reshape(dtype.itemsize, count).T.copy().reshape(-1).view(dtype).reshape(ref["shape"])


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_exact_arrays_come_back_bit_for_bit(dtype):
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (3, 5)).astype(dtype)
    second = (rng.standard_normal((2, 3, 4)) * 100).astype(dtype)
    if first.dtype.kind == "f":
        second[0, 0, :3] = np.nan, np.inf, -0.0
    tensors = Tensors()
    refs = [tensors.exact(first), tensors.exact(second.transpose(2, 0, 1)), tensors.exact(np.array(second[0, 0, 0]))]
    assert unpacked(tensors, refs[0]).tobytes() == first.tobytes()
    assert unpacked(tensors, refs[1]).tobytes() == np.ascontiguousarray(second.transpose(2, 0, 1)).tobytes()
    assert unpacked(tensors, refs[2]).shape == ()


def test_a_picture_is_within_half_a_step_and_says_that_it_is_one():
    array = np.random.default_rng(1).standard_normal((9, 7)).astype(np.float32)
    tensors = Tensors()
    ref = tensors.picture(array)
    assert ref["type"] == "q8"
    back = ref["lo"] + unpacked(tensors, ref) / 255 * (ref["hi"] - ref["lo"])
    assert np.abs(back - array).max() <= (ref["hi"] - ref["lo"]) / 510 + 1e-6


def test_a_picture_of_values_that_are_not_finite_still_has_its_scale():
    ref = Tensors().picture(np.array([1.0, np.nan, np.inf, -2.0], np.float32))
    assert (ref["lo"], ref["hi"]) == (-2.0, 1.0)
    assert Tensors().picture(np.array([np.nan], np.float32))["lo"] == 0.0
