"""The tensors of a training: which they are, and going back to how they were."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np

from chainrule.dtypes import numbers_of
from chainrule.nn import Module
from chainrule.optim import Optimizer
from chainrule.tensor import Tensor
from chainrule.tensor.creation import from_stored
from chainrule.tensor.functions import no_grad

Array = np.ndarray[Any, Any]
Snapshot = list[tuple[Tensor, Array]]
Layout = dict[Tensor, dict[str, Tensor]]
SMALL = 1 << 15  # bytes that are copied in 2 us, which is what a program takes to move one tensor to new memory


def optimized(optimizer: Optimizer) -> list[Tensor]:
    """Every tensor that the optimizer moves."""
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def parts(loss: Callable[..., Any], name: str = "loss") -> Iterator[tuple[str, Any]]:
    """The modules, tensors and objects that a loss is made of, each with its name.

    A module is one part, with all below it. Of a function: what it closes over; of a partial: what it was given; of
    a method: its object; of any other object: its attributes, and what is in those that are dicts.
    """
    yield name, loss
    if not isinstance(loss, Module):
        for key, value in _held(loss).items():
            if isinstance(value, (Module, Tensor)):
                yield f"{name}.{key}", value
            elif isinstance(value, _OF_OTHERS):
                yield from parts(value, f"{name}.{key}")


_OF_OTHERS = types.MethodType, functools.partial  # functions made of other things
_PARTS = (Module, Tensor, *_OF_OTHERS)


def alone(loss: Callable[..., Any]) -> bool:
    """Does `parts` certainly give this loss and nothing else? (Asked at every walk, so without one.)"""
    if isinstance(loss, types.FunctionType):
        return not any(isinstance(held, _PARTS) for held in _contents(loss.__closure__ or ()))
    return isinstance(loss, Module)


def _held(loss: Any) -> dict[str, Any]:
    if isinstance(loss, types.FunctionType):
        return _closed_over(loss)
    if isinstance(loss, functools.partial):
        return {"function": loss.func, **{str(i): value for i, value in enumerate(loss.args)}, **loss.keywords}
    if isinstance(loss, types.MethodType):
        return {"object": loss.__self__, **getattr(loss.__self__, "__dict__", {})}
    own = dict(getattr(loss, "__dict__", {}))
    tables = [(name, table) for name, table in own.items() if type(table) is dict]
    return {**own, **{f"{name}.{key}": value for name, table in tables for key, value in table.items()}}


def _contents(cells: Iterable[types.CellType]) -> list[Any]:
    """What these hold; None for one that nothing is in yet."""
    try:
        return [cell.cell_contents for cell in cells]
    except ValueError:
        return [cell.cell_contents if cell != types.CellType() else None for cell in cells]


def _closed_over(function: Any) -> dict[str, Any]:
    return dict(zip(function.__code__.co_freevars, _contents(function.__closure__ or ()), strict=True))


def modules(model: Module, loss: Callable[..., Any]) -> dict[str, Module]:
    """The model and the modules of the loss, by name."""
    return {"model": model, **{name: part for name, part in parts(loss) if isinstance(part, Module)}}


def named(model: Module, loss: Callable[..., Any], optimizer: Optimizer) -> dict[str, Tensor]:
    """Parameters, buffers and whatever else is optimized, each once: what a training is about, by name."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, handle in _every(model, loss, optimizer):
        found.setdefault(id(handle), (name, handle))
    return dict(found.values())


def _every(model: Module, loss: Callable[..., Any], optimizer: Optimizer) -> Iterator[tuple[str, Tensor]]:
    for name, module in modules(model, loss).items():
        yield from module.named_parameters(name)
        yield from module.named_buffers(name)
    yield from ((name, part) for name, part in parts(loss) if isinstance(part, Tensor))
    yield from ((f"optimized.{i}", handle) for i, handle in enumerate(optimized(optimizer)))


def once(*sources: Iterable[Tensor]) -> list[Tensor]:
    """Each handle of the sources, the first time it comes."""
    return list({id(handle): handle for handle in chain.from_iterable(sources)}.values())


