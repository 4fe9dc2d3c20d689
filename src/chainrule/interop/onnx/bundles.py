"""Bundles in ONNX: preprocessing, network and answers as one graph that takes raw columns."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

import chainrule.nn.functional as F
from chainrule.deploy.bundle import Bundle
from chainrule.deploy.making import bundle as bundled
from chainrule.dtypes import computed
from chainrule.errors import SettingError
from chainrule.files.writing import write_whole
from chainrule.interop.onnx.exporting import export
from chainrule.interop.onnx.raw import Raw
from chainrule.interop.onnx.writer import Writer, element
from chainrule.names import takes_keywords
from chainrule.nn import Module
from chainrule.nn.compiled import bare
from chainrule.nn.meaning import SCORES, VALUES, Meaning
from chainrule.tensor import Tensor
from chainrule.tensor.creation import zeros
from chainrule.tensor.functions import cat
from chainrule.training.inputs import model_dtype

Array = np.ndarray[Any, Any]
ML = "ai.onnx.ml"
ENCODED, OUTPUTS = "/encoded", "/outputs"  # no column is called so without being asked to


@takes_keywords("")
def export_bundle(source: Any, f: str | os.PathLike[str] | None = None) -> onnx.ModelProto:
    """What was trained as an ONNX file that takes raw columns: missing values, categories and scaling are in the graph.

    Every column is an input of shape (batch, 1) under its own name: float64 for numbers (NaN: missing; a moment: days since
    1970-01-01), text for categories (empty: missing; one never seen is treated as in the training). Where columns have no
    names they are one input, ``rows``. Outputs are ``label`` and ``probabilities``, or ``values`` in the target's own unit.

    Args:
        source: a `Bundle`, or what `cr.bundle` makes one of: a trainer, an estimator of `chainrule.sklearn`, a run folder.
        f: the file, replaced only once the new one is complete; None: only give the model.

    Raises:
        SettingError: a step of it is none that ONNX can say, named by column or layer.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn, onnx
        >>> trainer = cr.Trainer(nn.Linear(2, 2), "cross_entropy", "adam")
        >>> made = onnx.export_bundle(cr.bundle(trainer, columns=["age", "height"], classes=["no", "yes"]))
        >>> [column.name for column in made.graph.input], [found.name for found in made.graph.output]
        (['age', 'height'], ['label', 'probabilities'])
    """
    found = source if isinstance(source, Bundle) else bundled(source)
    width = found.rows.width or _width(found)
    dtype = model_dtype(found.model)
    made = export(
        _Answers(bare(found.model), found.meaning), zeros(1, width, dtype=dtype), input_names=[ENCODED],
        output_names=[OUTPUTS, "/probabilities"][: 1 + _has_probabilities(found.meaning)], metadata=_about(found),
    )  # fmt: skip
    before, after = Writer(ENCODED, "/rows/"), Writer(ENCODED, "/answers/")
    raw = Raw(before)
    before.op("Cast", raw.encoded(found.rows, width), outputs=[ENCODED], to=element(dtype))
    names = [entry.name for entry in raw.inputs]
    _check_names(names, made)
    sizes = [[d.dim_value or d.dim_param for d in out.type.tensor_type.shape.dim] for out in made.graph.output]
    outputs = _Ends(after, found, names).made(sizes)
    graph = helper.make_graph(
        [*before.nodes, *made.graph.node, *after.nodes], "chainrule", raw.inputs, outputs, made.graph.initializer,
    )  # fmt: skip
    made.graph.CopyFrom(graph)
    made.opset_import.append(helper.make_opsetid(ML, 3))
    onnx.checker.check_model(made, full_check=True)
    if f is not None:
        write_whole(f, made.SerializeToString())
    return made


def _width(found: Bundle) -> int:
    """How many numbers the first layer takes, where rows do not say."""
    for module in bare(found.model).modules():
        for name in ("in_features", "num_features"):
            if isinstance(getattr(module, name, None), int):
                return int(getattr(module, name))
    raise SettingError(
        "onnx.export_bundle: the bundle does not say how many columns there are. Name them: cr.bundle(trainer, columns=[...])."
    )


def _about(found: Bundle) -> dict[str, str]:
    labels = {} if found.classes is None else {"classes": json.dumps(found.classes)}
    return {"meaning": found.meaning.name, **labels}


def _check_names(names: Sequence[str], made: onnx.ModelProto) -> None:
    """Columns are called as nothing else in the graph is."""
    taken = {weight.name for weight in made.graph.initializer} | {
        out for node in made.graph.node for out in node.output
    }
    for name in names:
        if not name or name in taken or name[0] == "/":
            raise SettingError(
                f"onnx.export_bundle: a column cannot be called {name!r}, as the graph has that name for something else. Rename "
                f"the column."
            )


def _has_probabilities(meaning: Meaning) -> bool:
    return meaning not in (VALUES, SCORES)


class _Answers(Module):
    """A network, and the probabilities that its outputs say."""

    def __init__(self, model: Module, meaning: Meaning) -> None:
        super().__init__()
        self.model, self.meaning = model, meaning

    def forward(self, x: Tensor) -> Any:
        """The outputs (N, K); with them the probabilities (N, K), for one yes-or-no question those of no and yes."""
        outputs = self.model(x)
        outputs = outputs.to(computed(outputs.dtype))  # of bfloat16 the numbers, as a bundle has them
        if not _has_probabilities(self.meaning):
            return outputs
        return outputs, self._probabilities(outputs)

    def _probabilities(self, outputs: Tensor) -> Tensor:
        name, found = self.meaning.name, outputs
        if name == "log_probabilities":
            found = outputs.exp()
        elif name == "logits":
            found = F.softmax(outputs, dim=1)
        elif name == "binary_logits":
            found = outputs.sigmoid()
        if not self.meaning.binary or (found.dim() > 1 and found.shape[1] > 1):
            return found
        yes = found.reshape(-1, 1)
        no = (-outputs.reshape(-1, 1)).sigmoid() if name == "binary_logits" else 1 - yes  # as `Meaning.both`
        return cat([no, yes], dim=1)


class _Ends:
    """From what the network gives to the outputs of the graph."""

    def __init__(self, writer: Writer, found: Bundle, inputs: Sequence[str]) -> None:
        self.writer, self.found, self.taken = writer, found, set(inputs)

    def made(self, sizes: list[list[Any]]) -> list[onnx.ValueInfoProto]:
        """The entries of the outputs."""
        if self.found.meaning == VALUES:
            return [self._values(sizes[0])]
        label = self._label(sizes[0])
        if len(sizes) == 1:
            return [label]
        return [
            label,
            self._named(
                "Identity", "probabilities", "/probabilities", element(model_dtype(self.found.model)), sizes[1]
            ),
        ]

    def _values(self, sizes: list[Any]) -> onnx.ValueInfoProto:
        w, found = self.writer, self.found
        values, sizes = self._flat(w.op("Cast", OUTPUTS, to=TensorProto.DOUBLE), sizes)
        if found.center is not None and found.scale is not None:
            values = w.op(
                "Add", w.op("Mul", values, w.constant(np.array(found.scale))), w.constant(np.array(found.center))
            )
        if found.range is not None:
            low, high = (w.constant(np.array(bound)) for bound in found.range)
            values = w.op("Min", w.op("Max", values, low), high)
        return self._named("Identity", "values", values, TensorProto.DOUBLE, sizes)

    def _label(self, sizes: list[Any]) -> onnx.ValueInfoProto:
        w, meaning = self.writer, self.found.meaning
        if meaning.binary:
            half = np.array(0.0 if meaning.name == "binary_logits" else 0.5, model_dtype(self.found.model).numpy)
            numbers = w.op("Cast", w.op("Greater", OUTPUTS, w.constant(half)), to=TensorProto.INT64)
            numbers, sizes = self._flat(numbers, sizes)
        else:
            numbers, sizes = w.op("ArgMax", OUTPUTS, axis=1, keepdims=0), [sizes[0], *sizes[2:]]
        if self.found.classes is None or len(sizes) > 1:
            return self._named("Identity", "label", numbers, TensorProto.INT64, sizes)
        labels, kind = _labels(w, self.found.classes)
        return self._named("Gather", "label", labels, kind, sizes, numbers)

    def _flat(self, x: str, sizes: list[Any]) -> tuple[str, list[Any]]:
        """One output a row as (N,)."""
        if len(sizes) == 2 and sizes[1] == 1:
            return self.writer.op("Squeeze", x, self.writer.ints(1)), sizes[:1]
        return x, sizes

    def _named(self, op: str, name: str, source: str, kind: int, sizes: list[Any], *more: str) -> onnx.ValueInfoProto:
        """An output, under another name where a column has that one."""
        while name in self.taken:
            name += "_"
        self.writer.op(op, source, *more, outputs=[name])
        return helper.make_tensor_value_info(name, kind, sizes)


def _labels(writer: Writer, classes: Sequence[Any]) -> tuple[str, int]:
    """The labels as a constant, and what ONNX calls their type."""
    if isinstance(classes[0], str):
        tensor = helper.make_tensor("labels", TensorProto.STRING, [len(classes)], [label.encode() for label in classes])
        return writer.op("Constant", value=tensor), TensorProto.STRING
    array = np.array(classes)
    return writer.constant(array), int(helper.np_dtype_to_tensor_dtype(array.dtype))
