"""What is read of a row at other places than it was made at is read there, wherever the kernel has it from."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor
from chainrule.compiler.schedule.expression import Expression, expr
from chainrule.compiler.schedule.index import variables
from chainrule.compiler.schedule.kernels import Number
from chainrule.ops.shaping import ravel


def order(n: int) -> list[int]:
    return (np.arange(n) * 7 % n if n % 7 else np.arange(n)[::-1]).tolist()


def split(n: int) -> tuple[int, int]:
    by = next((d for d in (3, 2, 5) if n % d == 0), 1)
    return by, n // by


# Views that keep the length of a row and move its elements: in chainrule, and in NumPy.
VIEWS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Any], Any]]] = {
    "flip": (lambda x: x.flip(-1), lambda x: x[:, ::-1]),
    "shift": (
        lambda x: cr.nn.functional.pad(x[:, 1:], (0, 1)),
        lambda x: np.pad(x[:, 1:], ((0, 0), (0, 1))),
    ),
    "pad": (
        lambda x: cr.nn.functional.pad(x, (1, 0))[:, :-1],
        lambda x: np.pad(x, ((0, 0), (1, 0)))[:, :-1],
    ),
    "roll": (
        lambda x: cr.cat([x[:, 1:], x[:, :1]], -1),
        lambda x: np.roll(x, -1, -1),
    ),
    "take": (lambda x: x[:, cr.tensor(order(x.shape[1]))], lambda x: x[:, order(x.shape[1])]),
    "turn": (
        lambda x: x.reshape(-1, *split(x.shape[1])).transpose(1, 2).reshape(*x.shape),
        lambda x: x.reshape(-1, *split(x.shape[1])).swapaxes(1, 2).reshape(x.shape),
    ),
    "windows": (
        lambda x: cr.nn.functional.pad(x, (1, 1)).unfold(-1, 3, 1).sum(-1),
        lambda x: np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (1, 1))), 3, -1).sum(-1),
    ),
    "every other": (lambda x: (x[:, ::2].sum(-1, keepdim=True) * x).flip(-1), lambda x: (x[:, ::2].sum(-1, keepdims=True) * x)[:, ::-1]),
}  # fmt: skip


def two_folds(x: Any, y: Any, view: Callable[[Any], Any], exp: Any, axes: dict[str, Any]) -> Any:
    """Two folds beside each other, whose kernels become one, then a fold that reads the row as it is and moved."""
    e = exp(x)
    c = y.sum(-1, **axes) / e.sum(-1, **axes)
    return (view(c * e) * e).sum(-1)


def moved_twice(x: Any, y: Any, view: Callable[[Any], Any], exp: Any, axes: dict[str, Any]) -> Any:
    """Folds over a row, over the moved row, and over both, one after the other."""
    e = exp(x)
    p = e / e.sum(-1, **axes)
    q = view(p) * (y * p).sum(-1, **axes)
    return ((q - q.sum(-1, **axes)) * view(q) * e).sum(-1)


@pytest.mark.parametrize(("function", "lengths"), [(two_folds, [*range(1, 21), 100]), (moved_twice, [3, 16, 100])])
@pytest.mark.parametrize("view", VIEWS)
def test_folds_read_a_moved_row_where_it_is(function: Callable[..., Any], lengths: list[int], view: str) -> None:
    rng = np.random.default_rng(3)
    ours, theirs = VIEWS[view]

    def run(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y, ours, Tensor.exp, {"keepdim": True})

    for length in lengths:
        x, y = rng.normal(size=(2, 2, length))
        expected = function(x, y, theirs, np.exp, {"keepdims": True})
        for way in (run, cr.compile(run)):
            np.testing.assert_allclose(
                way(cr.tensor(x), cr.tensor(y)).numpy(), expected, rtol=1e-11, err_msg=f"rows of {length}"
            )


@pytest.mark.parametrize("size", [2, 4, 5])
def test_folds_over_two_axes_read_them_swapped(size: int) -> None:
    def run(x: Any, y: Any, exp: Any) -> Any:
        e = exp(x)
        c = y.sum((1, 2)) / e.sum((1, 2))
        return ((c[:, None, None] * e).swapaxes(1, 2) * e).sum((1, 2))

    x, y = np.random.default_rng(3).normal(size=(2, 3, size, size))
    compiled = cr.compile(lambda x, y: run(x, y, Tensor.exp))
    np.testing.assert_allclose(compiled(cr.tensor(x), cr.tensor(y)).numpy(), run(x, y, np.exp), rtol=1e-11)


def test_a_kernel_that_has_become_part_of_another_takes_nothing_more() -> None:
    @cr.compile
    def function(x: Tensor, y: Tensor) -> Tensor:
        e = x.exp()
        c = y.sum(-1, keepdim=True) / e.sum(-1, keepdim=True)
        return (c * e * e).sum(-1)

    function(cr.ones(2, 3), cr.ones(2, 3))
    text = function.show("kernels")
    assert re.findall(r"acc\d* = sum", text) == ["acc0 = sum", "acc1 = sum", "acc2 = sum"]


def test_a_value_at_hand_is_that_of_its_own_element() -> None:
    node, index = cr.zeros(2, 3)._node, variables((2, 3))
    expression = Expression({node})
    expression.give(node, Number(node.dtype, 1.0), expr(ravel(index, node.shape)))
    assert expression.value(node, index) is expression.results[node]
    with pytest.raises(
        TypeError,
        match=re.escape("element 3*i + -1*j + 2 of ")
        + ".*"
        + re.escape(" is read where 3*i + j is computed; this is a bug in chainrule"),
    ):
        expression.value(node, (index[0], 2 - index[1]))
