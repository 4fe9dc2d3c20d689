"""Packed sequences against PyTorch's: how they lie, and recurrent layers over them."""

from __future__ import annotations

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import SettingError, ShapeError, TraceError
from chainrule.nn.utils import rnn
from tests.nn.test_recurrent import SETTINGS, twins
from tests.optional import torch

LENGTHS = [[4, 2, 2, 1], [2, 4, 1, 3], [3, 3, 3, 3], [1, 1, 1, 1]]
X = np.random.default_rng(0).normal(size=(4, 4, 3))


def falls(lengths):
    return lengths == sorted(lengths, reverse=True)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_they_lie_as_pytorchs(lengths, batch_first):
    found = {}
    for lib in (cr, torch):
        room = lib.nn.utils.rnn
        packed = room.pack_padded_sequence(
            lib.tensor(X), lib.tensor(lengths), batch_first, enforce_sorted=falls(lengths)
        )
        assert packed.batch_sizes.dtype is lib.int64
        batch, known = room.pad_packed_sequence(packed, batch_first, padding_value=-1.0, total_length=5)
        rows = sorted(map(str, packed.data[: len(lengths)].tolist()))  # equal lengths may stand in any order
        found[lib] = rows, packed.batch_sizes.tolist(), packed.sorted_indices is None, batch.tolist(), known.tolist()
        assert [one.tolist() for one in room.unpack_sequence(packed)] == [
            (X[b, :n] if batch_first else X[:n, b]).tolist() for b, n in enumerate(lengths)
        ]
    assert found[cr] == found[torch]
    sequences = [cr.tensor(X[b, :n]) for b, n in enumerate(lengths)]
    again = rnn.pack_sequence(sequences, enforce_sorted=falls(lengths))
    assert again.data.tolist() == rnn.pack_padded_sequence(cr.tensor(X), lengths, True, falls(lengths)).data.tolist()


def run(lib, layer, state, lengths, wrap=lambda f: f):
    """Outputs, last states, and the gradients of the weights, of the input and of the first states."""
    x = lib.tensor(X, requires_grad=True)
    axis = layer.num_layers * (2 if layer.bidirectional else 1)
    first = [lib.tensor(np.random.default_rng(i).normal(size=(axis, 4, 4)), requires_grad=True) for i in range(2)]
    lstm = "LSTM" in type(layer).__name__

    def computed(x):
        packed = lib.nn.utils.rnn.pack_padded_sequence(x, lengths, layer.batch_first, enforce_sorted=falls(lengths))
        output, last = layer(packed, (tuple(first) if lstm else first[0]) if state else None)
        rows, _ = lib.nn.utils.rnn.pad_packed_sequence(output, layer.batch_first)
        last = last if lstm else (last,)
        loss = (rows * rows * 0.5).sum() + sum((part * part).sum() * (i + 2) for i, part in enumerate(last))
        loss.backward()
        return [rows, *last]

    found = wrap(computed)(x)
    leaves = [x, *layer.parameters(), *(first[: 1 + lstm] if state else ())]
    return [t.detach().numpy() for t in [*found, *(leaf.grad for leaf in leaves)]]


