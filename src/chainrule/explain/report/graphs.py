"""The graph of one step as the page draws it: ops, modules, positions, formulas."""

from __future__ import annotations

from typing import Any

from chainrule import several
from chainrule.equations import format_params
from chainrule.errors import ChainruleError
from chainrule.explain.report import layout, mathml
from chainrule.explain.report.passes import Step
from chainrule.graph import CONST, Node
from chainrule.nn import Module
from chainrule.nn.meaning import name_of
from chainrule.training.trainer import Trainer

Record = dict[str, Any]


class Network:
    """The nodes of a step numbered for the page, and what is said of each."""

    def __init__(self, trainer: Trainer, step: Step) -> None:
        self.trainer, self.step = trainer, step
        self.number = {node: i for i, node in enumerate(step.nodes)}
        self.reads, self.flows = step.reads, step.flows
        # Those that this step trains: a frozen weight that it reads is a constant with a name.
        self.parameters = {
            name: self.number[node]
            for node, name in step.names.items()
            if name in step.parameter_gradients and node in self.number
        }
        self._learned = set(self.parameters.values())
        self._reader = {source: i for i in reversed(range(len(self.reads))) for source in self.reads[i]}
        self._formulas: dict[str, int] = {}
        self._written: list[Any] = []

    def document(self) -> Record:
        """``{"nodes": [...], "modules": [...], "formulas": [...]}``; see `document`."""
        paths = [self._path(i) for i in range(len(self.reads))]
        modules, of_path = self._modules(paths)
        placed = layout.mirrored(self.reads, self.flows, [of_path[path] for path in paths])
        nodes = []
        for i, node in enumerate(self.step.nodes):
            nodes.append({
                "op": several.name_of(node), "class": node.op.kind, "kind": self._kind(i), "label": self._label(i), "module": of_path[paths[i]],
                "inputs": self.reads[i], "shape": list(node.shape), "dtype": node.dtype.name,
                "column": placed.columns[i], "lane": placed.lanes[i], "line": str(node.line or ""),
                "flows": self.flows[i], "twin": node in self.step.gradients,
                "rows": bool(node.shape) and node.shape[0] == self.step.batch and self.flows[i],
                **(self._formulas_of(node) if self.reads[i] else {}),
                **({"params": _numbers_of(node)} if self.reads[i] and node.op.kind != "elementwise" else {}),
            })  # fmt: skip
        return {
            "nodes": nodes, "modules": modules, "formulas": self._written, "loss": self.number[self.step.loss],
            "output": self.number.get(self.step.output),
        }  # fmt: skip

    # ---------------------------------------------------------------- what a node is

    def _kind(self, i: int) -> str:
        node = self.step.nodes[i]
        if node is self.step.input:
            return "input"
        if node is self.step.loss:
            return "loss"
        return "parameter" if i in self._learned else "op" if self.reads[i] else "constant"

    def _label(self, i: int) -> str:
        node = self.step.nodes[i]
        return self.step.names.get(node, several.name_of(node) if self.reads[i] else "constant")

    def _path(self, i: int) -> str:
        """The module a node belongs to: a parameter's is where it is registered, the loss has one of its own."""
        kind, layer = self._kind(i), self.step.nodes[i].layer
        if kind == "parameter":
            return self._label(i).rpartition(".")[0]
        if kind == "input":
            return ""
        if kind == "constant" and i in self._reader:  # it stands where it is read
            layer = self.step.nodes[self._reader[i]].layer
        return layer.partition(".")[2] if layer else _LOSS

    def _modules(self, paths: list[str]) -> tuple[list[Record], dict[str, int]]:
        """The modules on the way to every node, parents before children, and their numbers."""
        known: dict[str, Module] = dict(self.trainer.model.named_modules())
        modules: list[Record] = []
        of_path: dict[str, int] = {}
        for path in ["", *paths]:
            parts = path.split(".") if path else []
            for depth in range(len(parts) + 1):
                prefix = ".".join(parts[:depth])
                if prefix in of_path:
                    continue
                parent = of_path.get(".".join(parts[: depth - 1])) if depth and prefix != _LOSS else None
                module = known.get(prefix)
                kind = name_of(self.trainer.loss) if prefix == _LOSS else type(module).__name__ if module else ""
                of_path[prefix] = len(modules)
                modules.append({"path": "" if prefix == _LOSS else prefix, "kind": kind, "parent": parent})
        return modules, of_path

    # ---------------------------------------------------------------- formulas

    def _formulas_of(self, node: Node) -> Record:
        sources = several.sources(node)
        names = mathml.names_of(len(sources))
        operands = [
            {"name": name, "node": self.number.get(source, -1), "value": _constant(source)}
            for name, source in zip(names, sources, strict=True)
        ]
        backward = []
        for argument, source in enumerate(sources):
            if source.requires_grad and node in self.step.gradients:
                backward.append(self._backward(node, argument))
        reads = {name for rule in backward if rule is not None for name in rule["reads"]}
        saved = [operand["node"] for operand in operands if operand["name"] in reads and operand["node"] >= 0]
        return {
            "operands": operands,
            "forward": self._formula(node, -1),
            "backward": [rule for rule in backward if rule is not None],
            "saved": ([self.number[node]] if "Y" in reads else []) + saved,
        }

    def _backward(self, node: Node, argument: int) -> Record | None:
        number = self._formula(node, argument)
        if number is None:
            return None
        return {"argument": argument, "formula": number, "reads": self._written[number]["reads"]}

    def _formula(self, node: Node, argument: int) -> int | None:
        """The number of the formula; equal ops with equal constants share one."""
        constants = [repr(_constant(source)) for source in several.sources(node)]
        key = f"{several.name_of(node)} {argument} {format_params(node.params)} {constants}"
        if node.op.name in ("custom", "permute") or key not in self._formulas:
            try:
                made = mathml.forward(node) if argument < 0 else mathml.backward(node, argument)
            except ChainruleError:
                made = None
            if made is None:
                return None
            self._formulas[key] = len(self._written)
            self._written.append({"tree": made.tree, "reads": made.reads})
        return self._formulas[key]


_LOSS = "\0loss"  # no module can be called so


def _constant(source: Node) -> Any:
    return source.params["value"] if source.op is CONST else None


def _numbers_of(node: Node) -> Record:
    """The whole numbers that say what a view, a reduction or a join does."""
    found = {name: list(value) if isinstance(value, tuple) else value for name, value in node.params.items()}
    return {name: value for name, value in found.items() if isinstance(value, (int, list))}


def contraction(network: Network, parameter: int) -> Record | None:
    """The product a weight matrix is a factor of: ``{"x": node, "out": node, "transposed": bool}``.

    Then dL/dW[i, j] = sum over the batch of dOut[., i] x[., j], which the page writes out sample by sample.
    """
    readers = [i for i, sources in enumerate(network.reads) if parameter in sources]
    transposed = False
    if len(readers) == 1 and network.step.nodes[readers[0]].op.name == "permute":
        transposed = True
        turned = readers[0]
        readers = [i for i, sources in enumerate(network.reads) if turned in sources]
        parameter = turned
    if len(readers) != 1:
        return None
    node, sources = network.step.nodes[readers[0]], network.reads[readers[0]]
    if node.op.name != "matmul" or sources[1] != parameter or len(node.shape) != 2:
        return None
    return {"x": sources[0], "out": readers[0], "transposed": transposed}
