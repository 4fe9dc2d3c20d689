"""bfloat16 in compiled programs: rounded as in NumPy's reference, kept where it was asked for, in two bytes a number."""

from __future__ import annotations

import numpy as np

import chainrule as cr
from chainrule import nn, optim

INF, NAN = float("inf"), float("nan")


def test_native_rounding_has_the_same_bits():
    every = np.arange(0, 1 << 32, 65521, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = cr.tensor(np.concatenate([every, np.array([INF, -INF, NAN, -0.0], np.float32)]))
    narrow, wide = cr.compile(lambda t: (t.bfloat16(), t.bfloat16().float()))(x)
    words = x.bfloat16()._node.value.view(np.uint16)
    np.testing.assert_array_equal(narrow._node.value.view(np.uint16), words)
    np.testing.assert_array_equal(wide.numpy().view(np.uint32), words.astype(np.uint32) << 16)


def test_a_rounding_on_the_way_is_no_pair_of_casts_that_cancel():
    x = cr.tensor([1.0 + 2.0**-9, 3.14159])
    assert cr.compile(lambda t: t.bfloat16().float())(x).tolist() == [1.0, 3.140625]
    assert cr.compile(lambda t: (t.bfloat16() * 1.0).float())(x).tolist() == [1.0, 3.140625]


def test_state_and_results_take_two_bytes():
    sizes = {}
    for dtype in (cr.float32, cr.bfloat16):
        layer = nn.Linear(64, 48, dtype=dtype)
        optimizer = optim.Adam(layer.parameters())

        @cr.compile
        def step(x, layer=layer, optimizer=optimizer):
            optimizer.zero_grad()
            layer(x).square().sum().backward()
            optimizer.step()

        step(cr.ones(5, 64, dtype=dtype))
        lines = step.show("memory").splitlines()
        sizes[dtype] = sum(int(line.split()[-3].replace(",", "")) for line in lines if f"{dtype.short}[48, 64]" in line)
    assert 2 * sizes[cr.bfloat16] == sizes[cr.float32] > 0


def test_a_value_that_was_rounded_is_kept_in_two_bytes():
    @cr.compile
    def f(a, b):
        kept = (a @ b).bfloat16()
        numbers = kept.float()
        return kept, numbers.sum(0), numbers.amax(1), numbers.T * 2

    f(cr.ones(48, 32), cr.ones(32, 64))
    assert "bf16[48, 64]" in f.show("memory")
    assert " f32[48, 64]" not in f.show("memory")


def test_reads_that_are_not_in_a_row():
    """Guarded, gathered, scattered and turned: what goes one element at a time."""
    x = cr.tensor(np.random.default_rng(0).standard_normal((19, 23)), cr.bfloat16)
    at = cr.tensor([3, -1, 0, 7, 7])

    def f(x, at):
        return (x[::3, 1::2], x.T[at], x[at], cr.cat([x[:, :2], x[:, 5:]], 1), x.flip((1,)), x._pad((1, 2), (0, 1), (1, 0)),
            x.T.reshape(-1)[5:], cr.where(x > 0.3, x, 0.1), x.scatter(0, at[None, :].expand(2, 5), x[:2, :5]))  # fmt: skip

    for native, eager in zip(cr.compile(f)(x, at), f(x, at), strict=True):
        np.testing.assert_array_equal(native._node.value.view(np.uint16), eager._node.value.view(np.uint16))
