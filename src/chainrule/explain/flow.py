"""Where did the gradient go: how much each op on the way strengthens or weakens the backward signal."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from chainrule import autodiff, graph
from chainrule.errors import GradientError
from chainrule.explain.text import WIDTH, headed, sentence
from chainrule.graph import Node
from chainrule.names import takes_keywords
from chainrule.several import RESULT, Several, sources, type_text
from chainrule.tensor import Tensor
from chainrule.tensor.core import lifted, numbers
from chainrule.tensor.creation import ones_like

GRAIN = 2.0**-40  # logarithms are multiples of it, so that sums and differences of them are exact
NUMBERS, LAYER = 48, 23  # columns of the text before the layer, and of the layer where another follows
PASSING = ("add", "sub", "neg", "cast", "alias")  # what only adds or renames does nothing to the signal


@dataclass(frozen=True)
class Gain:
    """One step of the signal towards the target: ``log2 |dX| - log2 |dY|`` of one op, or of the paths that join.

    `kind`: ``"loss"`` (outside every layer), ``"weights"`` (products), ``"normalisation"`` (a layer that reduces),
    ``"activation"`` (masks and slopes), ``"passed on"`` (views and sums), ``"loop"`` (all steps of a `scan` together),
    ``"other paths"`` (what joins).
    """

    op: str
    kind: str
    layer: str
    line: str
    gain: float
    signal: float  # log2 of the gradient's norm behind this step
    node: Node = field(repr=False, compare=False)


@dataclass(frozen=True, repr=False)
class Flow:
    """The gains from the loss to one tensor, along the strongest path; they add up to the total exactly.

    Attributes:
        gains: one for each op on the path, the loss first; where other paths join, what they add stands as a
            step of its own.
        total: log2 of the norm of the gradient that arrives (at the loss it is 0).
    """

    target: str
    gains: tuple[Gain, ...]
    total: float
    loss: Tensor = field(repr=False, compare=False)
    tensor: Tensor = field(repr=False, compare=False)

    def by(self, what: str) -> dict[str, float]:
        """The gains summed by ``"kind"``, ``"layer"`` or ``"op"``, in the order met; they too add up to the total."""
        sums: dict[str, float] = {}
        for step in self.gains:
            key = getattr(step, what)
            sums[key] = sums.get(key, 0.0) + step.gain
        return sums

    def if_one(self, step: Gain) -> float:
        """The total, were this op's derivative one everywhere (an activation that let everything through).

        Raises:
            GradientError: the op changes the shape, so that no identity can take its place.
        """
        if step.kind == "other paths":
            raise GradientError("if_one: paths that join are no op. Choose a step whose kind is another.")
        with _forced_to_one(step.node):
            found = autodiff.gradients([self.loss], [ones_like(self.loss)], [lifted(self.tensor)])
        return _level(found[lifted(self.tensor)])

    def if_ones(self) -> list[float | None]:
        """`if_one` of each step; None where an op has no identity to be replaced by."""
        return [
            self.if_one(step) if step.kind != "other paths" and _keeps_shape(step.node) else None for step in self.gains
        ]

    def as_dict(self, if_one: bool = False) -> dict[str, Any]:
        """For JSON: every step (with `if_one`, also the total were its derivative one), and the sums by kind and layer."""
        steps: list[dict[str, Any]] = [
            {"op": g.op, "kind": g.kind, "layer": g.layer, "line": g.line, "gain": g.gain, "signal": g.signal}
            for g in self.gains
        ]
        for step, total in zip(steps, self.if_ones() if if_one else (), strict=False):
            step["if_one"] = total
        return {
            "target": self.target,
            "total": self.total,
            "steps": steps,
            "kinds": self.by("kind"),
            "layers": self.by("layer"),
        }

    def text(self, if_one: bool = False) -> str:
        """What `print` shows; with `if_one`, also what would arrive were an op's derivative one."""
        ones = self.if_ones() if if_one else [None] * len(self.gains)
        shown = [(g, one) for g, one in zip(self.gains, ones, strict=True) if g.gain or g.kind != "passed on"]
        wide = max((len(g.layer) for g, _ in shown), default=0) > (LAYER if if_one else WIDTH - NUMBERS)
        head = "     gain    signal  op           kind          " + (
            "" if wide else f"{'layer':{LAYER if if_one else 0}}"
        )
        sums = ", ".join(f"{kind} {gain:+.3f}" for kind, gain in self.by("kind").items())
        rows = [(f"in {g.layer or 'no layer'}:" if wide else "", _row(g, one, if_one, wide)) for g, one in shown]
        return "\n".join(
            [
                sentence(f"the gradient of {self.target}: 2^{self.total:.3f} of the loss's ({sums})"),
                f"{head}   if one" if if_one else f"{head.rstrip()}   (log2 of norms)",
                *headed(rows),
                *(["log2 of norms; if one: the total if its derivative were one"] if if_one else []),
            ]
        )

    def __repr__(self) -> str:
        return f"<Flow: from the loss to {self.target}, {len(self.gains)} gains, total {self.total:.6g}>"

    def __str__(self) -> str:
        return self.text()


def _row(g: Gain, total: float | None, if_one: bool, without_layer: bool) -> str:
    layer = "" if without_layer else f"{g.layer:{LAYER if if_one else 0}}"
    return f"{g.gain:+9.3f} {g.signal:9.3f}  {g.op:12} {g.kind:13} {layer}{_arrives(total)}".rstrip()


