"""Reading and writing with any key gives what NumPy gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.optional import torch

import chainrule as cr
from chainrule.errors import IndexRangeError

SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, max_side=5)


def forward(key):
    """Without negative steps, which PyTorch refuses too."""
    entries = key if isinstance(key, tuple) else (key,)
    return all(not isinstance(e, slice) or e.step is None or e.step > 0 for e in entries)


@st.composite
def arrays_and_keys(draw):
    shape = draw(SHAPES)
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    basic = hnp.basic_indices(shape, allow_newaxis=True, allow_ellipsis=True).filter(forward)
    advanced = hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3))
    mask = hnp.arrays(bool, shape)
    return array, draw(st.one_of(basic, advanced, mask))


@given(arrays_and_keys())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_reading(case):
    array, key = case
    np.testing.assert_array_equal(cr.tensor(array)[key].numpy(), array[key])


@given(arrays_and_keys())
@settings(max_examples=150, deadline=None, derandomize=True)
def test_writing(case):
    array, key = case
    expected, t = array.copy(), cr.tensor(array)
    expected[key] = -1.0
    t[key] = -1.0
    np.testing.assert_array_equal(t.numpy(), expected)


@given(arrays_and_keys())
@settings(max_examples=60, deadline=None, derandomize=True)
def test_the_gradient_of_reading_counts_how_often_each_element_is_read(case):
    array, key = case
    x = cr.tensor(array, requires_grad=True)
    x[key].sum().backward()
    counts = np.zeros_like(array)
    np.add.at(counts, key, 1)
    np.testing.assert_array_equal(x.grad.numpy(), counts)


def test_an_empty_mask_is_a_mask():
    array = np.zeros((0, 3), np.float32)
    assert cr.tensor(array)[np.zeros((0, 3), bool)].shape == array[np.zeros((0, 3), bool)].shape
    assert cr.tensor(np.zeros((2, 3)))[[]].shape == (0, 3)


def test_a_row_is_a_view_whatever_way_it_is_read():
    for shape in ((3,), (3, 4), (3, 2, 2), (1, 4)):
        values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        x, reference = cr.tensor(values), torch.tensor(values)
        for i in (0, -1, shape[0] - 1):
            row, theirs = x[i], reference[i]
            assert row.shape == tuple(theirs.shape)
            assert row.numpy().tolist() == theirs.tolist()
            row += 1
            theirs += 1
            assert x.numpy().tolist() == reference.tolist()
            x.mul_(2)
            reference.mul_(2)
            assert row.numpy().tolist() == theirs.tolist()
            inner, theirs = row.reshape(-1)[0], theirs.reshape(-1)[0]
            inner.fill_(7)
            theirs.fill_(7)
            assert x.numpy().tolist() == reference.tolist()
    with pytest.raises(IndexRangeError):
        x[1]
    with cr.no_grad():
        weight = cr.tensor([[1.0, 2.0]], requires_grad=True)
        assert not weight[0].requires_grad
    assert weight[0].requires_grad
