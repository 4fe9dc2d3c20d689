"""A graph that was traced for two numbers of rows, node by node in ONNX: what its sizes are, and the graphs within its nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import onnx
from onnx import helper

from chainrule.dtypes import as_stored
from chainrule.errors import SettingError
from chainrule.graph import CONST, Graph, Node
from chainrule.interop.onnx.lowerings import lower
from chainrule.interop.onnx.writer import Size, Step, TimesRows, Writer, element
from chainrule.ops import contraction, shaping
from chainrule.ops import elementwise as ew
from chainrule.several import RESULT, Several

COUNTS = 7, 11  # rows, of which what depends on them is told apart


class Nodes:
    """The nodes of a graph for one number of rows, with their twins in that for another.

    Args:
        writer: what they are written to.
        first, last: the nodes for either number, each after what it reads.
        returned: those of the first that the graph gives.
    """

    def __init__(self, writer: Writer, first: Sequence[Node], last: Sequence[Node], returned: Iterable[Node]) -> None:
        self.writer, self.nodes, self.returned = writer, list(first), set(returned)
        self.values: dict[Node, str] = {}
        self.results: dict[Node, list[str]] = {}  # of a node of several
        self._check_alike(first, last)
        self.twin = dict(zip(first, last, strict=True))
        self.readers: dict[Node, list[Node]] = {node: [] for node in first}
        for node in first:
            for source in node.inputs:
                self.readers[source].append(node)

    def _check_alike(self, first: Sequence[Node], last: Sequence[Node]) -> None:
        places = [{node: i for i, node in enumerate(nodes)} for nodes in (first, last)]
        same = len(first) == len(last) and all(
            x.op is y.op and _kinds(x) == _kinds(y)
            and [places[0][s] for s in x.inputs] == [places[1][s] for s in y.inputs]
            for x, y in zip(first, last, strict=True)
        )  # fmt: skip
        if not same:
            raise SettingError(
                "onnx.export: the model does something else for another number of rows. Export it for one number of rows: "
                "dynamic_axes={}."
            )

    # ---------------------------------------------------------------- sizes

    def _size(self, a: int, b: int, node: Node) -> Size:
        """A size that is `a` for the first number of rows and `b` for the second."""
        if a == b:
            return a
        if a * COUNTS[1] == b * COUNTS[0] and a % COUNTS[0] == 0:
            return TimesRows(a // COUNTS[0])
        raise SettingError(
            f"onnx.export: {node.op.name}{node.whereabouts()} has a size of {a} for {COUNTS[0]} rows and {b} for {COUNTS[1]}: "
            f"no multiple of their number. Export the model for one number of rows: dynamic_axes={{}}."
        )

    def _sizes(self, node: Node) -> list[Size]:
        return [self._size(a, b, node) for a, b in zip(node.shape, self.twin[node].shape, strict=True)]

    def _params(self, node: Node) -> dict[str, Any]:
        other = self.twin[node].params
        return {name: self._param(node, name, value, other[name]) for name, value in node.params.items()}

    def _param(self, node: Node, name: str, a: Any, b: Any) -> Any:
        if a is b or name == "rule":
            return a
        if isinstance(a, tuple):
            return tuple(self._param(node, name, x, y) for x, y in zip(a, b, strict=True))
        if name in ("shape", "stop", "size"):
            return self._size(a, b, node)
        if a != b:
            raise self._depends(node, f"{name}={a!r} for {COUNTS[0]} rows and {b!r} for {COUNTS[1]}")
        return a

    def _depends(self, node: Node, what: str) -> SettingError:
        node = self.readers[node][0] if node.op.kind == "source" and self.readers[node] else node
        return SettingError(
            f"onnx.export: {node.op.name}{node.whereabouts()} depends on the number of rows ({what}). Export the model for one "
            f"number of rows (dynamic_axes={{}}), or leave that out of forward."
        )

    # ---------------------------------------------------------------- nodes

    def write(self) -> None:
        """All of them."""
        for node in self.nodes:
            if not self._within_gemm(node):
                self.writer.layer = node.layer
                self._write(node)

    def _write(self, node: Node) -> None:
        if node.op.name == "scan":
            self.results[node] = self._scan(node)
        elif node.op is RESULT:
            self.values[node] = self.results[node.inputs[0]][node.params["position"]]
        else:
            self.values[node] = self._source(node) or self._product(node) or self._lowered(node)

    def _source(self, node: Node) -> str | None:
        """The name of what no node computes; None: one does."""
        if node.op is CONST:
            return self.writer.constant(as_stored(self._params(node)["value"], node.dtype))
        return None

    def _lowered(self, node: Node) -> str:
        step = Step(node, self._sizes(node), [self._sizes(source) for source in node.inputs], self._params(node))
        return lower(self.writer, step, *(self.values[source] for source in node.inputs))

    def entry(self, name: str, node: Node) -> onnx.ValueInfoProto:
        """What ONNX says of a value that goes into a graph or comes out of it."""
        sizes = [_label(size) if isinstance(size, TimesRows) else size for size in self._sizes(node)]
        return helper.make_tensor_value_info(name, element(node.dtype), sizes)

    # ---------------------------------------------------------------- loops

    def _scan(self, node: Node) -> list[str]:
        """ONNX's Scan, whose graph reads what every step reads by its name outside. It needs an array to go along."""
        form, other = node.params["form"], self.twin[node].params["form"]
        consts, carries, slices = form.parts([self.values[source] for source in node.inputs])
        name = self.writer.name("Scan")
        body = _Body(self.writer.within(f"{name}/"), node.params["body"], self.twin[node].params["body"])
        along = [] if slices else [self.writer.counted(self._size(form.length, other.length, node))]
        made = body.graph(consts, form.carries, bool(along))
        results = [f"{name}_out_{i}" for i in range(len(made.output))]
        back = int(form.reverse)
        ways = {"scan_input_directions": [back] * (len(slices) + len(along))}
        if len(results) > form.carries:  # an attribute is no empty list
            ways["scan_output_directions"] = [back] * (len(results) - form.carries)
        self.writer.op(
            "Scan", *carries, *slices, *along, name=name, outputs=results, body=made,
            num_scan_inputs=len(slices) + len(along), **ways,
        )  # fmt: skip
        return results

    # ---------------------------------------------------------------- x W^T + b as one Gemm

    def _weight_of(self, node: Node) -> Node | None:
        """The W of ``x W^T`` for x of two axes."""
        if node.op is not contraction.matmul or len(node.inputs[0].shape) != 2:
            return None
        turned = node.inputs[1]
        return turned.inputs[0] if turned.op is shaping.permute and turned.params["dims"] == (1, 0) else None

    def _biased(self, product: Node) -> Node | None:
        """The addition of a bias to ``x W^T``, where nothing else reads that."""
        readers = self.readers[product]
        if self._weight_of(product) is None or len(readers) != 1 or product in self.returned:
            return None
        add = readers[0]
        fits = add.op is ew.add and add.inputs[0] is product and len(add.inputs[1].shape) == 1
        return add if fits and add.inputs[1].shape[0] in (1, product.shape[1]) else None

    def _within_gemm(self, node: Node) -> bool:
        if node.op is shaping.permute:
            readers = self.readers[node]
            return node not in self.returned and all(self._weight_of(r) and r.inputs[1] is node for r in readers)
        return self._biased(node) is not None

    def _product(self, node: Node) -> str | None:
        product, bias = node, []
        if node.op is ew.add and self._biased(node.inputs[0]) is node:
            product, bias = node.inputs[0], [self.values[node.inputs[1]]]
        weight = self._weight_of(product)
        if weight is None:
            return None
        return self.writer.op("Gemm", self.values[product.inputs[0]], self.values[weight], *bias, transB=1)


