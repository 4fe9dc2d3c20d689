"""An ONNX graph under construction: nodes, constants, and sizes of which some are multiples of the number of rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from chainrule.dtypes import DType, as_stored, bfloat16
from chainrule.errors import SettingError
from chainrule.graph import Node

Array = np.ndarray[Any, Any]
REST = np.iinfo(np.int64).max  # an end of a slice behind every size


@dataclass(frozen=True)
class TimesRows:
    """A size that is so many times the number of rows."""

    times: int


Size = Union[int, TimesRows]


def element(dtype: DType) -> int:
    """ONNX's number for a dtype."""
    if dtype.only_stores:
        return int(TensorProto.BFLOAT16)
    return int(helper.np_dtype_to_tensor_dtype(dtype.numpy))


def tensor_of(array: Array, name: str | None = None) -> onnx.TensorProto:
    """An array as ONNX has it, of bfloat16 the words."""
    if array.dtype == bfloat16.numpy:
        return helper.make_tensor(name or "", TensorProto.BFLOAT16, array.shape, array.tobytes(), raw=True)
    return numpy_helper.from_array(array, name)


class Step:
    """One node of a traced graph, with what is known of sizes: of its own shape, its inputs' and its params'.

    Attributes:
        node: as traced for some number of rows.
        sizes: its shape.
        inputs: the shapes of what it reads.
        params: its params.
    """

    def __init__(self, node: Node, sizes: list[Size], inputs: list[list[Size]], params: dict[str, Any]) -> None:
        self.node, self.sizes, self.inputs, self.params = node, sizes, inputs, params

    @property
    def dtype(self) -> DType:
        return self.node.dtype

    def of_inputs(self) -> DType:
        """The dtype of the first input."""
        return self.node.inputs[0].dtype

    def refuse(self, why: str, remedy: str) -> SettingError:
        """The error for what ONNX cannot say."""
        return refuse(self.node, why, remedy)


def refuse(node: Node, why: str, remedy: str) -> SettingError:
    """The error for a node that ONNX cannot say."""
    return SettingError(f"onnx.export: {node.op.name}{node.whereabouts()} {why}. {remedy}")


class Writer:
    """Collects what a graph is made of.

    Attributes:
        nodes, initializers: as ONNX has them.
    """

    def __init__(self, counted: str | None, prefix: str = "") -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._prefix = prefix  # of all names, where a graph is made of several parts
        self._counted = counted  # an input whose first axis counts the rows
        self._constants: dict[Any, str] = {}
        self._rows: str | None = None
        self.layer = ""

    def name(self, kind: str) -> str:
        """A name that nothing has yet: until the next node, one a kind."""
        return self._prefix + (f"{self.layer}/" if self.layer else "") + f"{kind}_{len(self.nodes)}"

    def within(self, prefix: str) -> Writer:
        """For a graph within a node of this one: what each of its steps would compute alike is computed here once."""
        return _Inner(self, prefix)

    def op(self, kind: str, *inputs: str, name: str = "", outputs: Sequence[str] = (), **attributes: Any) -> str:
        """A node; gives the name of its (first) result."""
        name = name or self.name(kind)
        results = list(outputs) or [f"{name}_out"]
        self.nodes.append(helper.make_node(kind, list(inputs), results, name=name, **attributes))
        return results[0]

    def constant(self, value: Any, dtype: Any = None) -> str:
        """A value that is never learned: one node for all that are alike."""
        array = np.ascontiguousarray(value, dtype).reshape(np.shape(value))
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            layer, self.layer = self.layer, ""
            tensor = tensor_of(array)
            self._constants[key] = self.op("Constant", value=tensor)
            self.layer = layer
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """A list of whole numbers."""
        return self.constant(np.array(values, np.int64))

    def like(self, value: float, step: Step) -> str:
        """A number in the dtype of a node's first input."""
        return self.constant(as_stored(value, step.of_inputs()))

    def learned(self, name: str, array: Array) -> str:
        """A parameter, under its own name."""
        self.initializers.append(tensor_of(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def sizes(self, sizes: Sequence[Size]) -> str:
        """A list of sizes."""
        plain = [size for size in sizes if not isinstance(size, TimesRows)]
        if len(plain) == len(sizes):
            return self.ints(*plain)
        parts = [self.rows(size.times) if isinstance(size, TimesRows) else self.ints(size) for size in sizes]
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=0)

    def rows(self, times: int) -> str:
        """So many times the number of rows, in a list of one."""
        if self._rows is None:
            shape = self.op("Shape", self._counted or "")
            self._rows = self.op("Slice", shape, self.ints(0), self.ints(1), self.ints(0))
        return self._rows if times == 1 else self.op("Mul", self._rows, self.ints(times))

    def counted(self, size: Size) -> str:
        """The numbers from 0 up to a size."""
        if not isinstance(size, TimesRows):
            return self.constant(np.arange(size))
        end = self.op("Squeeze", self.rows(size.times))
        return self.op("Range", self.constant(np.int64(0)), end, self.constant(np.int64(1)))


class _Inner(Writer):
    """A graph within a node of another, which reads the values of that by their names."""

    def __init__(self, outer: Writer, prefix: str) -> None:
        super().__init__(None, prefix)
        self._outer = outer

    def constant(self, value: Any, dtype: Any = None) -> str:
        return self._outer.constant(value, dtype)

    def rows(self, times: int) -> str:
        return self._outer.rows(times)
