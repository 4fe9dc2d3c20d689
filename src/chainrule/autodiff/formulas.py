"""The derivative rules of an op on inputs of known types, as a straight line of NumPy calls.

A rule is a formula over Tensors, whatever its values: so for each kind of node that is met again it is traced once, and after
that a backward pass that nobody will differentiate calls the NumPy references that the trace found, on the arrays themselves.
They are those that the formula's operators would call, in their order: the bits are the same.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from chainrule import graph
from chainrule.errors import TraceError
from chainrule.graph import CONST, INPUT, Array, Kind, Node, Recorder
from chainrule.quiet import here, in_the_middle
from chainrule.tensor.core import lifted, wrap

LARGEST = 1 << 18  # elements of an array, beyond which Python no longer counts and what is done with should go at once


class Step(NamedTuple):
    """One call: of which values, by their places, and in which dtype its result is wanted."""

    function: Callable[..., Any]
    first: int
    second: int | None
    more: tuple[int, ...]
    dtype: np.dtype[Any]


class Formula(NamedTuple):
    """What the gradients with respect to some inputs of a node are.

    Attributes:
        vjp: the rules that it was made of.
        constants: values that stand behind dY, Y and the inputs.
        results: where each gradient stands at last.
    """

    vjp: Any
    constants: tuple[Array, ...]
    steps: tuple[Step, ...]
    results: tuple[int, ...]

    def products(self, node: Node, dY: Array) -> list[Array]:
        """The gradients of this node, where `dY` is its own."""
        values = [dY, node.value if node._array is None else node._array]
        for source in node.inputs:
            values.append(source.value if source._array is None else source._array)
        values += self.constants
        if self.steps:
            try:
                here.run(_run, self.steps, values)
            except RuntimeError as error:
                values = values[: len(node.inputs) + 2 + len(self.constants)]
                in_the_middle(error, _run, self.steps, values)
        return [values[place] for place in self.results]


def _run(steps: Sequence[Step], values: list[Array]) -> None:
    for function, first, second, more, dtype in steps:
        if second is None:
            value = function(values[first])
        elif more:
            value = function(values[first], values[second], *[values[place] for place in more])
        else:
            value = function(values[first], values[second])
        values.append(value if value.__class__ is np.ndarray and value.dtype is dtype else np.asarray(value, dtype))


def formula_of(node: Node, kind: Kind, reaching: tuple[int, ...]) -> Formula | None:
    """That of a node's gradients with respect to these inputs; None where its rules must be asked each time.

    The first time they are: shapes that vary are met once, and tracing takes longer than asking.
    """
    known = kind.formulas
    if known is None:
        known = kind.formulas = {}
    found = known.get(reaching, _UNKNOWN)
    if found is _UNKNOWN:
        known[reaching] = _ONCE
        return None
    if found is _ONCE or (found is not None and found.vjp is not node.op.vjp):
        found = known[reaching] = _traced(node, reaching)
    return found  # type: ignore[no-any-return]


_UNKNOWN, _ONCE = object(), object()


def _traced(node: Node, reaching: Sequence[int]) -> Formula | None:
    """In a thread of its own: what comes in the middle of it, a signal's handler, is in no trace and computes as ever."""
    if node.op.joint is not None:
        return None
    found: list[Formula | None] = []
    thread = threading.Thread(target=lambda: found.append(_trace(node, reaching)), daemon=True)
    collects = gc.isenabled()
    gc.disable()  # nor does a finalizer come there
    try:
        thread.start()
        thread.join()
    except RuntimeError:  # there can be no more threads
        return None
    finally:
        if collects:
            gc.enable()
    return found[0] if found else None


def _trace(node: Node, reaching: Sequence[int]) -> Formula | None:
    trace = _Trace()
    types = [node.type, node.type, *(source.type for source in node.inputs)]
    try:
        with graph.recording(trace), graph.grad_mode(False), graph.aliasing(False):
            given = [Node(INPUT, (), {}, type, trace=trace) for type in types]
            outputs = [_product(node, argument, given) for argument in reaching]
            return _straight(node.op.vjp, given, outputs)
    except Exception:  # the rule asks for values, say; where it is wrong it will say so when it is asked
        return None


def _product(node: Node, argument: int, given: Sequence[Node]) -> Node:
    rule = node.op.rule(argument)
    if rule is None:
        raise TraceError("a derivative that is zero is no formula")
    product = rule(*map(wrap, given), **node.params)
    return lifted(product.sum_to_size(node.inputs[argument].shape))


def _straight(vjp: Any, given: Sequence[Node], outputs: Sequence[Node]) -> Formula | None:
    """The nodes that the outputs need, one after the other; None where there is more to one than a call of NumPy's."""
    needed = graph.toposort(outputs)
    constants = [node for node in needed if node.op is CONST]
    made = [node for node in needed if node.inputs]
    places = {node: place for place, node in enumerate([*given, *constants, *made])}
    if len(places) < len(given) + len(set(needed).difference(given)):
        return None  # an array of the rule's own
    if any(node.op.types is None or prod(node.shape) > LARGEST for node in [*given, *made]):
        return None
    steps = [
        Step(
            partial(node.op.numpy, **node.params) if node.params else node.op.numpy,
            first,
            rest[0] if rest else None,
            tuple(rest[1:]),
            node.dtype.numpy,
        )
        for node in made
        for first, *rest in ([places[source] for source in node.inputs],)
    ]
    return Formula(vjp, tuple([node.value for node in constants]), tuple(steps), tuple([places[n] for n in outputs]))


class _Trace(Recorder):
    """Of a rule, which uses what it is given and nothing else."""

    name = "a derivative rule"

    def __init__(self) -> None:
        self.thread, self.began, self.ended = threading.get_ident(), time.monotonic(), threading.Event()
        self.guards, self.unchecked = [], []

    def lift(self, handle: Any) -> Node:
        raise TraceError("a derivative rule uses a tensor of its own")
