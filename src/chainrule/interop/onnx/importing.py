"""From an ONNX file to a module: its weights as parameters under their names, its nodes run one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, TensorProto, numpy_helper

from chainrule.dtypes import as_dtype, bfloat16, narrowed, numbers_of
from chainrule.errors import ChainruleError, DamagedFileError, DtypeError, SettingError, ShapeError
from chainrule.files.document import short
from chainrule.files.reading import read_whole
from chainrule.files.writing import shown
from chainrule.interop.onnx.exporting import MOST
from chainrule.interop.onnx.operators import BY_MODE, FIXED, OPERATORS, Step, as_tensor
from chainrule.interop.onnx.recurrences import RECURRENT, scanned
from chainrule.interop.onnx.sizes import SIZES
from chainrule.names import takes_keywords
from chainrule.nn import Module, Parameter
from chainrule.tensor import Tensor
from chainrule.tensor.creation import from_stored

OLDEST = 13  # opset, of 2020: since then axes are inputs and softmax means its axis alone
_KIND = "an ONNX file"
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Body:
    """A graph within a node.

    Attributes:
        steps: its nodes in order.
        inputs, outputs: names of values; it reads those around it by their names, too.
        values: its constants by name.
    """

    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    values: Mapping[str, Array]


class OnnxModule(Module):
    """The graph of an ONNX file as a module: trained, saved and compiled as others are.

    Float initializers are its parameters, under their names (``0.weight`` is ``weight`` of the child ``0``); the running mean
    and variance of a batch norm are buffers, and follow the batches in training; what stands in constant nodes stays.

    Args:
        steps: the nodes in order.
        inputs: the names of the inputs, in the order of `forward`.
        outputs: those of what it gives.
        values: the arrays by name.
        learned: the names of those that are learned.
        kept: the names of those that batch norm keeps.
    """

    def __init__(
        self, steps: tuple[Step, ...], inputs: tuple[str, ...], outputs: tuple[str, ...], values: Mapping[str, Array],
        learned: tuple[str, ...], kept: tuple[str, ...],
    ) -> None:  # fmt: skip
        super().__init__()
        self.steps, self.inputs, self.outputs = steps, inputs, outputs
        self.fixed = {name: _plain(array) for name, array in values.items() if name not in (*learned, *kept)}
        self.paths = {name: self._keep(name, from_stored(values[name]), name in learned) for name in (*learned, *kept)}

    def _keep(self, name: str, value: Tensor, learned: bool) -> str:
        """Register a tensor at its dotted name, or where that cannot be at one like it."""
        *path, last = name.split(".")
        holder: Module = self
        for part in path:
            below = holder._modules.get(part)
            if below is None:
                if not part or hasattr(holder, part):
                    return self._keep(name.replace(".", "_") or "_", value, learned)
                below = Module()
                holder.register_module(part, below)
            holder = below
        while not last or hasattr(holder, last):
            last += "_"
        if learned:
            holder.register_parameter(last, Parameter(value))
        else:
            holder.register_buffer(last, value)
        return ".".join([*path, last])

    def forward(self, *args: Tensor) -> Any:
        """What the graph gives for its inputs: a tensor, or a tuple of several."""
        if len(args) != len(self.inputs):
            raise ShapeError(
                f"OnnxModule: the graph has the inputs {', '.join(self.inputs)}, got {len(args)}. Pass one for each."
            )
        values: dict[str, Any] = {**self.fixed, **dict(zip(self.inputs, map(as_tensor, args), strict=True))}
        for name, path in self.paths.items():
            owner, _, last = path.rpartition(".")
            values[name] = getattr(self.get_submodule(owner), last)
        self._run_all(self.steps, values)
        results = tuple(as_tensor(values[name]) for name in self.outputs)
        return results[0] if len(results) == 1 else results

    def _run_all(self, steps: tuple[Step, ...], values: dict[str, Any]) -> None:
        """Run nodes one after the other, and add what they give to the values."""
        for step in steps:
            try:
                found = self._run(step, [values[name] if name else None for name in step.inputs], values)
            except ChainruleError:
                raise
            except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, MemoryError) as error:
                raise step.refuse(f"does not fit what it gets: {short(str(error))[1:-1]}") from None
            values.update(zip(step.outputs, found if isinstance(found, tuple) else (found,), strict=False))

    def _run(self, step: Step, given: list[Any], values: dict[str, Any]) -> Any:
        if step.kind == "Scan":
            body: Body = step.attributes["body"]

            def once(inputs: Sequence[Tensor]) -> list[Tensor]:
                inner = {**values, **body.values, **dict(zip(body.inputs, inputs, strict=True))}
                self._run_all(body.steps, inner)
                return [as_tensor(inner[name]) for name in body.outputs]

            return scanned(step, once, list(map(as_tensor, given)))
        if step.kind == "Shape":
            sizes = np.array(given[0].shape, np.int64)
            return sizes[slice(step.get("start", 0), step.get("end"))]
        known = [value for value in given if value is not None]
        if step.kind in SIZES and not any(isinstance(value, Tensor) for value in known):
            return SIZES[step.kind](step, *given)
        fixed = FIXED.get(step.kind, ())
        inputs = [v if v is None or i in fixed else as_tensor(v) for i, v in enumerate(given)]
        if step.kind in BY_MODE:
            return BY_MODE[step.kind](step, self.training, *inputs)
        return (OPERATORS.get(step.kind) or RECURRENT[step.kind])(step, *inputs)

    def extra_repr(self) -> str:
        return f"{len(self.steps)} nodes, ({', '.join(self.inputs)}) -> ({', '.join(self.outputs)})"


@takes_keywords("")
def load(f: str | os.PathLike[str] | bytes | onnx.ModelProto) -> OnnxModule:
    """The graph of an ONNX file as a module, in evaluation mode; no code of the file is run.

    Dense networks, convolutions, activations, norms, embeddings, recurrences (LSTM, GRU, RNN, Scan), and what is made of
    elementwise operators, reductions and changes of shape; opset 13 or later. Its weights are parameters: train it further, compile it, save its ``state_dict()``.

    Args:
        f: the file, or a model of the library onnx.

    Raises:
        DamagedFileError: the file is missing, cut off or no ONNX file, or its graph does not hold together.
        SettingError: an operator that is not supported, with the name of its node; weights in other files.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn, onnx
        >>> model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> again = onnx.load(onnx.export(model, cr.zeros(1, 4)))
        >>> list(again.state_dict()), again(cr.zeros(3, 4)).shape
        (['0.weight', '0.bias', '2.weight', '2.bias'], (3, 2))
    """
    if isinstance(f, onnx.ModelProto):
        return _module(f, "the model")
    name = "the bytes" if isinstance(f, bytes) else shown(f)
    data = f if isinstance(f, bytes) else read_whole(f, _KIND, MOST)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, MemoryError, RecursionError) as error:
        raise DamagedFileError(f"{name}: not {_KIND} ({short(str(error))[1:-1]}). Export it again.") from None
    return _module(model, name)


def _module(model: onnx.ModelProto, source: str) -> OnnxModule:
    _check(model, source)
    graph = model.graph
    steps, known = _steps(graph, source)
    values = {t.name: _array(t, source) for t in graph.initializer} | known
    _check_names(graph, steps, values, source)
    kept = tuple(n for s in steps if s.kind == "BatchNormalization" for n in s.inputs[3:5] if n in values)
    constants = {node.output[0] for node in graph.node if node.op_type == "Constant"}
    learned = tuple(
        n
        for n, v in values.items()
        if n not in constants and n not in kept and numbers_of(v).dtype.kind == "f" and v.ndim
    )
    inputs = tuple(entry.name for entry in graph.input if entry.name not in values)
    try:
        made = OnnxModule(tuple(steps), inputs, tuple(e.name for e in graph.output), values, learned, kept)
    except ChainruleError as error:
        raise DamagedFileError(f"{source}: its weights cannot be: {error}") from None
    return made.eval()


def _steps(graph: onnx.GraphProto, source: str) -> tuple[list[Step], dict[str, Array]]:
    """The nodes of a graph, and its constants."""
    steps: list[Step] = []
    values: dict[str, Array] = {}
    for i, node in enumerate(graph.node):
        step = _step(node, i, source)
        if step.kind == "Constant":
            values[step.outputs[0]] = _constant(step)
        else:
            steps.append(step)
    return steps, values


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of the graphs within them too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _check(model: onnx.ModelProto, source: str) -> None:
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        text = str(error).strip().splitlines()[0] if str(error).strip() else "it says nothing more"
        raise DamagedFileError(
            f"{source}: not a complete {_KIND[3:]} ({short(text)[1:-1]}). Export it again."
        ) from None
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if versions and versions[0] < OLDEST:
        raise SettingError(
            f"onnx.load: {source} is of opset {versions[0]}; read are {OLDEST} and later. Export it anew, or bring it up: "
            f"onnx.version_converter.convert_version(model, {OLDEST})."
        )
    known = {*OPERATORS, *RECURRENT, *BY_MODE, "Constant", "Scan", "Shape"}
    unknown: dict[str, str] = {}
    for i, node in enumerate(_nodes(model.graph)):
        if node.op_type not in known or node.domain not in ("", "ai.onnx"):
            unknown.setdefault(node.op_type, node.name or f"#{i}")
    if unknown:
        some = ", ".join(f"{kind} (node {short(name)})" for kind, name in list(unknown.items())[:10])
        raise SettingError(
            f"onnx.load: {source} has operators that chainrule does not have: {some}. There are: {', '.join(sorted(known))}."
        )
    for t in model.graph.initializer:
        if t.data_location == TensorProto.EXTERNAL:
            raise SettingError(
                f"onnx.load: {source} keeps {short(t.name)} in another file. Write it whole: onnx.save(onnx.load(path), path)."
            )
    if len(model.graph.sparse_initializer):
        raise SettingError(f"onnx.load: {source} has sparse weights, which chainrule does not have. Export dense ones.")


def _check_names(
    graph: onnx.GraphProto, steps: Sequence[Step], values: Iterable[str], source: str, outside: Iterable[str] = ()
) -> None:
    known = {*values, *outside, *(entry.name for entry in graph.input)}
    for step, node in zip(steps, [n for n in graph.node if n.op_type != "Constant"], strict=True):
        for body, inner in _bodies(step, node):
            _check_names(inner, body.steps, body.values, source, known)
        for name in step.inputs:
            if name and name not in known:
                raise DamagedFileError(
                    f"{source}: the node {step.name!r} reads {name!r}, which nothing gives before. Export it again."
                )
        known.update(step.outputs)
    for entry in graph.output:
        if entry.name not in known:
            raise DamagedFileError(f"{source}: nothing gives the output {entry.name!r}. Export it again.")


def _bodies(step: Step, node: onnx.NodeProto) -> list[tuple[Body, onnx.GraphProto]]:
    return [(step.attributes[a.name], a.g) for a in node.attribute if a.type == AttributeProto.GRAPH]


def _array(t: onnx.TensorProto, source: str) -> Array:
    try:
        array = np.array(numpy_helper.to_array(t))
        if t.data_type == TensorProto.BFLOAT16:  # float32, or an array of ml_dtypes, as onnx is old or new
            return narrowed(array.astype(np.float32))
        if array.dtype.kind != "O" and array.dtype.kind in "biuf":
            as_dtype(array.dtype)
            return array
    except (ArithmeticError, DtypeError, LookupError, MemoryError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"{source}: {short(t.name)} is no array ({short(str(error))[1:-1]}). Export it again."
        ) from None
    raise SettingError(
        f"onnx.load: {source}: {short(t.name)} is of a dtype that chainrule does not have. Export it in float32."
    )


def _plain(array: Array) -> Array | Tensor:
    """A value that is not learned: an array, where NumPy has its dtype."""
    return from_stored(array) if array.dtype == bfloat16.numpy else array


def _step(node: onnx.NodeProto, number: int, source: str) -> Step:
    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.type == AttributeProto.TENSOR:
            value = _array(value, source)
        elif attribute.type == AttributeProto.GRAPH and node.op_type == "Scan":
            value = _body(value, source)
        elif attribute.type == AttributeProto.STRINGS and node.op_type in RECURRENT:
            value = list(value)
        elif attribute.type not in (
            AttributeProto.FLOAT,
            AttributeProto.INT,
            AttributeProto.STRING,
            AttributeProto.FLOATS,
            AttributeProto.INTS,
        ):
            raise SettingError(
                f"onnx.load: {source}: the node {short(node.name)} ({node.op_type}) has a graph inside. Export without it."
            )
        found[attribute.name] = value
    return Step(node.op_type, node.name or f"#{number}", tuple(node.input), tuple(node.output), found)


def _body(graph: onnx.GraphProto, source: str) -> Body:
    if len(graph.initializer):
        raise SettingError(
            f"onnx.load: {source}: the graph {short(graph.name)} within a node has weights of its own, which nothing here would "
            f"learn. Export it with its weights outside."
        )
    steps, values = _steps(graph, source)
    inputs, outputs = (tuple(entry.name for entry in entries) for entries in (graph.input, graph.output))
    return Body(tuple(steps), inputs, outputs, values)


def _constant(step: Step) -> Array:
    for name, kind in (
        ("value", None),
        ("value_float", np.float32),
        ("value_int", np.int64),
        ("value_floats", np.float32),
        ("value_ints", np.int64),
    ):
        if name in step.attributes:
            return np.asarray(step.attributes[name], kind)
    raise step.refuse("holds no number")