def moments(optimizer: Optimizer) -> list[Tensor]:
    """The optimizer's state."""
    return [value for state in optimizer.state.values() for value in state.values()]


def values(of: Iterable[Tensor]) -> Snapshot:
    """The values now. Whoever looks at one makes the next step move on to new memory; small ones are copied instead."""
    return [
        (handle, handle._node.value if value is None or value.nbytes > SMALL else value.copy())
        for handle in of
        for value in (handle._node._value,)
    ]


def copies(of: Iterable[Tensor]) -> Snapshot:
    """Copies of the values now, so that the next step goes on in the memory that it is in."""
    return [
        (handle, (handle._node.value if held is None else held).copy())
        for handle in of
        for held in (handle._node._value,)
    ]


class Lent:
    """Tensors while somebody else has the floor: did anybody write to one, or keep what it has?

    Whoever reads a value notes so on its node, and whoever writes makes another, in the memory of the old one only where
    nobody has read that. So each is marked as read, in a way that tells the mark from the note.
    """

    def __init__(self, handles: Iterable[Tensor]) -> None:
        self._nodes = [(handle, handle._node, handle._node.seen) for handle in handles]
        for _, node, _ in self._nodes:
            node.seen = _LENT

    def untouched(self) -> bool:
        """Is every one as it was, and nobody's but the training's? The marks are taken away."""
        found = True
        for handle, node, seen in self._nodes:
            if handle._node is not node or node.seen is not _LENT or handle._views is not None:
                found = False
            if node.seen is _LENT:
                node.seen = seen
        return found


_LENT: Any = "lent"  # as true as a note that it was read


def restore(saved: Snapshot) -> None:
    """Every handle back to its value in the snapshot."""
    with no_grad():
        for handle, value in saved:
            if _alike(handle._node._value, value):
                continue
            if handle.shape == value.shape and handle.dtype.numpy == value.dtype:
                handle.copy_(from_stored(value))
            else:
                handle._node = from_stored(value)._node


Gradients = list[tuple[Tensor, "Tensor | None", "Array | None"]]


def gradients(of: Iterable[Tensor]) -> Gradients:
    """The gradients now, each with its value."""
    return [(handle, grad, None if grad is None else grad._node.value) for handle in of for grad in (handle.grad,)]


def restore_gradients(saved: Gradients) -> None:
    """Every gradient back to what it was."""
    for handle, grad, value in saved:
        if handle.grad is not grad:
            handle.grad = grad
        if grad is not None and value is not None:
            restore([(grad, value)])


def same(a: Snapshot, b: Snapshot) -> bool:
    """Are these snapshots of the same values? Large ones that were rebound in between count as others."""
    return len(a) == len(b) and all(x is y and _alike(v, w) for (x, v), (y, w) in zip(a, b, strict=True))


def _alike(a: Array | None, b: Array) -> bool:
    """One array, or (of small ones) to the bit what the other is."""
    if a is b or a is None or a.nbytes > SMALL:
        return a is b
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def same_gradients(a: Gradients, b: Gradients) -> bool:
    """Likewise, of gradients."""
    pairs = zip(a, b, strict=False)
    return len(a) == len(b) and all(all(x is y for x, y in zip(*pair, strict=True)) for pair in pairs)


def all_finite(parameters: Iterable[Tensor]) -> bool:
    """Is every one free of NaN and infinity?"""
    with np.errstate(all="ignore"):
        # Not by `value`, which would note that somebody holds the memory itself.
        return all(_finite(p._node.value if p._node._value is None else p._node._value) for p in parameters)


def finite(value: Array) -> bool:
    """No NaN and no infinity in it (one pass without a mask, where the sum does not overflow)."""
    with np.errstate(all="ignore"):
        return _finite(value)


def _finite(value: Array) -> bool:
    value = numbers_of(value)
    if value.dtype.kind != "f":
        return True
    return math.isfinite(np.add.reduce(value, axis=None)) or bool(np.isfinite(value).all())
