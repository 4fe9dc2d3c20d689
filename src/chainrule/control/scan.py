"""``cr.scan``: a loop whose steps are alike, as one operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.autodiff.trees import aligned, filled, leaves, outline
from chainrule.control.loop import Form, looped
from chainrule.control.region import Entry, Region
from chainrule.errors import DtypeError, SettingError, ShapeError, TraceError, kind_of
from chainrule.graph import Node, Type
from chainrule.names import takes_keywords
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer, lifted, wrap
from chainrule.tensor.creation import as_tensor

Tree = Any
Function = Callable[[Any, Any], tuple[Any, Any]]
MOST = 1 << 63  # steps: they are counted in 64 bits


@takes_keywords("torch")
def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Tree,
    xs: Tree = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Tree, Tree]:
    """A loop that carries a value from step to step, as ``jax.lax.scan``: ``carry[t+1], y[t] = f(carry[t], x[t])``.

    `f` runs on tensors without values, once (or a few times: until it is known which carries require grad), whatever the
    number of steps; so it must be made of tensor operations, as a function for `cr.compile`. A compiled program runs the steps in a native loop: neither its size nor the time to compile
    it depends on how many there are. Tensors from outside that `f` uses (weights, say) get their gradients. Those that it
    writes to (the state of random numbers, running statistics) are carried from step to step like `init`.

    Args:
        f: from (carry, x) to a pair (next carry, y). The carry keeps its structure, shapes and dtypes.
        init: the first carry: a tensor, array or number, or lists, tuples and dicts of them.
        xs: what is read entry by entry along the first axis of every tensor in it; None: nothing (then `x` is None).
        length: the number of steps, where `xs` does not tell it.
        reverse: go from the last entry to the first; each `y` stands where its `x` stood.

    Returns:
        (last carry, ys), every y stacked along a new first axis.

    Raises:
        ShapeError: entries of different lengths, or a carry of another structure or shape.
        DtypeError: a carry of another dtype, or something that is no tensor.
        SettingError: `f` is no function.
        TraceError: `f` needs a value, writes to a tensor from outside that has a gradient, or returns no pair.

    >>> import chainrule as cr
    >>> cr.scan(lambda total, x: (total + x, total * x), cr.tensor(0.0), cr.tensor([1.0, 2.0, 3.0]))
    (tensor(6.), tensor([0., 2., 9.]))
    >>> w = cr.tensor(2.0, requires_grad=True)
    >>> last, _ = cr.scan(lambda h, _: (h * w, None), cr.tensor(1.0), length=3)
    >>> last.backward()
    >>> w.grad
    tensor(12.)
    """
    if not callable(f):
        raise SettingError(
            f"{graph.who('scan')}: f must be a function (carry, x) -> (carry, y), got {kind_of(f)}. Pass the step's function first."
        )
    first, entries = [_given(x, "init") for x in leaves(init)], [_given(x, "xs") for x in leaves(xs)]
    steps = _steps(entries, length)
    run = _settled(f, init, xs, first, entries)
    states = _states(run.region)
    count = len(states)
    inputs = [*(state.input for state in states), *run.carried, *run.sliced]
    written = [state.final for state in states if state.final is not None]
    body, consts = run.region.closed(inputs, [*written, *run.carries, *run.ys])
    begin = [*(wrap(state.value) for state in states), *first]
    found = looped(body, [*consts, *begin, *entries], Form(len(begin), len(entries), steps, bool(reverse)))
    with graph.grad_mode(False):
        for state, last in zip(states, found, strict=False):
            state.handle._rebind(last, "scan")
    return filled(init, list(found[count : len(begin)])), filled(run.out, list(found[len(begin) :]))


class _Run:
    """One run of the function: what stood for the carries and entries of a step, and what it made of them."""

    def __init__(
        self, f: Function, init: Tree, xs: Tree, first: list[Tensor], entries: list[Tensor], flags: list[bool]
    ) -> None:
        recorded, self.region = graph.is_grad_enabled(), Region("scan")
        with self.region.running():
            self.carried = [
                self.region.input(_type_of(x), recorded and flag) for x, flag in zip(first, flags, strict=True)
            ]
            self.sliced = [self.region.input(Type(x.shape[1:], x.dtype), recorded and x.requires_grad) for x in entries]
            # Copies, so that the function may write to what it is given.
            given = [wrap(node).clone() for node in [*self.carried, *self.sliced]]
            after, self.out = _pair(f(filled(init, given[: len(first)]), filled(xs, given[len(first) :])))
            self.carries = _carries(init, after, first)
            self.ys = [lifted(_given(y, "y")) for y in leaves(self.out)]


def _settled(f: Function, init: Tree, xs: Tree, first: list[Tensor], entries: list[Tensor]) -> _Run:
    """What a step returns may require grad where the first carry does not: then the function runs once more."""
    flags = [x.requires_grad for x in first]
    while True:
        run = _Run(f, init, xs, first, entries, flags)
        before, flags = flags, [flag or node.requires_grad for flag, node in zip(flags, run.carries, strict=True)]
        if flags == before:
            return run


def _type_of(tensor: Tensor) -> Type:
    return Type(tensor.shape, tensor.dtype)


def _given(value: Any, what: str) -> Tensor:
    if not isinstance(value, (Tensor, bool, int, float, np.generic, np.ndarray)):
        raise DtypeError(
            f"{graph.who('scan')}: {what} must hold tensors, arrays or numbers (alone, or in lists, tuples and dicts), got "
            f"{type(value).__name__}. Convert it, or use it in the function without passing it."
        )
    return as_tensor(value)


def _steps(entries: list[Tensor], length: int | None) -> int:
    """How many steps there are."""
    if any(not x.ndim for x in entries):
        raise ShapeError(
            f"{graph.who('scan')}: every tensor in xs must have a first axis, along which the steps go, got one without "
            f"axes. Use it in the function without passing it, or expand it."
        )
    found = {x.shape[0] for x in entries}
    if length is not None:
        wanted = integer(length, "scan", "length")
        if not 0 <= wanted < MOST:
            raise ShapeError(f"{graph.who('scan')}: length must be a number from 0 to {MOST - 1}, got {wanted}.")
        if found - {wanted}:
            raise ShapeError(
                f"{graph.who('scan')}: length must be that of xs, got length={wanted} and first axes of "
                f"{_listed(entries)}. Leave length out, or cut xs."
            )
        return wanted
    if not found:
        raise ShapeError(
            f"{graph.who('scan')}: the number of steps must be told by xs or length, got neither. Pass one."
        )
    if len(found) > 1:
        raise ShapeError(
            f"{graph.who('scan')}: all tensors in xs must have first axes of one length, got {_listed(entries)}. Cut them."
        )
    return found.pop()


def _listed(entries: list[Tensor]) -> str:
    return ", ".join(str(x.shape[0]) for x in entries)


def _pair(result: Any) -> tuple[Any, Any]:
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        came = f"{len(result)} results" if isinstance(result, (tuple, list)) else type(result).__name__
        raise TraceError(
            f"{graph.who('scan')}: the function must return a pair (carry, y), got {came}. Where there is no y, return "
            f"(carry, None)."
        )
    return result[0], result[1]


def _carries(init: Tree, after: Tree, first: list[Tensor]) -> list[Node]:
    """The next carry's nodes, in the order of the first one's."""
    found = aligned(init, after)
    if found is None:
        raise ShapeError(
            f"{graph.who('scan')}: the function must return a carry built as init, {outline(init)}, got {outline(after)}. "
            f"Return it in the same structure."
        )
    tensors = [_given(x, "the carry") for x in found]
    names = leaves(_named(init, "carry"))
    for name, before, now in zip(names, first, tensors, strict=True):
        if _type_of(before) != _type_of(now):
            error = ShapeError if before.shape != now.shape else DtypeError
            raise error(
                f"{graph.who('scan')}: the carry must keep its shapes and dtypes, but {name} was {_type_of(before)} and "
                f"came back as {_type_of(now)}. Give init that shape and dtype, or convert what the function returns."
            )
    return list(map(lifted, tensors))


def _named(tree: Tree, name: str) -> Tree:
    """The tree with the name of each leaf in its place."""
    if isinstance(tree, dict):
        return {key: _named(item, f"{name}[{key!r}]") for key, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_named(item, f"{name}[{i}]") for i, item in enumerate(tree)]
    return None if tree is None else name


def _states(region: Region) -> list[Entry]:
    """The tensors from outside that the function writes to, as each step finds them as the one before left them.

    A generator's state is one, and so are the running statistics of a normalization.
    """
    for state in region.changed():
        if state.value.requires_grad or (state.final is not None and state.final.requires_grad):
            raise TraceError(
                f"{graph.who('scan')}: the function writes to a tensor from outside, of {state.met.type}, in a way that has a "
                f"gradient, which a later step could not find. Carry it: pass it in init, and return what it becomes."
            )
    return region.changed()
