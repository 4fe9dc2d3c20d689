"""From a module to an ONNX file: its graph, traced for two numbers of rows, so that what depends on them is known and not guessed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper

from chainrule import graph
from chainrule.compiler.frontend import pytree
from chainrule.compiler.frontend.trace import Trace, trace_function
from chainrule.errors import SettingError, ShapeError
from chainrule.files.document import short
from chainrule.files.writing import write_whole
from chainrule.graph import INPUT, LEAF, Node, Type
from chainrule.interop.onnx.lowerings import ABSENT
from chainrule.interop.onnx.nodes import COUNTS, Nodes
from chainrule.interop.onnx.writer import TimesRows, Writer, refuse
from chainrule.names import takes_keywords
from chainrule.nn import Module
from chainrule.nn.compiled import bare
from chainrule.tensor.core import Handle, lifted, wrap
from chainrule.tensor.functions import no_grad
from chainrule.training.inputs import evaluating
from chainrule.version import __version__

OPSET, IR = 18, 8  # of late 2022: every runtime since takes them
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
        for node in _within(self.nodes):
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


class _Export(Nodes):
    """A graph in ONNX, from one that was traced for one or two numbers of rows."""

    def __init__(self, traced: list[_Traced], names: list[str], dynamic: list[bool], model: Module) -> None:
        self.first, last = traced[0], traced[-1]
        self.names, self.dynamic = names, dynamic
        counted = next((name for name, many in zip(names, dynamic, strict=True) if many), None)
        super().__init__(Writer(counted), self.first.nodes, last.nodes, self.first.outputs)
        self.known = {id(p): name for name, p in model.named_parameters()}

    def model(self, output_names: Sequence[str] | None, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """The whole, checked."""
        self.write()
        outputs = _names("output", len(self.first.outputs), output_names)
        for name, node in zip(outputs, self.first.outputs, strict=True):
            if name in self.names:
                raise SettingError(f"onnx.export: {name!r} cannot name an input and an output. Name them apart.")
            self.writer.layer = ""
            self.writer.op("Identity", self.values[node], outputs=[name])
        self._without_copies(outputs)
        inputs = [node for node, _ in sorted(self.first.arguments.items(), key=lambda pair: pair[1])]
        entries = [self.entry(self.names[self.first.arguments[node]], node) for node in inputs]
        made = helper.make_graph(
            self.writer.nodes, "chainrule", entries,
            [self.entry(name, node) for name, node in zip(outputs, self.first.outputs, strict=True)], self.writer.initializers,
        )  # fmt: skip
        whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        whole.producer_name, whole.producer_version = "chainrule", __version__
        helper.set_model_props(whole, dict(metadata))
        return whole

    def _source(self, node: Node) -> str | None:
        if node in self.first.arguments:
            return self.names[self.first.arguments[node]]
        if node in self.first.held:
            handle = self.first.held[node]
            return self._tensor(self.known.get(id(handle)), lifted(handle).value)
        if node.op is LEAF:
            return self._leaf(node)
        if node.op is INPUT:
            raise self._depends(node, "and on a number that Python gives")
        return super()._source(node)

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

    def _without_copies(self, outputs: list[str]) -> None:
        """Results under their names at once, where the last node gives them."""
        nodes = self.writer.nodes
        for copy in [node for node in nodes if node.op_type == "Identity" and node.output[0] in outputs]:
            made = next((node for node in nodes if copy.input[0] in node.output and node.op_type != "Constant"), None)
            read = [node for node in nodes if copy.input[0] in _reads(node)]
            if made is not None and len(read) == 1:
                made.output[list(made.output).index(copy.input[0])] = copy.output[0]
                nodes.remove(copy)


def _within(nodes: Iterable[Node]) -> Iterator[Node]:
    """Nodes, and those of the graphs within them."""
    for node in nodes:
        yield node
        for body in graph.subgraphs(node):
            yield from _within(body.nodes())


def _reads(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, or a graph within it."""
    inner = [each for attribute in node.attribute if attribute.HasField("g") for each in attribute.g.node]
    return set(node.input).union(*map(_reads, inner))
