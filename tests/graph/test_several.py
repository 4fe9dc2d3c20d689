"""Nodes of several results: printed, verified, differentiated by one rule, computed by NumPy and in programs alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.equations import print_graph, verify
from chainrule.errors import DtypeError, GradientError, VerifyError
from chainrule.graph import INPUT, Graph, Node, Op, Type
from chainrule.ops import elementwise as ew
from chainrule.several import RESULT, Several
from chainrule.tensor.core import apply_several

CALLS: list[tuple[bool, ...]] = []  # of the rule below: which gradients arrived


def _joint(dY: Any, Y: Any, x: Any) -> tuple[Any]:
    CALLS.append(tuple(d is not None for d in dY))
    parts = [d * slope for d, slope in zip(dY, (Y[1], -Y[0]), strict=True) if d is not None]
    return (parts[0] + parts[1] if len(parts) > 1 else parts[0],)


sine_and_cosine = Op(
    "sine_and_cosine", "elementwise",
    infer=lambda x: (x.type, x.type),
    numpy=lambda x: (np.sin(x), np.cos(x)),
    vjp=(),
    lower=lambda e, x: (e.sin(x), e.cos(x)),
    joint=_joint,
)  # fmt: skip


def both(x: cr.Tensor) -> tuple[cr.Tensor, ...]:
    return apply_several(sine_and_cosine, x)


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    CALLS.clear()


def _input(*shape: int) -> Node:
    return Node(INPUT, (), {}, Type(shape, cr.float32))


def _frexp(x: Node) -> Several:
    return Several(ew.frexp, (x,), {}, (x.type, Type(x.shape, cr.int32)))


def _picked(several: Node, position: int, type: Type) -> Node:
    return Node(RESULT, (several,), {"position": position}, type)


def test_the_printed_form_gives_a_tuple_of_types_and_picks_from_it() -> None:
    x = _input(2, 3)
    node = _frexp(x)
    graph = Graph([x], [node.result(position, None) for position in range(2)])
    assert print_graph(graph) == (
        "graph(in0: f32[2, 3]):\n"
        "  %0: (f32[2, 3], i32[2, 3]) = frexp(in0)\n"
        "  %1: f32[2, 3] = result(%0, position=0)\n"
        "  %2: i32[2, 3] = result(%0, position=1)\n"
        "  return %1, %2\n"
    )
    verify(graph)


def test_the_verifier_holds_every_result_to_the_type_of_its_rule() -> None:
    x = _input(2)
    node = _frexp(x)
    wrong = Several(ew.frexp, (x,), {}, (x.type, x.type))
    cases = [
        (_picked(node, 1, x.type), "<result: f32[2]> should be i32[2]"),
        (_picked(wrong, 0, x.type), "<frexp: (f32[2], f32[2])> should be (f32[2], i32[2])"),
        (Node(ew.neg, (node,), {}, x.type), "<neg: f32[2]> reads several results as one"),
        (_picked(x, 0, x.type), "<result: f32[2]> picks from one result"),
        (_picked(node, 2, x.type), "<result: f32[2]> picks result 2 of 2"),
    ]
    for output, text in cases:
        with pytest.raises(VerifyError) as caught:
            verify(Graph([x], [output]))
        assert text in str(caught.value)


def test_whoever_takes_several_results_for_one_value_finds_none() -> None:
    node = _frexp(_input(2))
    for name in ("shape", "dtype", "type"):
        with pytest.raises(AttributeError):
            getattr(node, name)


@pytest.mark.parametrize("compiled", [False, True])
def test_one_rule_serves_all_results_that_are_used(compiled: bool) -> None:
    def gradient(loss: Any) -> Any:
        found = cr.grad(loss)
        return (cr.compile(found) if compiled else found)(cr.tensor([0.3, -2.0]))

    at = np.array([0.3, -2.0])
    np.testing.assert_allclose(gradient(lambda x: (both(x)[0]).sum()), np.cos(at), rtol=1e-6)
    assert CALLS == [(True, False)]
    np.testing.assert_allclose(gradient(lambda x: (both(x)[1] * 3).sum()), -3 * np.sin(at), rtol=1e-6)
    assert CALLS[1:] == [(False, True)]

    def each(x: cr.Tensor) -> cr.Tensor:
        s, c = both(x)
        return (s * c + s).sum()  # the sine is read twice

    np.testing.assert_allclose(gradient(each), np.cos(2 * at) + np.cos(at), rtol=2e-6)
    assert CALLS[2:] == [(True, True)]


def test_higher_derivatives_pass_through_the_results() -> None:
    def f(x: cr.Tensor) -> cr.Tensor:
        return both(x)[0].sum()

    x = cr.tensor(0.7, dtype=cr.float64)
    third = cr.grad(cr.grad(cr.grad(f)))
    assert third(x).item() == pytest.approx(-np.cos(0.7))
    assert cr.compile(third)(x).item() == pytest.approx(-np.cos(0.7))
    _, moved = cr.jvp(lambda x: both(x)[0] * both(x)[1], (x,), (cr.tensor(1.0, dtype=cr.float64),))
    assert moved.item() == pytest.approx(np.cos(1.4))
    assert cr.hessian(lambda x: (both(x)[0] * both(x)[1]).sum())(x).item() == pytest.approx(-2 * np.sin(1.4))


def test_a_tensor_that_only_unused_results_depend_on_gets_no_gradient() -> None:
    x = cr.tensor([1.0], requires_grad=True)
    exponent = x.frexp().exponent
    assert not exponent.requires_grad
    (exponent.float() * x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0]


def test_nothing_is_kept_without_a_history() -> None:
    x = cr.tensor([1.0, 6.0], requires_grad=True)
    with cr.no_grad():
        assert not any(y._node.inputs for y in x.frexp())
    assert not any(y._node.inputs for y in x.detach().frexp())


def test_a_freed_history_is_reported_for_every_result() -> None:
    x = cr.tensor([1.0], requires_grad=True)
    s, c = both(x)
    s.sum().backward()
    (made,) = c._node.inputs
    assert isinstance(made, Several)
    assert (made.inputs, made.values) == ((), None)  # nor does the other result keep anything
    with pytest.raises(GradientError, match=r"^backward: the history.* was freed by an earlier backward pass"):
        c.sum().backward()


def test_results_of_nothing() -> None:
    x = cr.zeros(0, 3)
    for f in (lambda x: x.frexp(), cr.compile(lambda x: x.frexp())):
        found = f(x)
        assert [(y.shape, y.dtype) for y in found] == [((0, 3), cr.float32), ((0, 3), cr.int32)]


def test_integers_have_no_mantissa() -> None:
    expected = r"^frexp \(.*\): needs a floating-point tensor, got int64. Convert it with .float\(\).$"
    for f in (cr.frexp, cr.compile(cr.frexp)):
        with pytest.raises(DtypeError, match=expected):
            f(cr.tensor([1, 2]))


@pytest.mark.parametrize(("dtype", "denormal"), [(cr.float32, 1e-40), (cr.float64, 1e-310)])
def test_a_compiled_frexp_takes_a_denormal_for_zero(dtype: cr.dtype, denormal: float) -> None:
    mantissa, exponent = cr.compile(lambda x: tuple(cr.frexp(x)))(cr.tensor([denormal, -denormal, 6.0], dtype=dtype))
    assert [str(part) for part in mantissa.tolist()] == ["0.0", "-0.0", "0.75"]
    assert exponent.tolist() == [0, 0, 3]
