"""A fingerprint notices any change of any bit, and is the same computed natively."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.training.fingerprint import fingerprint

rng = np.random.default_rng(8)
ARRAYS = [
    rng.standard_normal((7, 33)).astype(np.float32), rng.standard_normal(5), np.float32(3.0), np.zeros((0, 4), np.float32),
    rng.standard_normal((2, 3, 4)), np.arange(9), np.array([True, False]),
]  # fmt: skip


def of(arrays):
    return int(fingerprint([cr.tensor(a) for a in arrays]).item())


@given(st.integers(0, 7 * 33 - 1), st.integers(0, 31))
def test_one_flipped_bit_changes_it(place, bit):
    changed = ARRAYS[0].copy()
    changed.reshape(-1).view(np.uint32)[place] ^= np.uint32(1 << bit)
    assert of([changed, *ARRAYS[1:]]) != of(ARRAYS)


@given(st.integers(0, 7 * 33 - 1), st.integers(0, 7 * 33 - 1))
def test_two_exchanged_elements_change_it(i, j):
    changed = ARRAYS[0].copy()
    flat = changed.reshape(-1)
    flat[i], flat[j] = flat[j], flat[i]
    assert (of([changed]) == of(ARRAYS[:1])) == (flat[i] == flat[j])


def test_the_order_of_the_tensors_counts():
    assert of([ARRAYS[1], ARRAYS[0]]) != of([ARRAYS[0], ARRAYS[1]])


def test_minus_zero_and_nan_are_bits_too():
    assert of([np.float32([-0.0])]) != of([np.float32([0.0])])
    assert of([np.float32([np.nan])]) == of([np.float32([np.nan])])


def test_natively_it_is_the_same():
    tensors = [cr.tensor(a) for a in ARRAYS]
    assert int(cr.compile(lambda: fingerprint(tensors))().item()) == of(ARRAYS)
