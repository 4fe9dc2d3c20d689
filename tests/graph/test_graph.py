"""The verifier finds what breaks the grammar; walks do not recurse."""

import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.control.loop import Form, scan_op
from chainrule.equations import print_graph, verify
from chainrule.errors import VerifyError
from chainrule.graph import INPUT, LEAF, Graph, Node, Type
from chainrule.ops import elementwise as ew
from chainrule.several import Several


def an_input(*shape: int) -> Node:
    return Node(INPUT, (), {}, Type(shape, cr.float32))


def added(a: Node, b: Node, *shape: int, dtype: cr.DType = cr.float32) -> Node:
    return Node(ew.add, (a, b), {}, Type(shape, dtype))


a, b = an_input(2), an_input(3, 2)


def test_a_graph_that_keeps_the_grammar():
    graph = Graph([a, b], [added(a, b, 3, 2)])
    verify(graph)
    assert print_graph(graph) == "graph(in0: f32[2], in1: f32[3, 2]):\n  %0: f32[3, 2] = add(in0, in1)\n  return %0\n"


@pytest.mark.parametrize(
    ("graph", "text"),
    [
        (Graph([a], [added(a, b, 3, 2)]), "is read but is not an input"),
        (Graph([a, a], [a]), "an input stands twice"),
        (Graph([a, b], [added(a, b, 2)]), "should be f32[3, 2]"),
        (Graph([a, b], [added(a, b, 3, 2, dtype=cr.float64)]), "should be f32[3, 2]"),
        (Graph([a], [added(a, Node(INPUT, (), {}, Type((5,), cr.float32)), 5)]), "is read but is not an input"),
    ],
)
def test_a_broken_graph_is_found(graph: Graph, text: str):
    with pytest.raises(VerifyError) as caught:
        verify(graph, "after fusion")
    assert text in str(caught.value)
    assert str(caught.value).startswith("after fusion: ")


def test_a_long_chain_is_printed_and_verified():
    node = a
    for _ in range(20_000):
        node = added(node, a, 2)
    graph = Graph([a], [node])
    verify(graph)
    assert print_graph(graph).count("\n") == 20_002


def test_a_region_that_reads_what_is_outside_or_gives_another_type_is_found() -> None:
    h, w = (Node(INPUT, (), {}, Type((2,), cr.float32)) for _ in range(2))
    inner = [Node(INPUT, (), {}, Type((2,), cr.float32)) for _ in range(2)]

    def loop(inputs: list[Node], output: Node) -> Graph:
        body = Graph(inputs, [output])
        xs = Node(INPUT, (), {}, Type((3, 2), cr.float32))
        params = {"body": body, "form": Form(1, 1, 3, False)}
        node = Several(scan_op, (h, xs), params, (Type((2,), cr.float32),))
        return Graph([h, xs, w], [node.result(0, None)])

    verify(loop(inner, added(*inner, 2)))
    assert "    body graph(in0: f32[2], in1: f32[2]):\n" in print_graph(loop(inner, added(*inner, 2)))
    constant = Node(LEAF, (), {}, Type((2,), cr.float32), np.zeros(2, np.float32))
    for graph, text in [
        (loop(inner, added(inner[0], w, 2)), "in scan: <input: f32[2]> is read but is not an input"),
        (loop(inner, added(inner[0], constant, 2)), "in scan: <leaf: f32[2]> is a value from outside"),
        (loop(inner, added(*inner, 3)), "the carries must stay (f32[2]), got (f32[3])"),
        (
            loop(inner, Node(ew.cast, (inner[0],), {"dtype": cr.float64}, Type((2,), cr.float64))),
            "the carries must stay (f32[2])",
        ),
        (loop([*inner, w], inner[0]), "the inputs must be"),
    ]:
        with pytest.raises(VerifyError, match=re.escape(text)):
            verify(graph)
