"""Elementwise loops: axes that lie one behind the other in memory are one loop; narrow products keep to themselves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, nn, optim
from chainrule.compiler.codegen import lower
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.plan.nests import Nests
from chainrule.compiler.plan.target import Target
from chainrule.compiler.schedule.kernels import Dot
from tests.compiler.plans import check_program

TARGET = Target(32, 16)  # a row of 7 is no loop, five of them are


def loops_of(function: Callable[..., Tensor], *inputs: Tensor) -> int:
    """How many loops the function's one kernel is written as."""
    compiled = cr.compile(function)
    compiled(*inputs)
    assert compiled._latest is not None
    plan = compiled._latest.program.plan
    (kernel,) = plan.kernels
    arguments = Arguments.of(kernel, plan.places)
    nest = Nests([kernel], TARGET).written(0, None, arguments)
    return lower.lower(nest, "k", arguments, TARGET).text.count(" phi i64 ")


X = cr.tensor(np.random.default_rng(0).normal(size=(6, 5, 7)).astype(np.float32))
W = cr.tensor(np.random.default_rng(1).normal(size=(6, 5, 7)).astype(np.float32))


@pytest.mark.parametrize(
    ("function", "loops"),
    [
        (lambda x, w: (x * w).exp() + 1, 1),
        (lambda x, w: x * 2 + w.reshape(210).flip(0).reshape(6, 5, 7), 1),
        (lambda x, w: x + w[:, :1], 2),
        (lambda x, w: x + w[0], 2),
        (lambda x, w: x + w[0, 0], 2),
        (lambda x, w: x[1:] + w[:-1], 1),
        (lambda x, w: x[:, 1:] + w[:, :-1], 2),
        (lambda x, w: x[..., 1:] + w[..., :-1], 2),
        (lambda x, w: cr.where(x > 0, x, cr.arange(7).float() * w), 2),
        (lambda x, w: x.permute(1, 0, 2) + w.permute(1, 0, 2), 2),
    ],
)
def test_axes_become_one_loop_where_every_index_allows_it(function: Callable[..., Tensor], loops: int) -> None:
    np.testing.assert_allclose(cr.compile(function)(X, W).numpy(), function(X, W).numpy(), rtol=1e-6)
    assert loops_of(function, X, W) == loops


@pytest.mark.parametrize(("columns", "joins"), [(1, True), (4, False), (8, True), (33, True), (1000, False)])
def test_an_update_joins_the_product_unless_its_rows_are_short_or_it_is_large(columns: int, joins: bool) -> None:
    """A single column is computed as one row of 40."""
    model = nn.Linear(columns, 40, bias=False)
    optimizer = optim.Adam(model.parameters())

    @cr.compile
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    step(cr.ones(24, columns), cr.zeros(24, 40))
    assert step._latest is not None
    program = step._latest.program
    check_program(program)
    updates = [k for k in program.plan.kernels if any(store.node.shape == (40, columns) for store in k.stores)]
    assert (len(updates) == 1) == joins
    assert isinstance(updates[0].core, Dot)