@pytest.mark.parametrize("wrap", [lambda f: f, cr.compile], ids=["at once", "compiled"])
@pytest.mark.parametrize("lengths", LENGTHS[:3])
@pytest.mark.parametrize(("kind", "settings", "state"), [
    ("RNN", {}, False), ("RNN", SETTINGS[2], True), ("LSTM", SETTINGS[3], True), ("LSTM", {"batch_first": True}, False),
    ("GRU", SETTINGS[1], True), ("GRU", SETTINGS[3], False),
])  # fmt: skip
def test_recurrent_layers_are_pytorchs(kind, settings, state, lengths, wrap):
    torch.manual_seed(0)
    ours, theirs = twins(kind, **settings)
    for a, b in zip(run(cr, ours, state, lengths, wrap), run(torch, theirs, state, lengths), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_what_is_padding_does_not_matter():
    layer = nn.LSTM(3, 4, bidirectional=True)
    odd = X.copy()
    odd[2:, 1] = np.nan
    first, second = (
        rnn.pad_packed_sequence(layer(rnn.pack_padded_sequence(cr.tensor(x).float(), [4, 2, 2, 1]))[0])[0]
        for x in (X, odd)
    )
    assert first.tolist() == second.tolist()


def test_other_dtypes_and_places():
    packed = rnn.pack_padded_sequence(cr.tensor(X), [4, 2, 2, 1])
    assert (packed.float().data.dtype, packed.to(cr.float32).double().data.dtype) == (cr.float32, cr.float64)
    assert packed.long().counts == packed.cpu().counts == (4, 3, 1, 1)
    assert not packed.is_cuda
    built = rnn.PackedSequence(packed.data, packed.batch_sizes)
    assert rnn.pad_packed_sequence(built)[1].tolist() == [4, 2, 2, 1]
    data, sizes, *order = packed  # as a tuple
    assert (data is packed.data, sizes is packed.batch_sizes, order) == (True, True, [None, None])


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return re.sub(r" \(test_packed.py.*?\)", "", str(error.value))


def test_refusals():
    x = cr.tensor(X)
    assert text_of(SettingError, lambda: rnn.pack_padded_sequence(x, [1, 2, 3, 4])) == (
        "pack_padded_sequence: lengths must fall, got [1, 2, 3, 4]. Set enforce_sorted=False for sequences in any order."
    )
    assert text_of(SettingError, lambda: rnn.pack_padded_sequence(x, [4, 3, 2, 0])) == (
        "pack_padded_sequence: lengths must be from 1 to 4, the steps of the input, got [4, 3, 2, 0]."
    )
    assert text_of(SettingError, lambda: rnn.pack_padded_sequence(x, [5, 3, 2, 1])) == (
        "pack_padded_sequence: lengths must be from 1 to 4, the steps of the input, got [5, 3, 2, 1]."
    )
    assert text_of(ShapeError, lambda: rnn.pack_padded_sequence(x, [3, 2])) == (
        "pack_padded_sequence: there must be a length for each of 4 sequences, got 2. Give one for each; with (B, T, *), set "
        "batch_first=True."
    )
    packed = rnn.pack_padded_sequence(x, [4, 3, 2, 1])
    assert text_of(SettingError, lambda: rnn.pad_packed_sequence(packed, total_length=3)) == (
        "pad_packed_sequence: total_length must be at least 4, the steps of the longest, got 3."
    )
    assert (
        text_of(SettingError, lambda: rnn.pad_packed_sequence(x))
        == "pad_packed_sequence: needs a PackedSequence, got Tensor."
    )
    assert text_of(ShapeError, lambda: nn.GRU(5, 2)(packed)) == (
        "GRU in layer 'GRU': packed entries must be (sum of the lengths, input_size), with input_size=5, got shape (10, 3). Pack a batch of that "
        "size, or change input_size."
    )


def test_lengths_that_are_traced():
    layer, x = nn.GRU(3, 4, batch_first=True), cr.ones(2, 5, 3)

    def last(x, lengths):
        return layer(rnn.pack_padded_sequence(x, lengths, batch_first=True))[1]

    for lengths in (cr.tensor([5, 3]), [cr.tensor(5), cr.tensor(3)]):
        with pytest.raises(TraceError) as told:
            cr.compile(last)(x, lengths)
        assert str(told.value) == (
            "pack_padded_sequence: lengths must be numbers inside cr.compile, since what is computed hangs on them, got a traced "
            "tensor. Pass the compiled function a list, lengths.tolist(); it is compiled anew for each list of other lengths."
        )
    compiled = cr.compile(last)
    for lengths in ([5, 3], [4, 1]):
        np.testing.assert_allclose(compiled(x, lengths).detach(), last(x, cr.tensor(lengths)).detach(), rtol=1e-5)
    with pytest.raises(TraceError, match=r"^unpad_sequence: lengths must be numbers inside cr\.compile"):
        cr.compile(lambda x, n: nn.utils.rnn.unpad_sequence(x, n, batch_first=True)[1])(x, cr.tensor([5, 3]))
