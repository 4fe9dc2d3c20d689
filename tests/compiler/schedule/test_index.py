"""Index expressions against brute force: the simplified expression has the value of the plain one."""

from __future__ import annotations

import itertools
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import dtypes
from chainrule.compiler.schedule.index import Expr, Guard, Loaded, Quotient, Remainder, Var, variables
from chainrule.compiler.schedule.kernels import Load, Number
from chainrule.graph import INPUT, Node, Type
from chainrule.ops.shaping import ravel, unravel

SIZES = (3, 4, 5)
VARS = tuple(Var(i, size) for i, size in enumerate(SIZES))


def value(expr: Expr, at: dict[Var, int]) -> int:
    total = expr.constant
    for atom, factor in expr.terms.items():
        if isinstance(atom, Var):
            part = at[atom]
        elif isinstance(atom, Quotient):
            part = value(atom.expr, at) // atom.by
        else:
            assert isinstance(atom, Remainder)
            part = value(atom.expr, at) % atom.by
        total += factor * part
    return total


def points() -> Any:
    return (dict(zip(VARS, point, strict=True)) for point in itertools.product(*map(range, SIZES)))


@st.composite
def pairs(draw: Any, depth: int = 6) -> tuple[Expr, Any]:
    """An expression, and the same thing as a Python function of the loop variables."""
    pool: list[tuple[Expr, Any]] = [(Expr({var: 1}), lambda at, var=var: at[var]) for var in VARS]
    for _ in range(draw(st.integers(1, depth))):
        a, f = draw(st.sampled_from(pool))
        b, g = draw(st.sampled_from(pool))
        n = draw(st.integers(-4, 6))
        by = draw(st.integers(1, 12))
        pool.append(
            draw(
                st.sampled_from([
                    (a + b, lambda at, f=f, g=g: f(at) + g(at)),
                    (a - b, lambda at, f=f, g=g: f(at) - g(at)),
                    (a * n, lambda at, f=f, n=n: f(at) * n),
                    (n - a, lambda at, f=f, n=n: n - f(at)),
                    (a + n, lambda at, f=f, n=n: f(at) + n),
                    (a // by, lambda at, f=f, by=by: f(at) // by),
                    (a % by, lambda at, f=f, by=by: f(at) % by),
                    (a // by * by + a % by, f),
                ])
            )
        )  # fmt: skip
    return pool[-1]


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(pairs())
def test_every_rewriting_keeps_the_value_and_the_bounds(pair: tuple[Expr, Any]) -> None:
    expr, plain = pair
    low, high = expr.bounds()
    for at in points():
        expected = plain(at)
        assert value(expr, at) == expected
        assert low <= expected <= high


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(pairs())
def test_a_coefficient_is_the_difference_between_neighbours(pair: tuple[Expr, Any]) -> None:
    expr, plain = pair
    for var in VARS:
        step = expr.coefficient(var)
        if step is not None:
            for at in points():
                if at[var] + 1 < var.size:
                    assert plain({**at, var: at[var] + 1}) - plain(at) == step


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.permutations([2, 2, 3, 5]), st.integers(1, 3))
def test_a_reshape_there_and_back_is_no_reshape(sizes: list[int], split: int) -> None:
    shape = tuple(sizes)
    other = (math.prod(shape[:split]), math.prod(shape[split:]))
    index = variables(shape)
    middle = unravel(ravel(index, shape), other)
    assert ravel(middle, other) == ravel(index, shape)
    (flat,) = variables((math.prod(shape),))
    assert ravel(unravel(flat, shape), shape) == flat


def test_a_quotient_differs_from_the_remainder_of_the_same_parts() -> None:
    i = Expr({Var(0, 7): 1})
    assert Quotient(i, 2) != Remainder(i, 2)
    assert repr(3 * (i // 2) + i % 2) == "3*(i)/2 + (i)%2"


def test_along_an_empty_axis_nothing_is_asked() -> None:
    (i,) = variables((0,))
    assert i % 0 == 0
    assert i // 0 == 0


def test_equality_and_hash_go_by_value() -> None:
    i, j = variables((4, 5))
    assert i + j == j + i
    assert hash(i + j) == hash(j + i)
    assert i - i == 0
    assert len({i * 5 + j, j + i * 5}) == 1


def test_a_guard_that_always_holds_is_known_to() -> None:
    (i,) = variables((4,))
    assert Guard(i, 4, 1).always()
    assert not Guard(i - 1, 4, 1).always()
    assert not Guard(i, 3, 1).always()
    assert not Guard(i, 4, 2).always()


def test_loaded_indices_are_bounded_and_found_inside_quotients() -> None:
    data = Loaded("data", 10)
    expr = Expr({data: 1})
    assert expr.bounds() == (0, 9)
    assert list(((expr + 3) // 4).loaded()) == [data]


def test_data_that_is_the_same_in_every_iteration_is_a_beginning() -> None:
    i, j = variables((4, 5))
    same = Loaded(Number(dtypes.int64, 3), 10)
    strided = i * 5 + j + Expr({same: 20}) + 2
    assert strided.strided
    assert strided.beginning() == Expr({same: 20}, 2)
    differs = Loaded(Load(dtypes.int64, Node(INPUT, (), {}, Type((4,), dtypes.int64)), i), 10)
    assert not (i * 5 + Expr({differs: 20})).strided


def test_shapes_that_differ_in_axes_of_size_1_have_the_same_loops() -> None:
    i, j = variables((2, 3))
    assert variables((1, 2, 1, 3)) == (0, i, 0, j)
