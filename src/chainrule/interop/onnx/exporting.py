"""From a module to an ONNX file: its graph, traced for two numbers of rows, so that what depends on them is known and not guessed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from chainrule import graph
from chainrule.compiler.frontend import pytree
from chainrule.compiler.frontend.trace import Trace, trace_function
from chainrule.dtypes import as_stored
from chainrule.errors import SettingError, ShapeError
from chainrule.files.document import short
from chainrule.files.writing import write_whole
from chainrule.graph import CONST, INPUT, LEAF, Node, Type
from chainrule.interop.onnx.lowerings import ABSENT, lower
from chainrule.interop.onnx.writer import Size, Step, TimesRows, Writer, element, refuse
from chainrule.names import takes_keywords
from chainrule.nn import Module
from chainrule.nn.compiled import bare
from chainrule.ops import contraction, shaping
from chainrule.ops import elementwise as ew
from chainrule.tensor.core import Handle, lifted, wrap
from chainrule.tensor.functions import no_grad
from chainrule.training.inputs import evaluating
from chainrule.version import __version__

OPSET, IR = 18, 8  # of late 2022: every runtime since takes them
COUNTS = 7, 11  # rows, of which what depends on them is told apart
MOST = (1 << 31) - 1  # bytes of one protobuf message
Array = np.ndarray[Any, Any]


@takes_keywords("")
def export(
    model: Module, args: Any, f: str | os.PathLike[str] | None = None, *, input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None, dynamic_axes: Mapping[str, Any] | None = None, opset_version: int = OPSET,
    metadata: Mapping[str, str] | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """A model as an ONNX file (opset 18), for onnxruntime and whatever else reads that.

    The forward pass in evaluation mode, walked op by op: any module whose `forward` can be traced, of your own classes too.
    The first axis of every input is the batch, of any length. Weights stand under their names.

    Args:
        model: the module; its mode is as it was afterwards.
        args: an input, or a tuple of several, whose shapes and dtypes count.
        f: the file, replaced only once the new one is complete; None: only give the model.
        input_names, output_names: of the graph; ``input``, ``output`` and, of several, ``input_0`` ... where left out.
        dynamic_axes: as in PyTorch, ``{"input": {0: "batch"}}``; only axis 0 may be dynamic. None: axis 0 of every
            input is; ``{}``: none is.
        opset_version: 18.
        metadata: texts to keep in the file.

    Raises:
        SettingError: the model does what ONNX cannot say, named by op and layer; or an argument cannot be.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn, onnx
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> made = onnx.export(model, cr.zeros(1, 4))
        >>> [node.op_type for node in made.graph.node], [weight.name for weight in made.graph.initializer]
        (['Gemm', 'Relu', 'Gemm'], ['0.weight', '0.bias', '2.weight', '2.bias'])
    """
    if not isinstance(model, Module):
        raise SettingError(f"onnx.export: model must be an nn.Module, got {type(model).__name__}. Pass the module.")
    if opset_version != OPSET:
        raise SettingError(f"onnx.export: opset_version must be {OPSET}, got {opset_version!r}. Leave it out.")
    leaves: list[Handle] = []
    pytree.flatten(tuple(args) if isinstance(args, (tuple, list)) else (args,), leaves)
    if not leaves and not (isinstance(args, (tuple, list)) and not args):
        raise SettingError(
            f"onnx.export: args must be an input of the model, or a tuple of several, tensors or arrays, got {short(args)}. "
            f"Write onnx.export(model, cr.zeros(1, 4), 'model.onnx') for one that takes rows of 4 numbers."
        )
    names = _names("input", len(leaves), input_names)
    dynamic = _dynamic(names, leaves, dynamic_axes)
    with evaluating(model), no_grad():
        traced = _traced(bare(model), leaves, dynamic)
    made = _Export(traced, names, dynamic, bare(model)).model(output_names, metadata or {})
    data = made.SerializeToString() if made.ByteSize() <= MOST else None
    if data is None:
        raise SettingError(
            f"onnx.export: the model has {made.ByteSize():,} bytes, more than the {MOST:,} of one ONNX file."
        )
    onnx.checker.check_model(made, full_check=True)
    if f is not None:
        write_whole(f, data)
    return made


def _names(kind: str, count: int, given: Sequence[str] | None) -> list[str]:
    if given is None:
        return [kind] if count == 1 else [f"{kind}_{i}" for i in range(count)]
    names = [given] if isinstance(given, str) else list(given)
    if len(names) != count or len(set(names)) < count or not all(isinstance(name, str) and name for name in names):
        raise SettingError(f"onnx.export: {kind}_names must be {count} different names, got {names!r}.")
    return names


def _dynamic(names: list[str], leaves: list[Handle], axes: Mapping[str, Any] | None) -> list[bool]:
    """Of each input, whether its first axis may have any length."""
    if axes is None:
        return [bool(leaf.shape) for leaf in leaves]
    for name, found in axes.items():
        if list(found) not in ([0], []):
            raise SettingError(
                f"onnx.export: dynamic_axes: only axis 0 can have any length, got {found!r} for {name!r}. Write {{{name!r}: {{0: 'batch'}}}}."
            )
    return [bool(axes.get(name)) for name in names]


def _traced(model: Module, leaves: list[Handle], dynamic: list[bool]) -> list[_Traced]:
    try:
        return [_Traced(model, leaves, dynamic, count) for count in (COUNTS if any(dynamic) else COUNTS[:1])]
    except ShapeError:
        _Traced(model, leaves, [False] * len(leaves), 1)  # may say it of the shapes that were given
        raise


class _Traced:
    """The graph of a model for some number of rows."""

    def __init__(self, model: Module, leaves: list[Handle], dynamic: list[bool], count: int) -> None:
        kinds = [
            Type((count, *x.shape[1:]) if many else x.shape, x.dtype) for x, many in zip(leaves, dynamic, strict=True)
        ]
        given: list[Handle] = [wrap(Node(LEAF, (), {}, kind)) for kind in kinds]
        results: list[Handle] = []

        def forward(*inputs: Any) -> list[Node]:
            pytree.flatten(model(*inputs), results)
            return list(map(lifted, results))

        trace, self.outputs = trace_function(forward, list(given), lambda tensors: (tuple(tensors), {}))
        self.nodes = graph.toposort(self.outputs)
        self._check(trace)
        self.arguments = {s.input: s.argument for s in trace.slots.values() if s.argument is not None}
        self.held = {s.input: s.current() for s in trace.slots.values() if s.argument is None}

    def _check(self, trace: Trace) -> None:
        for node in self.nodes:
            if node.op.name in ABSENT:
                raise refuse(node, *ABSENT[node.op.name])
        changed = [slot for slot in trace.slots.values() if slot.final is not None and slot.argument is None]
        if changed:
            raise SettingError(
                f"onnx.export: the model changes a tensor of shape {changed[0].input.shape} in evaluation mode, and an ONNX "
                f"graph keeps no state. Leave that out of forward."
            )
        if not self.outputs:
            raise SettingError("onnx.export: the model must return a tensor, or several, got none.")


class _Export:
    """A graph in ONNX, from one that was traced for one or two numbers of rows."""

    def __init__(self, traced: list[_Traced], names: list[str], dynamic: list[bool], model: Module) -> None:
        self.first, self.last = traced[0], traced[-1]
        self.names, self.dynamic = names, dynamic
        counted = next((name for name, many in zip(names, dynamic, strict=True) if many), None)
        self.writer = Writer(counted)
        self.known = {id(p): name for name, p in model.named_parameters()}
        self.values: dict[Node, str] = {}
        self._check_alike()
        self.twin = dict(zip(self.first.nodes, self.last.nodes, strict=True))
        self.readers: dict[Node, list[Node]] = {node: [] for node in self.first.nodes}
        for node in self.first.nodes:
            for source in node.inputs:
                self.readers[source].append(node)
        self.returned = set(self.first.outputs)

    def _check_alike(self) -> None:
        a, b = self.first, self.last
        places = [{node: i for i, node in enumerate(t.nodes)} for t in (a, b)]
        same = len(a.nodes) == len(b.nodes) and all(
            x.op is y.op and x.dtype is y.dtype and len(x.shape) == len(y.shape)
            and [places[0][s] for s in x.inputs] == [places[1][s] for s in y.inputs]
            for x, y in zip(a.nodes, b.nodes, strict=True)
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

    def model(self, output_names: Sequence[str] | None, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The whole, checked."""
        for node in self.first.nodes:
            if not self._within_gemm(node):
                self.values[node] = self._value(node)
        outputs = _names("output", len(self.first.outputs), output_names)
        for name, node in zip(outputs, self.first.outputs, strict=True):
            if name in self.names:
                raise SettingError(f"onnx.export: {name!r} cannot name an input and an output. Name them apart.")
            self.writer.layer = ""
            self.writer.op("Identity", self.values[node], outputs=[name])
        self._without_copies(outputs)
        inputs = [node for node, _ in sorted(self.first.arguments.items(), key=lambda pair: pair[1])]
        entries = [self._entry(self.names[self.first.arguments[node]], node) for node in inputs]
        made = helper.make_graph(
            self.writer.nodes, "chainrule", entries,
            [self._entry(name, node) for name, node in zip(outputs, self.first.outputs, strict=True)], self.writer.initializers,
        )  # fmt: skip
        whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        whole.producer_name, whole.producer_version = "chainrule", __version__
        helper.set_model_props(whole, dict(metadata))
        return whole

    def _entry(self, name: str, node: Node) -> onnx.ValueInfoProto:
        sizes = [_label(size) if isinstance(size, TimesRows) else size for size in self._sizes(node)]
        return helper.make_tensor_value_info(name, element(node.dtype), sizes)

    def _value(self, node: Node) -> str:
        self.writer.layer = node.layer
        if node in self.first.arguments:
            return self.names[self.first.arguments[node]]
        if node in self.first.held:
            handle = self.first.held[node]
            return self._tensor(self.known.get(id(handle)), lifted(handle).value)
        if node.op is CONST:
            value = self._params(node)["value"]
            return self.writer.constant(as_stored(value, node.dtype))
        if node.op is LEAF:
            return self._leaf(node)
        if node.op is INPUT:
            raise self._depends(node, "and on a number that Python gives")
        product = self._product(node)
        if product is not None:
            return product
        step = Step(node, self._sizes(node), [self._sizes(source) for source in node.inputs], self._params(node))
        return lower(self.writer, step, *(self.values[source] for source in node.inputs))

    def _tensor(self, name: str | None, value: Array) -> str:
        """A parameter under its name; what else stood there is a constant."""
        return self.writer.constant(value) if name is None else self.writer.learned(name, value)

    def _leaf(self, node: Node) -> str:
        """An array that the model made: for any number of rows if all its rows are alike."""
        a, b, sizes = node.value, self.twin[node].value, self._sizes(node)
        if a.shape == b.shape:
            if a.tobytes() != b.tobytes():
                raise self._depends(node, "a tensor that forward makes")
            return self.writer.constant(a)
        row = a[tuple(slice(0, 1) if isinstance(size, TimesRows) else slice(None) for size in sizes)]
        if not all((np.broadcast_to(row, found.shape) == found).all() for found in (a, b)):
            raise self._depends(node, "a tensor that forward makes")
        return self.writer.op("Expand", self.writer.constant(row), self.writer.sizes(sizes))

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

    def _without_copies(self, outputs: list[str]) -> None:
        """Results under their names at once, where the last node gives them."""
        nodes = self.writer.nodes
        for copy in [node for node in nodes if node.op_type == "Identity" and node.output[0] in outputs]:
            made = next((node for node in nodes if copy.input[0] in node.output and node.op_type != "Constant"), None)
            read = [node for node in nodes if copy.input[0] in node.input]
            if made is not None and len(read) == 1:
                made.output[0] = copy.output[0]
                nodes.remove(copy)


def _label(size: TimesRows) -> str:
    return "batch" if size.times == 1 else f"{size.times}*batch"
