"""Formulas are read off the ops' own rules: known ones by their text, and every op without a fault."""

import re

import numpy as np
import pytest

from chainrule import graph, ops
from chainrule.compiler.frontend.trace import Trace
from chainrule.explain.report import mathml
from chainrule.explain.verify.trials import trials
from chainrule.graph import INPUT, Node, Type
from chainrule.ops import contraction, elementwise, reduction, shaping


def text(tree):
    """A formula in one line."""
    if isinstance(tree, str):
        return tree
    tag, *rest = tree
    parts = [text(child) for child in rest if not isinstance(child, dict)]
    if tag == "mfrac":
        return f"({parts[0]})/({parts[1]})"
    if tag == "msup":
        return f"{parts[0]}^{parts[1]}"
    return "".join(parts).replace("\u2062", " ").replace("\u2061", "")


def node(op, *shapes, **params):
    from chainrule import dtypes

    trace = Trace()
    with graph.recording(trace):
        inputs = tuple(Node(INPUT, (), {}, Type(shape, dtypes.float32), trace=trace) for shape in shapes)
        return Node(op, inputs, params, op.infer(*inputs, **params), trace=trace)


@pytest.mark.parametrize(
    ("made", "argument", "formula", "reads"),
    [
        (node(elementwise.mul, (3,), (3,)), 0, "da=dY·b", ["dY", "b"]),
        (node(elementwise.sub, (3,), (3,)), 1, "db=\u2212dY", ["dY"]),
        (node(elementwise.exp, (3,)), 0, "dx=dY·Y", ["dY", "Y"]),
        (node(elementwise.tanh, (3,)), 0, "dx=dY·(\u03c3(2·x)·\u03c3(\u22122·x)·4)", ["dY", "x"]),
        (node(elementwise.relu, (3,)), 0, "dx={0if Y≤0dYotherwise", ["dY", "Y"]),
        (node(elementwise.div, (3,), (3,)), 1, "db=\u2212dY·(Y)/(b)", ["dY", "Y", "b"]),
        (node(contraction.matmul, (2, 3), (3, 4)), 0, "da=dY b^T", ["dY", "b"]),
        (node(contraction.matmul, (2, 3), (3, 4)), 1, "db=a^T dY", ["dY", "a"]),
        (node(reduction.sum, (2, 3), dims=(1,)), 0, "dx=dY", ["dY"]),
        (node(shaping.permute, (2, 3), dims=(1, 0)), 0, "dx=dY^T", ["dY"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_known_rules(made, argument, formula, reads):
    found = mathml.backward(made, argument)
    assert found is not None
    assert text(found.tree) == formula
    assert found.reads == reads


@pytest.mark.parametrize("name", [name for name, op in ops.ALL.items() if trials(op)])
def test_every_op_is_typeset_and_its_formula_names_only_its_own_values(name):
    op = ops.ALL[name]
    from chainrule import dtypes

    trial = trials(op)[0]
    shapes = [(np.shape(array), np.asarray(array).dtype.name) for array in trial.arrays]
    trace = Trace()
    with graph.recording(trace):
        inputs = tuple(Node(INPUT, (), {}, Type(shape, dtypes.as_dtype(dtype)), trace=trace) for shape, dtype in shapes)
        made = Node(op, inputs, trial.params, op.infer(*inputs, **trial.params), trace=trace)
    known = {"Y", "dY", *mathml.names_of(len(inputs)), *(f"d{n}" for n in mathml.names_of(len(inputs)))}
    trees = [mathml.forward(made).tree]
    trees += [found.tree for i in range(len(inputs)) if (found := mathml.backward(made, i)) is not None]
    for tree in trees:
        markup = mathml.markup(tree)
        assert re.fullmatch(r"(<[a-z]+( [a-z-]+=\"[^\"<>]*\")*>|</[a-z]+>|[^<>])+", markup)
        assert set(re.findall(r'data-name="([^"]*)"', markup)) <= known


def test_a_rule_that_asks_for_values_has_no_formula_rather_than_a_wrong_one():
    made = node(elementwise.custom, (3,), (3,), rule=lambda dY, Y, x: (dY * float(x.sum()),))
    assert mathml.backward(made, 1) is None


def test_markup_escapes_whatever_stands_in_it():
    assert mathml.markup(["mi", {"data-name": '"><script>'}, "<b>&"]) == (
        '<mi data-name="&quot;&gt;&lt;script&gt;">&lt;b&gt;&amp;</mi>'
    )
