"""Sequences of several lengths as one tensor, beside PyTorch's."""

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import SettingError, ShapeError
from tests.optional import torch

LENGTHS = (3, 1, 0, 4)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("shape", [(), (2,)])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_sequences_are_filled_up_as_pytorchs_are(batch_first, side, shape, dtype):
    arrays = [np.arange(1, 1 + np.prod((n, *shape))).reshape(n, *shape).astype(dtype) for n in LENGTHS]
    ours, theirs = (
        lib.nn.utils.rnn.pad_sequence([lib.tensor(a) for a in arrays], batch_first, -7, padding_side=side)
        for lib in (cr, torch)
    )
    assert ours.dtype == getattr(cr, dtype)
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    if side == "right":
        again = nn.utils.rnn.unpad_sequence(ours, cr.tensor(LENGTHS), batch_first)
        assert [one.tolist() for one in again] == [a.tolist() for a in arrays]


def test_gradients_go_to_each_sequence_and_a_step_compiles():
    first, second = cr.ones(2, requires_grad=True), cr.ones(1, requires_grad=True)

    def padded(a, b):
        return nn.utils.rnn.pad_sequence([a, b], batch_first=True, padding_value=5.0)

    (padded(first, second) * cr.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert (first.grad.tolist(), second.grad.tolist()) == ([1, 2], [3])
    assert cr.compile(padded)(first, second).tolist() == [[1, 1], [1, 5]]


WRONG = {
    "pad_sequence: there must be at least one sequence, got none.": (SettingError, lambda pad: pad([])),
    "pad_sequence: padding_side must be 'right' or 'left', got 'up'.": (SettingError, lambda pad: pad([cr.ones(1)], padding_side="up")),
    "pad_sequence: sequences must have a first axis, their length, and the same others, got (2, 1) and (2, 2). Reshape them.": (
        ShapeError, lambda pad: pad([cr.ones(2, 1), cr.ones(2, 2)]),
    ),
    "unpad_sequence: there must be a length for each of 2 sequences, got (3,). Give one for each.": (
        ShapeError, lambda pad: nn.utils.rnn.unpad_sequence(cr.ones(2, 2), cr.tensor([1, 1, 1])),
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:40])
def test_what_cannot_be_filled_up_is_refused(text):
    error, call = WRONG[text]
    name, _, said = text.partition(":")
    with pytest.raises(error, match=rf"^{name}( \(.*\))?:{re.escape(said)}$"):
        call(nn.utils.rnn.pad_sequence)
