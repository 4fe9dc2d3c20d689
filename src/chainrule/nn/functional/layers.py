"""linear, dropout and one_hot."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from chainrule import graph
from chainrule.dtypes import uint8
from chainrule.errors import DataError, DtypeError, SettingError
from chainrule.names import takes_keywords
from chainrule.nn.functional.activations import placed
from chainrule.nn.functional.resizing import BORDERS, bordered
from chainrule.tape.doors import as_one
from chainrule.tensor import Tensor
from chainrule.tensor.core import integer, number, settled
from chainrule.tensor.creation import arange, given, ones
from chainrule.tensor.operands import as_written
from chainrule.tensor.random import Generator, rand_like
from chainrule.tensor.rounding import in_float32, rounded_once
from chainrule.tensor.whole import whole


@takes_keywords("functional")
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``y = x W^T + b``.

    Args:
        input: shape (..., in_features), floating.
        weight: shape (out_features, in_features), of the same dtype.
        bias: shape (out_features,), or None.

    Returns:
        A tensor of shape (..., out_features).

    Raises:
        ShapeError: the last axis of the input is not in_features.
        DtypeError: input and weight differ in dtype.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.linear(cr.tensor([1.0, 2.0]), cr.tensor([[3.0, 4.0]]), cr.tensor([5.0]))
        tensor([16.])
    """
    if not isinstance(input, Tensor) or not isinstance(weight, Tensor):
        input, weight = given(input, "linear"), given(weight, "linear", "weight")
    of_input, of_weight = input._node, weight._node
    if not of_input.shape or of_input.shape[-1] != of_weight.shape[-1]:
        raise graph.shape_error(
            "linear", f"the last axis of the input must be {weight.shape[-1]} (weight {weight.shape})",
            f"shape {input.shape}", "Reshape the input, or change in_features.",
        )  # fmt: skip
    if of_input.dtype is not of_weight.dtype:
        raise DtypeError(
            f"{graph.who('linear')}: input and weight must have one dtype, got {input.dtype.name} and "
            f"{weight.dtype.name}. Convert the input with cr.as_tensor(input, dtype=cr.{weight.dtype.name})"
            f"{f', or the model with model.to(cr.{input.dtype.name})' if input.dtype.is_floating_point else ''}."
        )
    if of_input.dtype.only_stores:
        return in_float32(linear, input, weight, bias)
    return _linear(input, weight, bias)


