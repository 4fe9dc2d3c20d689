"""A convolution as a product: the windows of the input, which are a view, times the weight.

What it gives has its channels last. PyTorch's order is a permutation of that, and work element by element on it is done
before the permutation (`before_permuting`), so that the next convolution reads what this one wrote as it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from chainrule.graph import Node, Op, Shape, Type
from chainrule.ops import contraction, convolution, shaping
from chainrule.ops.shaping import Sizes

LINE = 8  # places of windows in a line, from which on they make vectors that are worth another copy of the image

Make = Callable[[Op, tuple[Node, ...], dict[str, Any]], Node]


def as_product(make: Make, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node:
    """The convolution of these as a product, made of nodes that `make` gives.

    Rows are the places of windows in all images, terms the elements of a window: channel by channel, as they lie in the weight.
    """
    x, w = inputs
    groups, channels, *sizes, out = w.shape
    shape = convolution.conv.infer(x, w, **params).shape
    seen = _with_lines(make, x) if out == 1 < channels and shape[-2] >= LINE else x
    for axis, (size, step, dilation) in enumerate(zip(sizes, params["stride"], params["dilation"], strict=True)):
        seen = make(shaping.unfold, (seen,), {"dim": axis + 2, "size": size, "step": step, "dilation": dilation})
    terms = channels * math.prod(sizes)
    rows = make(shaping.reshape, (seen,), {"shape": (groups, math.prod(shape[1:-1]), terms)})
    columns = make(shaping.reshape, (w,), {"shape": (groups, terms, out)})
    product = make(contraction.matmul, (rows, columns), {})
    return make(shaping.reshape, (product,), {"shape": shape})


@dataclass(frozen=True)
class _Padded:
    """An image with zeros around and between its elements, which may have been permuted since."""

    source: Node
    dims: Sizes
    low: Sizes
    high: Sizes
    interior: Sizes

    @classmethod
    def of(cls, x: Node) -> _Padded | None:
        """None for an image without."""
        dims, x = (x.params["dims"], x.inputs[0]) if x.op is shaping.permute else (tuple(range(len(x.shape))), x)
        if x.op is not shaping.pad:
            return None
        sides = (tuple(x.params[side][axis] for axis in dims) for side in ("low", "high", "interior"))
        return cls(x.inputs[0], dims, *sides)

    @property
    def inside(self) -> Shape:
        """The sizes without the zeros."""
        return tuple(self.source.shape[axis] for axis in self.dims)

    def image(self, make: Make, low: Sizes, high: Sizes) -> Node:
        """The same with other zeros around it and none between, which lies in memory as this does."""
        back = shaping.inverse_permutation(self.dims)
        bounds = {"low": low, "high": high, "interior": (0,) * len(low)}
        bounds = {side: tuple(sizes[axis] for axis in back) for side, sizes in bounds.items()}
        return make(shaping.permute, (make(shaping.pad, (self.source,), bounds),), {"dims": self.dims})


def by_phases(make: Make, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node | None:
    """A convolution of an image with zeros between its elements, as one of the image itself; None for any other.

    As the gradient of a strided one is. Every s-th place of its windows meets the same elements of the weight, the others only
    zeros: so each of the s phases of a line of places has columns of its own, of a weight that is s times as short. The terms
    that are left keep their order (those of a single column, which are dealt to lanes, would not); where s does not divide
    a window, its weight is made up with zeros.
    """
    x, w = _Padded.of(inputs[0]), inputs[1]
    if x is None or w.shape[-1] == 1 or max(*params["stride"], *params["dilation"]) > 1 or 0 in x.inside:
        return None
    apart = tuple(gap + 1 for gap in x.interior[2:-1])
    if max(apart) == 1 or any(side[axis] for side in (x.low, x.high, x.interior) for axis in (0, 1, -1)):
        return None
    count = convolution.conv.infer(*inputs, **params).shape[2:-1]
    axes = list(map(_phases, x.inside[2:-1], x.low[2:-1], apart, w.shape[2:-1], count))
    image = x.image(make, (0, 0, *(a.low for a in axes), 0), (0, 0, *(a.high for a in axes), 0))
    found = make(convolution.conv, (image, _of_phases(make, w, axes)), params)
    return _in_lines(make, found, axes, apart, count)


class _Phases(NamedTuple):
    """One axis: zeros before and behind the image, places before the first that counts, zeros behind the weight.

    `phases`: how many there are, the last ones, whose places meet any element of the weight.
    """

    low: int
    high: int
    before: int
    behind: int
    phases: int


def _phases(size: int, low: int, apart: int, window: int, count: int) -> _Phases:
    """Places begin where the first element of a window meets the last phase: so windows are as short as they can be."""
    before = (apart - 1 - low) % apart
    short = -(-window // apart)
    low = (low + before) // apart
    places = -(-(before + count) // apart)
    phases = min(apart, window)
    return _Phases(low, max(0, places + short - 1 - low - size), before, short * phases - window, phases)


def _of_phases(make: Make, w: Node, axes: list[_Phases]) -> Node:
    """The weight of each phase as columns of its own."""
    *kept, out = w.shape[:2] + w.shape[-1:]
    rank, flat = len(axes), (0,) * len(w.shape)
    behind = (0, 0, *(a.behind for a in axes), 0)
    if any(behind):
        w = make(shaping.pad, (w,), {"low": flat, "high": behind, "interior": flat})
    short = tuple(size // a.phases for size, a in zip(w.shape[2:-1], axes, strict=True))
    fallen = [size for part, a in zip(short, axes, strict=True) for size in (part, a.phases)]
    w = make(shaping.reshape, (w,), {"shape": (*kept, *fallen, out)})
    windows, phases = range(2, 2 + 2 * rank, 2), tuple(range(3, 3 + 2 * rank, 2))
    w = make(shaping.flip, (w,), {"dims": phases})
    w = make(shaping.permute, (w,), {"dims": (0, 1, *windows, *phases, 2 + 2 * rank)})
    return make(shaping.reshape, (w,), {"shape": (*kept, *short, math.prod(a.phases for a in axes) * out)})


def _in_lines(make: Make, found: Node, axes: list[_Phases], apart: Sizes, count: Sizes) -> Node:
    """The phases' columns as neighbouring places, those that count."""
    kept, places, rank = found.shape[:2], found.shape[2:-1], len(axes)
    phases, flat = tuple(a.phases for a in axes), (0,) * (3 + 2 * rank)
    out = found.shape[-1] // math.prod(phases)
    x = make(shaping.reshape, (found,), {"shape": (*kept, *places, *phases, out)})
    none = (*flat[: 2 + rank], *(step - own for step, own in zip(apart, phases, strict=True)), 0)
    if any(none):
        x = make(shaping.pad, (x,), {"low": none, "high": flat, "interior": flat})
    pairs = (axis for i in range(rank) for axis in (2 + i, 2 + rank + i))
    x = make(shaping.permute, (x,), {"dims": (0, 1, *pairs, 2 + 2 * rank)})
    lines = (size * step for size, step in zip(places, apart, strict=True))
    x = make(shaping.reshape, (x,), {"shape": (*kept, *lines, out)})
    stop = (*kept, *(a.before + size for a, size in zip(axes, count, strict=True)), out)
    start = (0, 0, *(a.before for a in axes), 0)
    return make(shaping.slice, (x,), {"start": start, "stop": stop, "step": (1,) * len(stop)})


