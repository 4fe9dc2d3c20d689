"""Activations made of pieces: lines, what is clipped between them, what is shrunk towards 0.

The derivative at a kink is PyTorch's, and 0 at NaN, where the value is NaN, as in PyTorch's vectors (of numbers left over
from those it is 1 there).
"""

from __future__ import annotations

from chainrule.dtypes import uint8
from chainrule.errors import DtypeError, SettingError
from chainrule.graph import shape_error, who
from chainrule.names import takes_keywords
from chainrule.nn.functional.activations import placed
from chainrule.tensor import Tensor
from chainrule.tensor.core import number
from chainrule.tensor.creation import given
from chainrule.tensor.operands import check_written
from chainrule.tensor.random import Generator, rand_like
from chainrule.tensor.rounding import rounded_once
from chainrule.tensor.whole import whole


@takes_keywords("functional")
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``x`` where it exceeds the threshold, ``value`` elsewhere.

    Args:
        input: any shape.
        threshold: up to here it is replaced.
        value: what replaces it.
        inplace: write the result to the input, too.
    """
    x = given(input, "threshold")
    bound = number(threshold, "threshold", "threshold")
    check_written(bound, x.dtype, "threshold")
    low = x <= bound
    return placed(x, x.masked_fill(low, number(value, "threshold", "value")), inplace, "threshold")


@takes_keywords("functional")
@rounded_once
def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` held between two numbers, at which the gradient is 0.

    Args:
        input: any shape.
        min_val: the lower one.
        max_val: the upper one, not below min_val.
        inplace: write the result to the input, too.

    Raises:
        SettingError: min_val exceeds max_val.
        DtypeError: integers, and an integer limit that does not fit their dtype; unsigned ones, and a negative limit.
    """
    x = given(input, "hardtanh")
    low, high = number(min_val, "hardtanh", "min_val"), number(max_val, "hardtanh", "max_val")
    if not low <= high:
        raise SettingError(f"hardtanh: min_val must not exceed max_val, got {low!r} and {high!r}. Exchange them.")
    if low < 0 and x.dtype is uint8:
        raise DtypeError(
            f"{who('hardtanh')}: unsigned integers have no negative limits, got {low!r} and {high!r}. Use clamp(max=...), or "
            f"convert with .int()."
        )
    for bound in (low, high):
        check_written(bound, x.dtype, "hardtanh")
    return placed(x, _held(x, low, high), inplace, "hardtanh")


@whole
def _held(x: Tensor, low: float, high: float) -> Tensor:
    return x.where((x > low) & (x < high), x.detach().clamp(low, high))


@takes_keywords("functional")
@rounded_once
def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(x, 0), 6)``; the gradient at 0 and 6 is 0.

    Source: Krizhevsky, "Convolutional deep belief networks on CIFAR-10", 2010.
    """
    x = given(input, "relu6")
    return placed(x, _held(x, 0.0, 6.0), inplace, "relu6")


@takes_keywords("functional")
@rounded_once
def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """``min(max(x + 3, 0), 6) / 6``: a sigmoid of three lines.

    Source: Courbariaux, Bengio, David, "BinaryConnect", NIPS 2015.
    """
    x = given(input, "hardsigmoid")
    return placed(x, _hardsigmoid(x), inplace, "hardsigmoid")


@whole
def _hardsigmoid(x: Tensor) -> Tensor:
    return _held(x + 3.0, 0.0, 6.0) / 6.0


@takes_keywords("functional")
@rounded_once
def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * min(max(x + 3, 0), 6) / 6``: 0 below -3, ``x`` above 3.

    Source: Howard et al., "Searching for MobileNetV3", ICCV 2019.
    """
    x = given(input, "hardswish")
    return placed(x, _hardswish(x), inplace, "hardswish")


@whole
def _hardswish(x: Tensor) -> Tensor:
    return _bend(x).masked_fill(x <= -3.0, 0.0).where(x < 3.0, x)


def _bend(x: Tensor) -> Tensor:
    """``x (x + 3) / 6`` between -3 and 3; elsewhere some finite number."""
    near = x.clamp(-3.0, 3.0)
    return near * (near + 3.0) / 6.0


@takes_keywords("functional")
@rounded_once
@whole
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """``x`` where ``|x| > lambd``, 0 elsewhere."""
    x, lambd = given(input, "hardshrink"), number(lambd, "hardshrink", "lambd")
    return _shrunk(x, x, lambd)


