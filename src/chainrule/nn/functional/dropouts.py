"""Dropouts of whole channels, and the one that keeps mean and variance."""

from __future__ import annotations

from chainrule.graph import shape_error
from chainrule.names import takes_keywords
from chainrule.nn.functional.activations import SELU_ALPHA, SELU_SCALE, placed
from chainrule.nn.functional.layers import probability
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given
from chainrule.tensor.random import Generator, rand, rand_like
from chainrule.tensor.rounding import rounded_once
from chainrule.tensor.whole import whole


def _drop(input: Tensor, shape: tuple[int, ...], p: float, generator: Generator | None) -> Tensor:
    """Each number of the shape, spread over the input, 0 with probability p, else 1."""
    return _at_least(rand(shape, dtype=input.dtype, generator=generator), p)


@whole
def _at_least(drawn: Tensor, p: float) -> Tensor:
    return (drawn >= p).to(drawn.dtype)


def _by_channel(name: str, input: Tensor, axes: int) -> tuple[int, ...]:
    """A number for each channel of each row: the shape that spreads over (N, C, ...) or (C, ...)."""
    if input.ndim not in (axes + 1, axes + 2):
        raise shape_error(
            name, f"the input must have {axes + 2} axes, or {axes + 1} without a batch", f"shape {input.shape}",
            "Reshape the input.",
        )  # fmt: skip
    return (*input.shape[: input.ndim - axes], *(1,) * axes)


def _channel_dropout(
    name: str, input: Tensor, axes: int, p: float, training: bool, inplace: bool, generator: Generator | None
) -> Tensor:
    input, p = given(input, name), probability(name, p)
    shape = _by_channel(name, input, axes)
    if not training or p == 0:
        return input
    scale = 0.0 if p == 1 else 1 / (1 - p)
    return placed(input, input * _drop(input, shape, p, generator) * scale, inplace, name)


@takes_keywords("functional")
@rounded_once
def dropout1d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """``dropout`` of whole channels of an input (N, C, L) or (C, L); arguments as there."""
    return _channel_dropout("dropout1d", input, 1, p, training, inplace, generator)


@takes_keywords("functional")
@rounded_once
def dropout2d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """``dropout`` of whole channels of an input (N, C, H, W) or (C, H, W); arguments as there.

    Source: Tompson et al., "Efficient object localization using convolutional networks", CVPR 2015.
    """
    return _channel_dropout("dropout2d", input, 2, p, training, inplace, generator)


@takes_keywords("functional")
@rounded_once
def dropout3d(
    input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """``dropout`` of whole channels of an input (N, C, D, H, W) or (C, D, H, W); arguments as there."""
    return _channel_dropout("dropout3d", input, 3, p, training, inplace, generator)


@takes_keywords("functional")
@rounded_once
def alpha_dropout(
    input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """Each element -alpha with probability p, then scaled and shifted so that mean 0 and variance 1 stay: for ``selu``.

    ``a (x or -alpha) + b``, ``alpha`` being minus the limit of selu, ``a = ((alpha^2 p + 1)(1 - p))^(-1/2)`` and
    ``b = a alpha p``.

    Args:
        input: any shape, floating.
        p: the share to drop, in [0, 1].
        training: False returns the input as it is.
        inplace: write the result to the input, too.
        generator: where the random numbers come from; the default one if left out.

    Raises:
        SettingError: p outside [0, 1].

    Source: Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", NIPS 2017.
    """
    input, p = given(input, "alpha_dropout"), probability("alpha_dropout", p)
    if not training or p == 0:
        return input
    if p == 1:
        return placed(input, input * 0.0, inplace, "alpha_dropout")
    alpha = SELU_ALPHA * SELU_SCALE
    a = ((alpha * alpha * p + 1) * (1 - p)) ** -0.5
    kept = rand_like(input, generator=generator) >= p
    return placed(input, input.where(kept, -alpha) * a + a * alpha * p, inplace, "alpha_dropout")