def _with_lines(make: Make, x: Node) -> Node:
    """The same image, each channel of which lies in memory as lines: vectors of a single output run along them."""
    last, none = len(x.shape) - 1, (0,) * len(x.shape)
    dims = (0, 1, last, *range(2, last))
    padded = _Padded.of(x) or _Padded(x, tuple(range(last + 1)), none, none, none)
    order = tuple(padded.dims[axis] for axis in dims)
    moved = make(shaping.permute, (padded.source,), {"dims": order})
    sides = {side: tuple(getattr(padded, side)[axis] for axis in dims) for side in ("low", "high", "interior")}
    return make(shaping.permute, (make(shaping.pad, (moved,), sides),), {"dims": shaping.inverse_permutation(dims)})


def of_part(make: Make, inputs: tuple[Node, ...], params: dict[str, Any], part: dict[str, Sizes]) -> Node | None:
    """Some of a convolution, by the start, stop and step of a slice: the convolution of what is in those windows.

    So the gradient of an input that was padded, or spread, is computed for the input alone.
    """
    x, w = inputs
    start, stop, step = part["start"], part["stop"], part["step"]
    whole = (start[-1], stop[-1]) == (0, w.shape[-1]) and step[:2] == (1, 1) and step[-1] == 1
    if not whole or any(a >= b for a, b in zip(start, stop, strict=True)):
        return None
    inner = zip(start[2:-1], stop[2:-1], step[2:-1], strict=True)
    ends = [(a, a + (b - a - 1) // each * each) for a, b, each in inner]
    axes = zip(ends, w.shape[2:-1], params["stride"], params["dilation"], strict=True)
    spans = [(a * stride, b * stride + apart * (size - 1) + 1) for (a, b), size, stride, apart in axes]
    first, last = ((*sides[:2], *side) for sides, side in zip((start, stop), zip(*spans, strict=True), strict=True))
    bounds = {"start": (*first, 0), "stop": (*last, x.shape[-1]), "step": (1,) * len(x.shape)}
    stride = tuple(stride * each for stride, each in zip(params["stride"], step[2:-1], strict=True))
    return make(convolution.conv, (make(shaping.slice, (x,), bounds), w), {**params, "stride": stride})


def of_padded(make: Make, x: Node, params: dict[str, Any]) -> Node | None:
    """A slice that takes of a padded node no more than zeros away: the node with fewer of them."""
    if x.op is not shaping.pad or any(step != 1 for step in params["step"]):
        return None
    low = tuple(before - a for before, a in zip(x.params["low"], params["start"], strict=True))
    cut = (size - b for size, b in zip(x.shape, params["stop"], strict=True))
    high = tuple(after - c for after, c in zip(x.params["high"], cut, strict=True))
    if min((*low, *high), default=0) < 0:
        return None
    return make(shaping.pad, x.inputs, {**x.params, "low": low, "high": high})


def lies_as_before(op: Op) -> bool:
    """Has what the op makes its channels where its input has them?"""
    return op.kind == "elementwise" or op in (shaping.reshape, shaping.slice, shaping.pad)


def before_permuting(
    make: Make, op: Op, inputs: tuple[Node, ...], params: dict[str, Any], given: set[Node]
) -> Node | None:
    """Work element by element on a permutation of what convolutions gave (`given`), as a permutation of that work."""
    first = next((x for x in inputs if _permutes(x, given)), None)
    if first is None:
        return None
    type, dims = op.infer(*inputs, **params), first.params["dims"]
    if not isinstance(type, Type) or type.shape != first.shape or math.prod(type.shape) == 1:
        return None
    back = shaping.inverse_permutation(dims)

    def turned(x: Node) -> Node:
        if math.prod(x.shape) == 1:
            return make(shaping.reshape, (x,), {"shape": ()})
        whole = make(shaping.reshape, (x,), {"shape": (1,) * (len(dims) - len(x.shape)) + x.shape})
        return make(shaping.permute, (whole,), {"dims": back})

    before = tuple(map(turned, inputs))
    if any(_permutes(x, given) for x in before):  # there and back again, without end
        return None
    return make(shaping.permute, (make(op, before, params),), {"dims": dims})


def _permutes(x: Node, given: set[Node]) -> bool:
    return x.op is shaping.permute and x.inputs[0] in given
