"""Simplification: each rule does what it says, and keeps every value, NaN, infinity and sign of zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, graph, nn
from chainrule.compiler.passes.simplify import simplify
from chainrule.compiler.program import Program
from chainrule.graph import Graph
from tests.compiler.plans import check_program

SPECIAL = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 3e-39, 2.5]


def program_of(function: Callable[..., Any], *inputs: Tensor) -> Program:
    compiled = cr.compile(function)
    compiled(*inputs)
    assert compiled._latest is not None
    program: Program = compiled._latest.program
    check_program(program)
    return program


def ops(g: Graph) -> list[str]:
    return [node.op.name for node in g.nodes() if node.op.kind != "source"]


def evaluate(g: Graph, arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """The graph on NumPy."""
    values = dict(zip(g.inputs, arrays, strict=True))
    for node in g.nodes():
        if node not in values:
            if node.op.name == "leaf":
                values[node] = node.value
            elif node.op.name == "const":
                values[node] = np.asarray(node.params["value"], node.dtype.numpy)
            else:
                values[node] = graph.evaluate(node.op, [values[s] for s in node.inputs], node.params, node.type)
    return [values[node] for node in g.outputs]


VECTOR = cr.tensor(SPECIAL)
MATRIX = cr.tensor([SPECIAL, SPECIAL[::-1]])

RULES: dict[str, tuple[Callable[[Tensor], Any], Tensor, list[str]]] = {
    "where both are one": (lambda x: x.where(x > 0, x), VECTOR, []),
    "where both are one, of more": (lambda x: x[0].where(x > 0, x[0]), MATRIX, ["gt", "slice", "reshape", "where"]),
    "times one": (lambda x: x * 1.0, VECTOR, []),
    "one times": (lambda x: 1.0 * x, VECTOR, []),
    "times ones": (lambda x: x * cr.ones(2, 9), VECTOR, ["expand"]),
    "over one": (lambda x: x / 1, VECTOR, []),
    "minus zero": (lambda x: x - 0.0, VECTOR, []),
    "minus negative zero": (lambda x: x - (-0.0), VECTOR, ["sub"]),
    "plus zero": (lambda x: x + 0.0, VECTOR, ["add"]),
    "times zero": (lambda x: x * 0.0, VECTOR, ["mul"]),
    "over four": (lambda x: x / 4, VECTOR, ["mul"]),
    "over minus a half": (lambda x: x / -0.5, VECTOR, ["mul"]),
    "over three": (lambda x: x / 3, VECTOR, ["div"]),
    "over zero": (lambda x: x / 0, VECTOR, ["div"]),
    "over a tiny power of two": (lambda x: x / 2.0**-126, VECTOR, ["div"]),
    "negated twice": (lambda x: -(-x), VECTOR, []),
    "clone and detach": (lambda x: x.clone().detach().clone(), VECTOR, []),
    "reshaped twice": (lambda x: x.reshape(3, 3).reshape(9, 1), VECTOR, ["reshape"]),
    "reshaped back": (lambda x: x.reshape(3, 3).reshape(9), VECTOR, []),
    "turned back": (lambda x: x.T.T, MATRIX, []),
    "permuted twice": (lambda x: x.reshape(2, 3, 3).permute(1, 2, 0).permute(1, 2, 0), MATRIX, ["reshape", "permute"]),
    "expanded twice": (lambda x: x.reshape(1, 1, 9).expand(1, 2, 9).expand(4, 2, 9), VECTOR, ["reshape", "expand"]),
    "a function of an expansion": (lambda x: x.expand(3, 9).exp(), VECTOR, ["exp", "expand"]),
    "an expansion another operand makes": (lambda x: x[0].expand(2, 9) + x, MATRIX, ["slice", "reshape", "add"]),
    "a sum over one": (lambda x: x.reshape(9, 1).sum(1), VECTOR.abs(), []),
    "the same twice": (lambda x: x.exp() + x.exp(), VECTOR, ["exp", "add"]),
    "not commuted": (lambda x: (x - 2) + (2 - x), VECTOR, ["sub", "sub", "add"]),
    "constants": (lambda x: x + (cr.ones(()) * 3).sqrt().floor(), VECTOR, ["add"]),
    "functions of constants": (lambda x: x + (cr.ones(()) * 3).exp(), VECTOR, ["exp", "add"]),
    "constants of nan": (lambda x: x + cr.zeros(()) / 0, VECTOR, ["add"]),
    "zeros of both signs": (lambda x: (x * 0.0, x * -0.0), VECTOR, ["mul", "mul"]),
    "the negative of a choice": (lambda x: -(-x).where(x < 2, 0.0), VECTOR, ["lt", "where"]),
    "the negative of a choice of tensors": (lambda x: -x.where(x < 2, x + 1), VECTOR, ["lt", "add", "where", "neg"]),
    "unused": (lambda x: (x.sin().sum(), x.exp())[1], VECTOR, ["exp"]),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_leaves_these_ops_and_the_same_bits(name: str) -> None:
    function, x, expected = RULES[name]
    program = program_of(function, x)
    simple = simplify(program.graph)
    assert ops(simple) == expected
    for actual, wanted in zip(evaluate(simple, [x.numpy()]), evaluate(program.graph, [x.numpy()]), strict=True):
        np.testing.assert_array_equal(actual, wanted)
        known = ~np.isnan(wanted)
        np.testing.assert_array_equal(np.signbit(actual[known]), np.signbit(wanted[known]))


def gathered(dim: int, index: Any) -> Callable[[Tensor], Tensor]:
    def function(x: Tensor) -> Tensor:
        return cr.grad(lambda t: (t.gather(dim, cr.tensor(index)) * 3.0).sum())(x)

    return function


@pytest.mark.parametrize(
    ("function", "shape", "scatters"),
    [
        (gathered(1, [[1], [-1], [0]]), (3, 4), False),
        (gathered(0, [[1, 2, -3]]), (3, 3), False),
        (gathered(1, [[1, 1], [-1, 0], [0, 2]]), (3, 4), True),  # two of a row
        (gathered(1, [[1], [3]]), (3, 4), True),  # not every row
        (lambda x: cr.grad(lambda t: t[cr.tensor([[[1, 2]]])].sum())(x), (3,), True),  # another rank
        (lambda x: cr.grad(lambda t: t[cr.tensor([2])].sum())(x), (3,), False),
    ],
)
def test_scattering_one_element_a_row_is_a_comparison(function: Any, shape: tuple[int, ...], scatters: bool) -> None:
    x = cr.tensor(np.arange(np.prod(shape), dtype="d").reshape(shape))
    program = program_of(function, x)
    assert ("put_add" in ops(program.simplified)) == scatters
    np.testing.assert_array_equal(cr.compile(function)(x).numpy(), function(x).numpy())


@pytest.mark.parametrize("value", SPECIAL)
@pytest.mark.parametrize("folded", [1, 0])
def test_the_sum_over_one_element_a_row_is_that_element(value: float, folded: int) -> None:
    """Over the axis that the index counts along; over the other it is a sum."""
    index = cr.tensor([[1], [-1], [0]])

    def function(v: Tensor, index: Tensor) -> Tensor:
        found = cr.grad(lambda t: (t.gather(1, index) * v).sum())(cr.zeros(3, 4))
        return found.sum(folded)

    v = cr.tensor([[value], [value], [1.0]])
    program = program_of(function, v, index)
    assert ("sum" in ops(program.simplified)) == (folded == 0)
    (actual,) = evaluate(program.simplified, [v.numpy(), index.numpy()])
    np.testing.assert_array_equal(actual, function(v, index).numpy())
    np.testing.assert_array_equal(np.signbit(actual), np.signbit(function(v, index).numpy()))


def test_one_element_a_row_where_a_byte_counts_too_few() -> None:
    x = cr.zeros(2, 700)
    index = cr.tensor([[3], [250]], dtype=cr.uint8)

    def function(x: Tensor, index: Tensor) -> Tensor:
        return cr.grad(lambda t: t.gather(1, index).sum())(x)

    np.testing.assert_array_equal(cr.compile(function)(x, index).numpy(), function(x, index).numpy())


def test_an_index_checked_for_a_longer_axis_is_checked_again() -> None:
    long, short = cr.arange(9), cr.arange(3)

    @cr.compile
    def both(index: Tensor) -> tuple[Tensor, Tensor]:
        return long[index], short[index]

    both(cr.tensor([2, 1]))
    with pytest.raises(cr.errors.IndexRangeError):
        both(cr.tensor([2, 5]))


def test_inputs_and_names_stay() -> None:
    program = program_of(lambda x, y: (y, x + 0.0), VECTOR, VECTOR + 1)
    simple = simplify(program.graph)
    assert simple.inputs == program.graph.inputs
    assert [simple.names[n] for n in simple.inputs] == ["arg0", "arg1"]
    assert len(simple.outputs) == 2


def test_two_draws_are_two_draws() -> None:
    generator = cr.Generator(0)
    a, b = cr.compile(lambda: (cr.rand(5, generator=generator), cr.rand(5, generator=generator)))()
    assert a.tolist() != b.tolist()


def test_a_long_chain_of_products_is_turned_product_by_product():
    layers = [nn.Linear(3, 3) for _ in range(250)]
    x, y = cr.randn(4, 3), cr.randn(4, 3)

    @cr.compile
    def step(x, y):
        for layer in layers:
            x = layer(x)
        loss = ((x - y) ** 2).mean()
        loss.backward()
        return loss

    step(x, y)
    products = step.show("graph").count("= matmul(")
    assert products == 3 * 250 - 1  # forward, gradient and weight's gradient; the rows need none
