"""A convolution as a product: the windows of the input, which are a view, times the weight.

What it gives has its channels last. PyTorch's order is a permutation of that, and work element by element on it is done
before the permutation (`before_permuting`), so that the next convolution reads what this one wrote as it lies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chainrule.graph import Node, Op, Type
from chainrule.ops import contraction, convolution, shaping
from chainrule.ops.shaping import Sizes

Make = Callable[[Op, tuple[Node, ...], dict[str, Any]], Node]


def as_product(make: Make, inputs: tuple[Node, ...], params: dict[str, Any]) -> Node:
    """The convolution of these as a product, made of nodes that `make` gives.

    Rows are the places of windows in all images, terms the elements of a window: channel by channel, as they lie in the weight.
    """
    x, w = inputs
    groups, channels, *sizes, out = w.shape
    shape = convolution.conv.infer(x, w, **params).shape
    seen = x
    for axis, (size, step, dilation) in enumerate(zip(sizes, params["stride"], params["dilation"], strict=True)):
        seen = make(shaping.unfold, (seen,), {"dim": axis + 2, "size": size, "step": step, "dilation": dilation})
    terms = channels * math.prod(sizes)
    rows = make(shaping.reshape, (seen,), {"shape": (groups, math.prod(shape[1:-1]), terms)})
    columns = make(shaping.reshape, (w,), {"shape": (groups, terms, out)})
    product = make(contraction.matmul, (rows, columns), {})
    return make(shaping.reshape, (product,), {"shape": shape})


def of_part(make: Make, inputs: tuple[Node, ...], params: dict[str, Any], start: Sizes, stop: Sizes) -> Node | None:
    """The part of a convolution from `start` to `stop`: the convolution of the part of its input that is in those windows.

    So the gradient of an input that was padded is computed for the input alone.
    """
    x, w = inputs
    if (start[-1], stop[-1]) != (0, w.shape[-1]) or any(a >= b for a, b in zip(start, stop, strict=True)):
        return None
    axes = zip(start[2:-1], stop[2:-1], w.shape[2:-1], params["stride"], params["dilation"], strict=True)
    spans = [(a * step, (b - 1) * step + apart * (size - 1) + 1) for a, b, size, step, apart in axes]
    first, last = ((*ends[:2], *inner) for ends, inner in zip((start, stop), zip(*spans, strict=True), strict=True))
    bounds = {"start": (*first, 0), "stop": (*last, x.shape[-1]), "step": (1,) * len(x.shape)}
    return make(convolution.conv, (make(shaping.slice, (x,), bounds), w), params)


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
