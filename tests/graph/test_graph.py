"""The verifier finds what breaks the grammar; walks do not recurse."""

import pytest

import chainrule as cr
from chainrule.equations import print_graph, verify
from chainrule.errors import VerifyError
from chainrule.graph import INPUT, Graph, Node, Type
from chainrule.ops import elementwise as ew


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
