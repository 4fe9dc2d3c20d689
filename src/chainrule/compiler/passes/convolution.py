"""A convolution as a product: the windows of the input, which are a view, times the weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chainrule.graph import Node, Op
from chainrule.ops import contraction, convolution, shaping

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
