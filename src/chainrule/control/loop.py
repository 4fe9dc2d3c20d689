"""The op behind `scan`: its types, its NumPy reference, its derivative.

Its inputs are the values that every step reads (consts), what the first step begins with (carries), and arrays of which
each step reads one entry (slices). Its region goes from one step's consts, carries and slices to the next carries and one
entry of each stacked result.

The derivative of such a loop is another one, in the other direction: what it carries are the gradients of the carries and
the sums, so far, of those of the consts. What it reads of the forward steps (the residuals) the forward loop stacks as
further results.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from chainrule import graph
from chainrule.autodiff.walk import gradients, reaching
from chainrule.control.region import Region
from chainrule.graph import CONST, INPUT, Array, Graph, Node, Op, Type, shape_error
from chainrule.ops import elementwise as ew
from chainrule.several import RESULT, Several, copied, type_text
from chainrule.tensor import Tensor
from chainrule.tensor.core import apply_several, wrap
from chainrule.tensor.creation import zeros_like


class Form(NamedTuple):
    """How the inputs of a loop are divided, and how it runs."""

    carries: int
    slices: int
    length: int
    reverse: bool

    def consts(self, inputs: Sequence[Any]) -> int:
        """How many of the inputs every step reads whole."""
        return len(inputs) - self.carries - self.slices

    def parts(self, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
        """Consts, carries, slices."""
        first = self.consts(inputs)
        second = first + self.carries
        return list(inputs[:first]), list(inputs[first:second]), list(inputs[second:])


# -- types and reference ---------------------------------------------------------------------------------------------


def _infer(*inputs: Node, body: Graph, form: Form) -> tuple[Type, ...]:
    consts, carries, slices = form.parts(body.inputs)
    wanted = [*(x.type for x in consts), *(x.type for x in carries), *(_stacked(x, form) for x in slices)]
    given = [x.type for x in inputs]
    if given != wanted:
        raise shape_error(
            "scan", f"the inputs must be {type_text(tuple(wanted))}", type_text(tuple(given)), "Convert them."
        )
    before, after = [x.type for x in carries], [x.type for x in body.outputs[: form.carries]]
    if before != after:
        came = type_text(tuple(after))
        raise shape_error("scan", f"the carries must stay {type_text(tuple(before))}", came, "Convert them.")
    return (*after, *(_stacked(y, form) for y in body.outputs[form.carries :]))


def _stacked(node: Node, form: Form) -> Type:
    return Type((form.length, *node.shape), node.dtype)


def _numpy(*arrays: Array, body: Graph, form: Form) -> tuple[Array, ...]:
    consts, carries, slices = form.parts(arrays)
    step, steps = _evaluator(body), range(form.length)
    stacks = [np.empty((form.length, *y.shape), y.dtype.numpy) for y in body.outputs[form.carries :]]
    for t in reversed(steps) if form.reverse else steps:
        found = step([*consts, *carries, *(x[t] for x in slices)])
        carries = found[: form.carries]
        for stack, y in zip(stacks, found[form.carries :], strict=True):
            stack[t] = y
    return (*map(np.array, carries), *stacks)


def _evaluator(body: Graph) -> Callable[[Sequence[Array]], list[Any]]:
    """The region as a function of arrays."""
    nodes = [node for node in body.nodes() if node.op is not INPUT]

    def step(arrays: Sequence[Array]) -> list[Any]:
        values: dict[Node, Any] = dict(zip(body.inputs, arrays, strict=True))
        for node in nodes:
            found = node.op.numpy(*(values[source] for source in node.inputs), **node.params)
            values[node] = found if isinstance(node, Several) else np.asarray(found, node.dtype.numpy)
        return [values[node] for node in body.outputs]

    return step


# -- the loop as one node ------------------------------------------------------------------------------------------------


def looped(body: Graph, inputs: Sequence[Tensor], form: Form) -> tuple[Tensor, ...]:
    """The results of the loop: the last carries, then the stacked ones."""
    if not graph.is_grad_enabled() or not any(x.requires_grad for x in inputs):
        return apply_several(scan_op, *inputs, body=body, form=form)
    outputs = {i for i, node in enumerate(body.outputs) if node.requires_grad}
    wanted = {i for i, node in enumerate(body.inputs) if node.requires_grad}
    with graph.grad_mode(
        False
    ):  # just what the first derivative reads: that of a derivative finds what it needs by itself
        longer = _extended(body, form, _Backward(body, form, outputs, wanted).residuals)
    found, moving = apply_several(scan_op, *inputs, body=longer, form=form), _moving(body, form, inputs)
    return tuple(found[i] if i in moving else found[i].detach() for i in range(len(body.outputs)))


def _moving(body: Graph, form: Form, inputs: Sequence[Tensor]) -> set[int]:
    """The results that depend on an input with a history, over any number of steps."""
    reach, first = reaching(body.outputs, body.inputs), form.consts(inputs)
    found, before = {i for i, x in enumerate(inputs) if x.requires_grad}, -1
    while len(found) != before:
        before = len(found)
        found |= {first + c for c in range(form.carries) if not found.isdisjoint(reach[c])}
    carries = {c for c in range(form.carries) if first + c in found}
    return carries | {i for i in range(form.carries, len(reach)) if not found.isdisjoint(reach[i])}


def _extended(body: Graph, form: Form, further: Sequence[Node]) -> Graph:
    """The region with these nodes stacked too."""
    there = set(body.outputs[form.carries :])
    return Graph(body.inputs, [*body.outputs, *(node for node in further if node not in there)], body.names)


# -- the derivative ------------------------------------------------------------------------------------------------------


class _Backward:
    """One step of the way back, cut loose from the step forward at the residuals.

    Args:
        arrived: the results, by position, that a gradient arrives at.
        wanted: the inputs, by position, that one is asked for.

    Attributes:
        residuals: the nodes of the forward region that the way back reads.
        body: its region, over `frees`, consts, carries and slices.
    """

    def __init__(self, body: Graph, form: Form, arrived: set[int], wanted: set[int]) -> None:
        self.forward, self.form, self._first = body, form, form.consts(body.inputs)
        reach = reaching(body.outputs, body.inputs)
        self.outputs = self._active(arrived, reach)
        reached = frozenset().union(*(reach[i] for i in self.outputs))
        self.carries = [i for i in self.outputs if i < form.carries]
        self.sums = sorted(i for i in wanted & reached if i < self._first)
        self.stacked = sorted(i for i in wanted & reached if i >= self._first + form.carries)
        self.region = Region("scan")
        with self.region.running(), graph.aliasing(False), graph.provenance():
            self._replay()
            self._differentiate()
            self._cut()

    def _active(self, arrived: set[int], reach: Sequence[frozenset[int]]) -> list[int]:
        """The results of a step that a gradient arrives at: from outside, or from the step behind it."""
        active, before = set(arrived), -1
        while len(active) != before:
            before = len(active)
            reached = frozenset().union(*(reach[i] for i in active))
            active |= {c for c in range(self.form.carries) if self._first + c in reached}
        return sorted(active)

    def _replay(self) -> None:
        """The step forward, again."""
        self.image: dict[Node, Node] = {x: self.region.input(x.type, x.requires_grad) for x in self.forward.inputs}
        for node in self.forward.nodes():
            if node not in self.image:
                self.image[node] = node if not node.inputs else copied(node, tuple(self.image[s] for s in node.inputs))
                self.image[node].trace = self.region

    def _differentiate(self) -> None:
        outputs = [self.image[self.forward.outputs[i]] for i in self.outputs]
        seeds = [self.region.input(node.type, True) for node in outputs]
        inputs = [self.image[x] for x in self.forward.inputs]
        first, sums = self._first, [inputs[i] for i in self.sums]
        targets = [*(inputs[first + c] for c in self.carries), *sums, *(inputs[i] for i in self.stacked)]
        found = gradients([wrap(y) for y in outputs], [wrap(dY) for dY in seeds], targets, graph.is_grad_enabled())
        so_far = [self.region.input(x.type, True) for x in sums]
        results = [found[x] if x in found else zeros_like(wrap(x)) for x in targets]
        for i, total in enumerate(so_far, len(self.carries)):
            results[i] = wrap(total) + results[i]
        self._results = [x._node for x in results]
        self._carried = [*seeds[: len(self.carries)], *so_far]
        self._seeds = seeds[len(self.carries) :]

    def _cut(self) -> None:
        forward = set(self.image.values())
        order = graph.toposort(self._results)
        varying = _depending([self.image[x] for x in self.forward.inputs[self._first :]], order)
        given = set(map(self.image.__getitem__, self.forward.inputs))

        def ends(node: Node) -> bool:
            """Is it a residual, or an input? Views, and what is the same at every step, are made again from those."""
            ours = node in forward or (node.op is RESULT and node.inputs[0] in forward)
            made = node.inputs and (node not in varying or _only_moves(node)) and node.op is not RESULT
            return node in given or (ours and node.op is not CONST and bool(node.inputs) and not made)

        needed = set(self._results)
        for node in reversed(order):
            if node in needed and not ends(node):
                needed.update(node.inputs)
        images: dict[Node, Node] = {}
        cut: list[Node] = []
        for node in order:
            if node in needed and ends(node):
                cut.append(node)
                images[node] = self.region.input(node.type, node.requires_grad)
            elif node in needed and any(images.get(s, s) is not s for s in node.inputs):
                images[node] = copied(node, tuple(images.get(s, s) for s in node.inputs))
        self._sort(cut, images)

    def _sort(self, cut: list[Node], images: dict[Node, Node]) -> None:
        """What the way back reads: consts and slices of the loop forward, and what that has to stack."""
        number = {self.image[x]: i for i, x in enumerate(self.forward.inputs)}
        first, last = self._first, self._first + self.form.carries
        consts = [x for x in cut if number.get(x, last) < first]
        slices = [x for x in cut if number.get(x, -1) >= last]
        residuals = [x for x in cut if x not in number or first <= number[x] < last]
        self.consts, self.slices = [number[x] for x in consts], [number[x] for x in slices]
        origin = {image: node for node, image in self.image.items()}
        self.residuals = [_original(x, origin, self.forward) for x in residuals]
        inputs = [*(images[x] for x in consts), *self._carried, *self._seeds]
        inputs += [images[x] for x in [*slices, *residuals]]
        outputs = [images.get(x, x) for x in self._results]
        self.body, self.frees = self.region.closed(inputs, outputs)


def _original(node: Node, origin: dict[Node, Node], body: Graph) -> Node:
    """The node of the forward region that a residual is a copy of; a rule may read results that nobody else does."""
    if node in origin:
        return origin[node]
    (several,), position = node.inputs, node.params["position"]
    maker = origin[several]
    for known in body.nodes():
        if known.op is RESULT and known.inputs[0] is maker and known.params["position"] == position:
            return known
    if not isinstance(maker, Several):
        raise TypeError(f"{node!r} is a result of {maker!r}; this is a bug in chainrule")
    return maker.result(position, None)


def _depending(inputs: Sequence[Node], order: Sequence[Node]) -> set[Node]:
    found = set(inputs)
    for node in order:
        if not found.isdisjoint(node.inputs):
            found.add(node)
    return found


def _only_moves(node: Node) -> bool:
    """Does it cost nothing to make it again from what it reads?"""
    return node.op.kind == "view" or node.op in (ew.alias, ew.detach, ew.cast)


def _joint(
    dY: Sequence[Tensor | None], Y: Sequence[Tensor], *inputs: Tensor, body: Graph, form: Form
) -> tuple[Tensor | None, ...]:
    arrived = {i for i, given in enumerate(dY) if given is not None}
    wanted = {i for i, x in enumerate(inputs) if x.requires_grad}
    if not wanted:  # whoever asks without a graph asks for all
        wanted = {i for i, x in enumerate(body.inputs) if x.requires_grad}
    back = _Backward(body, form, arrived, wanted)
    stacks = _stacks(back.residuals, Y, inputs, body, form)
    first = form.consts(inputs)
    begin = [given if (given := dY[c]) is not None else zeros_like(inputs[first + c]) for c in back.carries]
    begin += [zeros_like(inputs[i]) for i in back.sums]
    seeds = [given for i in back.outputs if i >= form.carries and (given := dY[i]) is not None]
    slices = [*seeds, *(inputs[i] for i in back.slices), *stacks]
    consts = [*back.frees, *(inputs[i] for i in back.consts)]
    way = Form(len(begin), len(slices), form.length, not form.reverse)
    found = looped(back.body, [*consts, *begin, *slices], way)
    places = [*(first + c for c in back.carries), *back.sums, *back.stacked]
    by_place = dict(zip(places, found, strict=True))
    return tuple(by_place.get(i) for i in range(len(inputs)))


def _stacks(
    residuals: Sequence[Node], Y: Sequence[Tensor], inputs: Sequence[Tensor], body: Graph, form: Form
) -> list[Tensor]:
    """The residuals of all steps; where the loop has not stacked them all (for a derivative of its own), it runs again."""
    longer = _extended(body, form, residuals)
    if len(longer.outputs) > len(body.outputs):
        Y = looped(longer, inputs, form)
    place = {node: i for i, node in reversed(list(enumerate(longer.outputs))) if i >= form.carries}
    return [Y[place[node]] for node in residuals]


scan_op = Op("scan", "region", _infer, _numpy, vjp=(), types=None, joint=_joint, moves=True)


def times(node: Node) -> int:
    """How often a node runs its regions."""
    form: Form | None = node.params.get("form")
    return 1 if form is None else form.length