class _Body(Nodes):
    """The graph within a node, of one step."""

    def __init__(self, writer: Writer, first: Graph, last: Graph) -> None:
        super().__init__(writer, _from_inputs(first), _from_inputs(last), first.outputs)
        self.inputs, self.outputs = first.inputs, first.outputs

    def graph(self, consts: Sequence[str], carries: int, along: bool) -> onnx.GraphProto:
        """It in ONNX.

        Args:
            consts: the names, outside, of the first inputs.
            carries: how many of the others begin each step as the one before left them.
            along: is there an array that steps go along and none reads?
        """
        own = self.inputs[len(consts) :]
        names = [self.writer.name(f"in_{i}") for i in range(len(own))]
        self.values.update(zip(self.inputs, [*consts, *names], strict=True))
        self.write()
        self.writer.layer = ""
        outputs = [self.writer.op("Identity", self.values[node]) for node in self.outputs]
        entries = [self.entry(name, node) for name, node in zip(names, own, strict=True)]
        if along:
            entries.append(helper.make_tensor_value_info(self.writer.name("step"), onnx.TensorProto.INT64, []))
        results = [self.entry(name, node) for name, node in zip(outputs, self.outputs, strict=True)]
        return helper.make_graph(self.writer.nodes, self.writer.name("body"), entries, results)

    def _write(self, node: Node) -> None:
        if node not in self.values:  # no input
            super()._write(node)


def _from_inputs(body: Graph) -> list[Node]:
    """Its nodes, the inputs first, those too that nothing reads."""
    inputs = set(body.inputs)
    return [*body.inputs, *(node for node in body.nodes() if node not in inputs)]


def _kinds(node: Node) -> list[tuple[Any, int]]:
    """The dtype and the number of axes of each result."""
    types = node.types if isinstance(node, Several) else (node,)
    return [(each.dtype, len(each.shape)) for each in types]


def _label(size: TimesRows) -> str:
    return "batch" if size.times == 1 else f"{size.times}*batch"