def _shrunk(x: Tensor, beyond: Tensor, lambd: float) -> Tensor:
    """What stands `beyond` lambd on either side, 0 between; NaN stays."""
    return beyond.where((x > lambd) | (x < -lambd), x.detach() * 0.0 + 0.0)


@takes_keywords("functional")
@rounded_once
@whole
def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """``x - lambd`` above lambd, ``x + lambd`` below -lambd, 0 between.

    Args:
        input: any shape.
        lambd: 0 or more.

    Raises:
        SettingError: lambd is negative.
    """
    x, lambd = given(input, "softshrink"), number(lambd, "softshrink", "lambd")
    if lambd < 0:
        raise SettingError(f"softshrink: lambd must be 0 or more, got {lambd!r}.")
    return _shrunk(x, (x - lambd).where(x > 0, x + lambd), lambd)


@takes_keywords("functional")
@rounded_once
@whole
def softsign(input: Tensor) -> Tensor:
    """``x / (1 + |x|)``.

    Beyond 1 it is computed as ``sign(x) (1 - 1 / (1 + |x|))``, whose derivative has no difference of nearly equal numbers.

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward neural networks", AISTATS 2010.
    """
    x = given(input, "softsign")
    size = x.abs()
    share, sign = 1.0 / (size + 1.0), x.sign()
    return (x.clamp(-1.0, 1.0) * share).where(size <= 1.0, sign - sign * share)


# Of tanh(x) = x + sum over n of TANH[n] x^(2n + 3): Bernoulli's numbers, Abramowitz and Stegun 4.5.64.
TANH = (
    -1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925, 21844 / 6081075, -929569 / 638512875,
    6404582 / 10854718875, -443861162 / 1856156927625, 18888466084 / 194896477400625,
)  # fmt: skip
NEAR = 0.25  # up to here these terms have all digits of float64


@takes_keywords("functional")
@rounded_once
@whole
def tanhshrink(input: Tensor) -> Tensor:
    """``x - tanh(x)``; near 0, where nothing would be left of the difference, by the series of tanh."""
    x = given(input, "tanhshrink")
    near = x.clamp(-NEAR, NEAR)
    square = near * near
    series = square * 0.0 - TANH[-1]
    for factor in reversed(TANH[:-1]):
        series = series * square - factor
    return (near * square * series).where(x.abs() < NEAR, x - x.tanh())


@takes_keywords("functional")
@rounded_once
@whole
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """``x`` where positive, ``weight * x`` elsewhere, with a slope that is learned.

    Args:
        input: shape (N, C, ...), or any where there is one slope.
        weight: the slopes, shape (1,) or (), or (C,) for one each along axis 1.

    Raises:
        ShapeError: there are neither one slope nor as many as channels.

    Source: He et al., "Delving deep into rectifiers", ICCV 2015.
    """
    x, weight = given(input, "prelu"), given(weight, "prelu", "weight")
    channels = x.shape[1] if x.ndim > 1 else 1
    if weight.numel() == 1 and weight.ndim < 2:
        weight = weight.reshape(())
    elif weight.shape == (channels,):
        weight = weight.reshape(-1, *(1,) * (x.ndim - 2))
    else:
        raise shape_error(
            "prelu", f"weight must have one slope, or one for each of the {channels} channels",
            f"shape {weight.shape} for an input of shape {x.shape}", "Change num_parameters.",
        )  # fmt: skip
    return x.relu() + weight * x.masked_fill(x > 0, 0.0)


@takes_keywords("functional")
@rounded_once
def rrelu(
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    generator: Generator | None = None,
) -> Tensor:
    """``x`` where positive, ``a x`` elsewhere; in training a is drawn uniformly for each element.

    Args:
        input: any shape.
        lower: the least slope.
        upper: the largest; in evaluation the slope is the middle.
        training: draw the slopes.
        inplace: write the result to the input, too.
        generator: where the random numbers come from; the default one if left out.

    Raises:
        SettingError: lower exceeds upper.

    Source: Xu et al., "Empirical evaluation of rectified activations in convolutional network", 2015.
    """
    x, low, high = given(input, "rrelu"), number(lower, "rrelu", "lower"), number(upper, "rrelu", "upper")
    if not low <= high:
        raise SettingError(f"rrelu: lower must not exceed upper, got {low!r} and {high!r}. Exchange them.")
    slope = rand_like(x, generator=generator) * (high - low) + low if training else (low + high) / 2
    return placed(x, x.where(x > 0, x * slope), inplace, "rrelu")
