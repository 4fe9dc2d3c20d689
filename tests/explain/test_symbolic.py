"""The derivative of one element by another in symbols, as it is read off the rules that run."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.explain.symbolic import local
from chainrule.tensor.core import apply

WORDS = {
    "pi": math.pi, "sqrt": math.sqrt, "sin": math.sin, "cos": math.cos, "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "exp": math.exp, "log": lambda x: math.log(x) if x > 0 else math.nan, "sign": lambda x: float(np.sign(x)),
}  # fmt: skip
NAMES = {1: "x", 2: "ab", 3: "cab"}
ELEMENTWISE = [op for op in ops.ALL.values() if op.kind == "elementwise" and op.joint is None and any(op.vjp)]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_the_text_is_the_derivative(op):
    """The text, number by number, against the rule that is differentiated with, kinks and ties included."""
    rng = np.random.default_rng(2)
    inputs = [rng.uniform(0.2, 2.0, 40) for _ in op.vjp]
    if op.name == "where":
        inputs[0] = inputs[0] > 1
    else:
        inputs = [np.concatenate([x, [1.0, 2.0]]) for x in inputs]  # ties
        if op.name not in ("pow", "log", "log1p", "sqrt", "rsqrt", "remainder"):
            inputs[0] = inputs[0] * rng.choice([-1.0, 1.0], len(inputs[0]))
    params = {"dtype": cr.float64} if op.name == "cast" else {}
    tensors = [cr.tensor(x, requires_grad=x.dtype.kind == "f") for x in inputs]
    Y = apply(op, *tensors, **params)
    for argument, rule in enumerate(op.vjp):
        text = local(Y._node, argument)
        if rule is None:
            assert text == "0"
            continue
        expected = rule(cr.ones_like(Y), Y, *tensors, **params).detach().numpy()
        for i in range(len(expected)):
            names = dict(zip(NAMES[len(inputs)], (x[i] for x in inputs), strict=True))
            found = eval(text, {"__builtins__": {}}, {**WORDS, **names, "Y": Y.detach().numpy()[i]})
            assert found == pytest.approx(expected[i], rel=1e-12), (text, names)


x = cr.tensor([[1.0, 2.0], [3.0, 3.0]], requires_grad=True)
w = cr.tensor([[1.0], [2.0]], requires_grad=True)
at = cr.tensor([0, 1])


@pytest.mark.parametrize(
    ("result", "argument", "text"),
    [
        (x @ w, 0, "b"),
        (x @ w, 1, "a"),
        (x - w, 1, "-1"),
        (x / w, 0, "1 / b"),
        (x / w, 1, "-Y / b"),
        (x.sqrt(), 0, "1 / (2 * Y)"),
        (x.remainder(w), 1, "-(a // b)"),
        (x.erf(), 0, "2 / sqrt(pi) * exp(-x * x)"),
        (x.relu(), 0, "0 if Y <= 0 else 1"),
        (x.maximum(w), 0, "1 / 2 if a == b else 0 if a < b else 1"),
        (x.amax(1), 0, "(x == Y) / sum(x == Y)"),
        (x.sum(0), 0, "1"),
        (x.t(), 0, "1"),
        (x[1:], 0, "1"),
        (x[at], 0, "1"),
        (cr.cat([x, x]), 1, "1"),
        (x.index_add(0, at, x), 0, "1"),
        (x.index_add(0, at, x), 1, "1"),
    ],
)
def test_a_text_for_people(result, argument, text):
    assert local(result._node, argument) == text


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (lambda dY, Y, x: dY * (1 / x * Y), "1 / x * Y"),
        (lambda dY, Y, x: dY * Y * (1 / x), "Y / x"),
        (lambda dY, Y, x: dY / x / Y, "1 / x / Y"),
        (lambda dY, Y, x: dY / (x / Y), "1 / (x / Y)"),
        (lambda dY, Y, x: -(dY * (x + Y)), "-(x + Y)"),
        (lambda dY, Y, x: dY * (x - (Y - x)), "x - (Y - x)"),
        (lambda dY, Y, x: dY * (-x) ** 2.5, "(-x) ** 2.5"),
        (lambda dY, Y, x: dY * (x**1.5) ** 2.5, "(x ** 1.5) ** 2.5"),
        (lambda dY, Y, x: dY * Y - dY * x, "Y - x"),
        (lambda dY, Y, x: dY.where(~(x > 0), 0) * Y, "(1 if not x > 0 else 0) * Y"),
    ],
)
def test_parentheses_keep_the_meaning(rule, text, monkeypatch):
    made = x.exp()._node
    monkeypatch.setattr(type(made.op), "rule", lambda op, argument: rule)
    assert local(made, 0) == text