def _arrives(total: float | None) -> str:
    return "" if total is None else f"{total:9.3f}"


@takes_keywords("torch")
def gradient_flow(loss: Tensor, tensor: Tensor, name: str = "the tensor") -> Flow:
    """Follow the gradient from `loss` back to `tensor`, and say what each op on the way did to its norm.

    With g(X) = dL/dX: gain of an op = log2 |its part of g(X)| - log2 |g(Y)|. Where X has several readers the
    strongest is followed, and what the others add is a step of its own; so the gains telescope to
    log2 |g(tensor)|, and add up to it exactly (logarithms are kept to multiples of 2^-40).

    Args:
        loss: a tensor with one element and a history (not yet freed: call this before backward, or pass
            retain_graph=True there).
        tensor: a leaf or an intermediate result in that history.
        name: what to call it.

    Raises:
        GradientError: the loss does not depend on the tensor, or the gradient there is zero or not finite.

    >>> import chainrule as cr
    >>> w = cr.tensor([3.0], requires_grad=True)
    >>> flow = cr.gradient_flow((w * 4).relu().sum(), w)
    >>> [(step.op, step.gain) for step in flow.gains], flow.total
    ([('sum', 0.0), ('relu', 0.0), ('mul', 2.0)], 2.0)
    """
    order = [node for node in graph.toposort([lifted(loss)]) if node.requires_grad]
    target = lifted(tensor)
    if target not in order:
        raise GradientError(
            f"gradient_flow: the loss does not depend on {name}. Name a tensor that requires grad and takes part in it."
        )
    found = autodiff.gradients([loss], [ones_like(loss)], order)
    level = {node: _level(gradient) for node, gradient in found.items()}
    if not math.isfinite(level[target]):
        raise GradientError(
            f"gradient_flow: the gradient of {name} is {'zero' if level[target] < 0 else 'not finite'}, which has no "
            f"logarithm. Look at the layers behind it one by one (a dead activation, an overflow)."
        )
    readers: dict[Node, list[Node]] = {}
    for node in order:
        for source in dict.fromkeys(node.inputs):
            readers.setdefault(source, []).append(node)
    steps: list[Gain] = []
    kinds = _Kinds(order)
    node = target
    while node is not lifted(loss):
        reader, part = max(
            ((r, _part(r, node, found[r])) for r in readers[node] if r in found), key=lambda pair: pair[1]
        )
        line = str(reader.line) if reader.line else ""
        if level[node] != part:
            steps.append(Gain("+", "other paths", node.layer, line, level[node] - part, level[node], node))
        steps.append(Gain(reader.op.name, kinds.of(reader), reader.layer, line, part - level[reader], part, reader))
        node = reader
    return Flow(name, tuple(reversed(steps)), level[target], loss, tensor)


def _level(gradient: Any) -> float:
    """log2 of the norm, to a multiple of the grain; at an op of several results that of all that arrived."""
    parts = gradient.values() if isinstance(gradient, dict) else [gradient]
    values = np.concatenate([np.asarray(numbers(part), np.float64).reshape(-1) for part in parts])
    size = float(np.abs(values).max(initial=0.0))
    if size == 0 or not math.isfinite(size):
        return -math.inf if size == 0 else math.inf
    norm = math.log2(size) + 0.5 * math.log2(float(np.square(values / size).sum()))
    return round(norm / GRAIN) * GRAIN


def _part(reader: Node, source: Node, dY: Any) -> float:
    """The level of what one reader contributes to the gradient of one of its inputs."""
    arrived: dict[Node, Any] = {}
    with graph.grad_mode(False):
        autodiff.distribute(reader, dY, {source}, arrived)
    return _level(arrived[source]) if source in arrived else -math.inf


class _Kinds:
    """What an op is there for, as far as the graph tells."""

    def __init__(self, order: list[Node]) -> None:
        self.reducing = {node.layer for node in order if node.op.kind == "reduction" and node.layer}

    def of(self, node: Node) -> str:
        if not node.layer:
            return "loss"
        if node.op.kind == "contraction":
            return "weights"
        if any(made.op.kind == "region" for made in (node, *node.inputs[:1])):  # a loop, or one of its results
            return "loop"
        if node.layer in self.reducing:
            return "normalisation"
        passed_on = node.op.kind in ("view", "join", "take", "projection") or node.op.name in PASSING
        return "passed on" if passed_on else "activation"


def _keeps_shape(node: Node) -> bool:
    if isinstance(node, Several) or node.op is RESULT:
        return False
    return node.op.kind == "elementwise" or all(source.shape == node.shape for source in node.inputs)


@contextmanager
def _forced_to_one(node: Node) -> Iterator[None]:
    """Inside, the op of this node passes its gradient on unchanged."""
    if not _keeps_shape(node):
        shapes = " and ".join(str(source.shape) for source in sources(node))
        made = type_text(node) if isinstance(node, Several) else node.shape
        raise GradientError(
            f"if_one: {node.op.name}{node.whereabouts()} turns {shapes} into {made}, so its derivative has no "
            f"identity to be replaced by. Choose an op that keeps the shape."
        )
    op = node.op
    node.op = replace(op, joint=None, vjp=lambda argument: lambda dY, Y, *inputs, **params: dY)
    try:
        yield
    finally:
        node.op = op
