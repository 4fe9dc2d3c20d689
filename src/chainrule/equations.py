"""A graph as equations: printed, and verified.

Grammar of the printed form (golden files in ``tests/compiler/golden``)::

    graph    := "graph(" input {", " input} "):" {equation} "return" name {", " name}
    input    := name ": " type
    equation := name ": " result " = " op "(" operand {", " operand} {", " key "=" value} ")" ["  # " layer] {region}
    region   := key graph, indented under its equation
    result   := type | "(" type {", " type} ")"
    operand  := name | literal
    type     := dtype "[" size {", " size} "]"              dtype := f32 f64 bf16 i32 i64 u8 bool

A node of several results has a tuple of types; ``result(%3, position=1)`` picks one of them. The names in a region are
its own: what it reads from outside are the inputs of its equation, in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chainrule.dtypes import DType
from chainrule.errors import DtypeError, IndexRangeError, ShapeError, VerifyError
from chainrule.graph import CONST, INPUT, LEAF, RELEASED, Graph, Node, subgraphs
from chainrule.several import RESULT, Several, type_text


def format_params(params: dict[str, Any]) -> str:
    return "".join(f", {key}={_format_value(value)}" for key, value in params.items())


def _format_value(value: Any) -> str:
    if isinstance(value, DType):
        return value.short
    if hasattr(value, "_fields"):  # a named tuple
        return "(" + format_params(value._asdict())[2:] + ")"
    if isinstance(value, tuple):
        return "[" + ", ".join(_format_value(item) for item in value) + "]"
    return repr(value)


def print_graph(graph: Graph, provenance: bool = True) -> str:
    """The graph as text, one equation a line, names stable from run to run."""
    return "\n".join(_lines(graph, provenance)) + "\n"


def _lines(graph: Graph, provenance: bool) -> list[str]:
    names = dict(graph.names)
    for position, node in enumerate(graph.inputs):
        names.setdefault(node, f"in{position}")
    equations: list[tuple[str, Node]] = []
    for node in graph.nodes():
        if node in names:
            continue
        if node.op is CONST:
            names[node] = repr(node.params["value"])
            continue
        names[node] = f"%{len(equations)}"
        operands = ", ".join(names[source] for source in node.inputs)
        parameters = format_params({key: value for key, value in node.params.items() if not isinstance(value, Graph)})
        text = (
            f"{names[node]}: {type_text(node)} = {node.op.name}({operands}{parameters if operands else parameters[2:]})"
        )
        equations.append((text, node))
    width = max((len(text) for text, node in equations if provenance and node.layer), default=0)
    lines = [f"graph({', '.join(f'{names[node]}: {node.type}' for node in graph.inputs)}):"]
    for text, node in equations:
        lines.append(f"  {text:{width}}  # {node.layer}".rstrip() if provenance and node.layer else f"  {text}")
        lines += [f"    {line}" for region in _regions(node, provenance) for line in region]
    lines.append(f"  return {', '.join(names[node] for node in graph.outputs)}")
    return lines


def _regions(node: Node, provenance: bool) -> Iterator[list[str]]:
    for key, value in node.params.items():
        if isinstance(value, Graph):
            first, *rest = _lines(value, provenance)
            yield [f"{key} {first}", *rest]


def verify(graph: Graph, stage: str = "graph") -> None:
    """Raise `VerifyError` unless every node is bound, typed by its op's rule, and made of known inputs."""
    inputs = set(graph.inputs)
    if len(inputs) != len(graph.inputs):
        raise VerifyError(f"{stage}: an input stands twice in the list of inputs. This is a bug in chainrule.")
    for node in graph.nodes():
        if node.op is INPUT and node not in inputs:
            raise VerifyError(f"{stage}: {node!r} is read but is not an input. This is a bug in chainrule.")
        if node.op is RELEASED:
            raise VerifyError(f"{stage}: {node!r} has lost its history. This is a bug in chainrule.")
        _verify_results(node, stage)
        if node.op.kind != "source":
            _verify_type(node, stage)
        elif node.inputs:
            raise VerifyError(f"{stage}: {node!r} is a source but has inputs. This is a bug in chainrule.")
        elif node.op is LEAF and node._value is None:
            raise VerifyError(f"{stage}: {node!r} has no value. This is a bug in chainrule.")
        for region in subgraphs(node):
            _verify_region(region, f"{stage}, in {node.op.name}")


def _verify_region(region: Graph, stage: str) -> None:
    """A region is closed: what it reads are its own inputs, and no array from outside stands in it."""
    verify(region, stage)
    for node in region.nodes():
        if node.op is LEAF:
            raise VerifyError(f"{stage}: {node!r} is a value from outside. This is a bug in chainrule.")


def _verify_results(node: Node, stage: str) -> None:
    """Several results are read by the nodes that pick them, and by nobody else."""
    fault = ""
    if node.op is not RESULT:
        fault = "reads several results as one" if any(isinstance(x, Several) for x in node.inputs) else ""
    elif not isinstance(several := node.inputs[0], Several):
        fault = "picks from one result"
    elif not 0 <= node.params["position"] < len(several.types):
        fault = f"picks result {node.params['position']} of {len(several.types)}"
    if fault:
        raise VerifyError(f"{stage}: {node!r} {fault}. This is a bug in chainrule.")


def _verify_type(node: Node, stage: str) -> None:
    try:
        expected = node.op.infer(*node.inputs, **node.params)
    except (ShapeError, DtypeError, IndexRangeError) as error:
        raise VerifyError(f"{stage}: {node!r} does not fit its inputs: {error}") from error
    if expected != (node.types if isinstance(node, Several) else node.type):
        raise VerifyError(f"{stage}: {node!r} should be {type_text(expected)}. This is a bug in chainrule.")
