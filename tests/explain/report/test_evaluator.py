"""The page's own forward pass, op by op, beside the references of the op table."""

from __future__ import annotations

import json
import shutil
import subprocess

import numpy as np
import pytest
from tests.browser import PAGE
from tests.op_table import CASES

import chainrule as cr
from chainrule import graph, several
from chainrule.explain.report.graphs import _constant, _numbers_of
from chainrule.graph import CONST
from chainrule.tensor import Tensor

ESBUILD = PAGE / "node_modules" / ".bin" / "esbuild"
# What the page leaves to the engine: it says so where a network has one of these.
LEFT_OUT = {
    "and", "argmax", "argmin", "cast", "ceil", "conv", "cumsum", "floor_divide", "frexp.0", "iota", "not", "or", "prod", "put", "put_add",
    "random_bits", "remainder", "round", "shift_left", "shift_right", "trunc", "unfold", "xor",
}  # fmt: skip
DRIVER = """
import { readFileSync } from "node:fs";
import { Recomputed, known } from "./evaluate";
const answers = JSON.parse(readFileSync(0, "utf8")).map(({ nodes, leaves }) => {
  const strange = nodes.find((node) => node.inputs.length && !known(node));
  if (strange) return strange.op;
  const given = new Map(leaves.map(([i, values]) => [i, values.map(Number)]));
  const document = { graph: { nodes, loss: nodes.length - 1, output: nodes.length - 1 } };
  return Array.from(new Recomputed(document, given).output(), String);
});
console.log(JSON.stringify(answers));
"""


def told(output: Tensor):
    """The graph of a value as the page is told it, and the values that it is given."""
    every = graph.toposort([output._node])
    order = [node for node in every if node.op is not CONST and not isinstance(node, several.Several)]
    number = {node: i for i, node in enumerate(order)}
    nodes = [
        {
            "op": several.name_of(node), "shape": list(node.shape), "dtype": node.dtype.name, "params": _numbers_of(node),
            "inputs": [number[source] for source in several.sources(node) if source in number],
            "operands": [{"node": number.get(source, -1), "value": _constant(source)} for source in several.sources(node)],
        }
        for node in order
    ]  # fmt: skip
    leaves = [[i, [written(x) for x in node.value.ravel()]] for i, node in enumerate(order) if not node.inputs]
    return {"nodes": nodes, "leaves": leaves}


def evaluated(documents):
    """What the page computes of each: numbers, or the name of an op that it does not compute."""
    if not ESBUILD.exists() or shutil.which("node") is None:
        pytest.skip("esbuild or Node is not installed: npm ci in page/")
    command = [str(ESBUILD), "--bundle", "--platform=node", "--loader=ts", "--log-level=error"]
    script = subprocess.run(command, input=DRIVER, cwd=PAGE / "src", capture_output=True, text=True, check=True).stdout
    answer = subprocess.run(
        ["node", "-e", script], input=json.dumps(documents), capture_output=True, text=True, check=True
    ).stdout
    return json.loads(answer)


def written(x: float) -> str:
    """A number as JavaScript reads it."""
    return str(float(x)).replace("inf", "Infinity").replace("nan", "NaN")


def number(text: str) -> float:
    return float(text.replace("Infinity", "inf"))


def test_every_op_of_the_table_gives_what_its_reference_gives():
    outputs = []  # those with a history, in which the ops stand apart
    for case in CASES:
        inputs = [cr.tensor(array, requires_grad=np.asarray(array).dtype.kind == "f") for array in case.inputs]
        found = case.ours(*inputs)
        outputs += [(case, one) for one in (found if isinstance(found, tuple) else (found,))]
    outputs = [(case, output) for case, output in outputs if isinstance(output, Tensor) and output.requires_grad]
    answers = evaluated([told(output) for _, output in outputs])
    left_out, wrong = set(), []
    for (case, output), answer in zip(outputs, answers, strict=True):
        if isinstance(answer, str):
            left_out.add(answer)
            continue
        values = np.array([number(text) for text in answer])
        if not np.allclose(values, output.detach().numpy().ravel(), 1e-9, 1e-12, equal_nan=True):
            wrong.append(f"{case}: {values[:5]} instead of {output.detach().numpy().ravel()[:5]}")
    assert wrong == []
    assert left_out <= LEFT_OUT
    assert len(outputs) > 100