def linear_formula(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    local = graph._local
    outer, local.aliasing = local.aliasing, False
    try:
        product = input @ weight.T
    finally:
        local.aliasing = outer
    return product if bias is None else product + bias


_linear = as_one(linear_formula)


_UNSIGNED = {size: np.dtype(f"u{size}") for size in (1, 2, 4, 8)}  # by bytes


def probability(name: str, p: Any, what: str = "p") -> float:
    """p as a number in [0, 1]."""
    with suppress(DtypeError):
        share = float(number(p, name, what))
        if 0 <= share <= 1:
            return share
    raise SettingError(f"{name}: {what}, the share of elements to drop, must be a number in [0, 1], got {p!r}.")


@takes_keywords("functional")
@rounded_once
def dropout(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Each element 0 with probability p, else divided by ``1 - p``, so that the expectation stays.

    Args:
        input: any shape, floating.
        p: the share to drop, in [0, 1].
        training: False returns the input as it is.
        inplace: write the result to the input, too.
        generator: where the random numbers come from; the default one if left out.

    Raises:
        SettingError: p outside [0, 1].

    Source: Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014.
    """
    input, p = given(input, "dropout"), probability("dropout", p)
    if not training or p == 0:
        return input
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return placed(input, _kept(input, rand_like(input, generator=generator), p, scale), inplace, "dropout")


@whole
def _kept(input: Tensor, drawn: Tensor, p: float, scale: float) -> Tensor:
    return input * (drawn >= p).to(input.dtype) * scale


@takes_keywords("functional")
def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the class each element names, 0 elsewhere.

    Args:
        tensor: class numbers, integers of any shape.
        num_classes: how many classes; -1 takes the largest class number plus 1 (not inside ``cr.compile``,
            where shapes cannot depend on values).

    Returns:
        int64, one axis more than the input, of length num_classes.

    Raises:
        DtypeError: the input is not integer.
        DataError: a class number outside [0, num_classes).

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.one_hot(cr.tensor([0, 2])).tolist()
        [[1, 0, 0], [0, 0, 1]]
    """
    tensor, num_classes = given(tensor, "one_hot"), integer(num_classes, "one_hot", "num_classes")
    if not tensor.dtype.is_integer:
        raise DtypeError(
            f"{graph.who('one_hot')}: class numbers must be integers, got {tensor.dtype.name}. "
            f"Convert them with .long()."
        )
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    check_labels("one_hot", tensor, num_classes)
    return (tensor.unsqueeze(-1) == arange(num_classes)).long()


def all_below(labels: graph.Array, classes: int) -> bool:
    """Do all labels lie in [0, classes)? As unsigned numbers, negative ones are the largest: one look at each."""
    if not labels.size:
        return True
    unsigned = labels.view(_UNSIGNED[labels.itemsize])
    largest = unsigned.argmax()  # `max` is written in Python, and takes three times as long
    return bool(unsigned.item(largest) < classes)


def check_labels(name: str, labels: Tensor, classes: int, ignore_index: int | None = None) -> bool:
    """Raise for the first label outside [0, classes), where labels are known: not inside a trace. Is it known that all lie inside?"""
    if graph.unchecked(labels, classes, ignore_index):
        return False
    values = settled(labels).value
    if all_below(values, classes):
        return True
    wrong = (values < 0) | (values >= classes)
    if ignore_index is not None:
        wrong &= values != ignore_index
    if not wrong.any():
        return False
    flat = int(wrong.reshape(-1).argmax())
    position = tuple(int(i[0]) for i in wrong.nonzero()) if values.ndim > 1 else flat
    raise DataError(
        f"{graph.who(name)}: label {int(values.reshape(-1)[flat])} at position {position} is not in "
        f"[0, {classes - 1}]: there are {classes} classes. Number the classes from 0, or widen the "
        "last layer."
    )


@takes_keywords("functional")
@rounded_once
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``y[k] = x1^T W[k] x2 + b[k]``.

    Args:
        input1: shape (..., in1_features), floating.
        input2: shape (..., in2_features), with the same axes before the last.
        weight: shape (out_features, in1_features, in2_features).
        bias: shape (out_features,), or None.

    Raises:
        ShapeError: the shapes do not fit.
    """
    input1, input2 = given(input1, "bilinear", "input1"), given(input2, "bilinear", "input2")
    weight = given(weight, "bilinear", "weight")
    if weight.ndim != 3 or not input1.ndim or (*input1.shape[:-1], *weight.shape[1:]) != (
        *input1.shape, *input2.shape[-1:]
    ) or input1.shape[:-1] != input2.shape[:-1]:  # fmt: skip
        raise graph.shape_error(
            "bilinear", f"the inputs must have shapes (..., I) and (..., J) for a weight (K, I, J), here {weight.shape}",
            f"{input1.shape} and {input2.shape}", "Reshape the inputs, or change the sizes of the layer.",
        )  # fmt: skip
    out, rows, columns = weight.shape
    by_row = input1 @ weight.permute(1, 0, 2).reshape(rows, out * columns)
    product = (by_row.reshape(*input1.shape[:-1], out, columns) * input2.unsqueeze(-2)).sum(-1)
    return product if bias is None else product + bias


@takes_keywords("functional")
def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The input with a border, or without one where the number is negative.

    Args:
        input: any shape.
        pad: how much before and after the last axis, then the one before it, and so on.
        mode: "constant", or elements of the input's own: "reflect" (without the outermost), "replicate", "circular".
        value: what the border holds; 0 if left out.

    Raises:
        SettingError: another mode, or not two numbers for each of the last axes.
        DtypeError: the dtype of the input, which the result has, holds integers and not `value`.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.pad(cr.tensor([1.0, 2.0]), (1, 2), value=7.0)
        tensor([7., 1., 2., 7., 7.])
    """
    x, sizes = given(input, "pad"), [integer(size, "pad", "pad") for size in pad]
    if mode not in ("constant", *BORDERS):
        raise SettingError(f"pad: the mode must be 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}.")
    if len(sizes) % 2 or len(sizes) > 2 * x.ndim:
        raise SettingError(f"pad: give two numbers for each of the last axes of {x.shape}, got {tuple(pad)!r}.")
    if mode != "constant":
        return bordered(x, sizes, mode)
    low, high = [0] * x.ndim, [0] * x.ndim
    for at, before, after in zip(reversed(range(x.ndim)), sizes[::2], sizes[1::2], strict=False):
        start, length = max(0, -before), x.shape[at] - max(0, -before) - max(0, -after)
        if length < 0:
            raise SettingError(f"pad: {before} and {after} take more than axis {at} of {x.shape} has.")
        x = x.narrow(at, start, length)
        low[at], high[at] = max(0, before), max(0, after)
    border = (tuple(low), tuple(high), (0,) * x.ndim)
    if not value:
        return x._pad(*border)
    held = number(value, "pad", "value")
    if x.dtype is uint8 and held < 0:
        held = float(held)  # as in PyTorch: where a negative integer goes around the end, a float is refused
    edge = as_written(held, x.dtype, "pad")
    return x._pad(*border).where(ones(*x.shape)._pad(*border) != 0, edge)
