"""Activation functions, each a formula over tensors that neither overflows nor loses its gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from chainrule.errors import SettingError, unknown_name
from chainrule.graph import shape_error
from chainrule.names import takes_keywords
from chainrule.ops import elementwise as ew
from chainrule.ops.reference import CLOSED
from chainrule.tensor import Tensor
from chainrule.tensor.core import apply, axis, number
from chainrule.tensor.creation import empty_like, given, zeros_like
from chainrule.tensor.grad_mode import no_grad
from chainrule.tensor.random import Generator
from chainrule.tensor.rounding import rounded_once
from chainrule.tensor.whole import whole


def placed(input: Tensor, value: Tensor, inplace: bool, name: str) -> Tensor:
    """The value; where ``inplace``, the input has it from now on, too."""
    return input._rebind(value, f"{name}_") if inplace else value


@takes_keywords("functional")
def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """``max(x, 0)``; the gradient at 0 is 0.

    Args:
        input: any shape.
        inplace: write the result to the input, too.

    Example:
        >>> import chainrule as cr
        >>> import chainrule.nn.functional as F
        >>> F.relu(cr.tensor([-1.0, 0.0, 2.0]))
        tensor([0., 0., 2.])
    """
    x = given(input, "relu")
    return placed(x, x.relu(), inplace, "relu")


@takes_keywords("functional")
def sigmoid(input: Tensor) -> Tensor:
    """``1 / (1 + exp(-x))``."""
    return given(input, "sigmoid").sigmoid()


@takes_keywords("functional")
def tanh(input: Tensor) -> Tensor:
    """``(exp(x) - exp(-x)) / (exp(x) + exp(-x))``."""
    return given(input, "tanh").tanh()


@takes_keywords("functional")
@rounded_once
def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """``x`` where positive, ``negative_slope * x`` elsewhere.

    Source: Maas, Hannun, Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.
    """
    x = given(input, "leaky_relu")
    return placed(x, _leaky_relu(x, number(negative_slope, "leaky_relu", "negative_slope")), inplace, "leaky_relu")


@whole
def _leaky_relu(x: Tensor, slope: float) -> Tensor:
    return x.where(x > 0, x * slope)


@takes_keywords("functional")
@rounded_once
def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere.

    Source: Clevert, Unterthiner, Hochreiter, "Fast and accurate deep network learning by exponential
    linear units", ICLR 2016.
    """
    x = given(input, "elu")
    return placed(x, _elu(x, number(alpha, "elu", "alpha")), inplace, "elu")


@whole
def _elu(x: Tensor, alpha: float) -> Tensor:
    # The branch not taken must stay finite, or its zero gradient times infinity would be NaN.
    return x.where(x > 0, x.clamp(max=0.0).expm1() * alpha)


@takes_keywords("functional")
@rounded_once
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """``x`` where positive, ``alpha * (exp(x / alpha) - 1)`` elsewhere: an ELU whose slope at 0 is 1 for any alpha.

    Args:
        input: any shape.
        alpha: minus the limit at minus infinity; not 0.
        inplace: write the result to the input, too.

    Raises:
        SettingError: alpha is 0.

    Source: Barron, "Continuously differentiable exponential linear units", 2017.
    """
    x, alpha = given(input, "celu"), number(alpha, "celu", "alpha")
    if alpha == 0:
        raise SettingError("celu: alpha must not be 0. Use a positive alpha, such as 1.")
    return placed(x, _celu(x, alpha), inplace, "celu")


@whole
def _celu(x: Tensor, alpha: float) -> Tensor:
    return x.where(x > 0, (x.clamp(max=0.0) / alpha).expm1() * alpha)


SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


@takes_keywords("functional")
@rounded_once
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """``scale * elu(x, alpha)`` with the constants that keep mean 0 and variance 1 from layer to layer.

    Source: Klambauer, Unterthiner, Mayr, Hochreiter, "Self-normalizing neural networks", NIPS 2017.
    """
    x = given(input, "selu")
    return placed(x, _selu(x), inplace, "selu")


@whole
def _selu(x: Tensor) -> Tensor:
    return _elu(x, SELU_ALPHA) * SELU_SCALE


@takes_keywords("functional")
@rounded_once
@whole
def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """``x * Phi(x)``, Phi being the distribution function of the standard normal.

    Args:
        input: any shape.
        approximate: ``"none"`` (by erfc) or ``"tanh"``: ``x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))``.

    Raises:
        UnknownNameError: another ``approximate``.

    Source: Hendrycks, Gimpel, "Gaussian error linear units", 2016.
    """
    x = given(input, "gelu")
    if approximate == "none":
        return _gated(x, lambda x: (x * -math.sqrt(0.5)).erfc() * 0.5)
    if approximate == "tanh":  # (1 + tanh(u)) / 2 is sigmoid(2u)
        return _gated(x, lambda x: ((x + x * x * x * 0.044715) * math.sqrt(8 / math.pi)).sigmoid())
    raise unknown_name("approximation of gelu", approximate, ["none", "tanh"])


@takes_keywords("functional")
@rounded_once
def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * sigmoid(x)``, also called swish.

    Where the gate is below the smallest normal number (float32: x below -87.3) a compiled program has 0 for it, as for all
    such numbers; the value there is at most 1e-36 in size.

    Source: Elfwing, Uchibe, Doya, "Sigmoid-weighted linear units", 2017.
    """
    x = given(input, "silu")
    return placed(x, _silu(x), inplace, "silu")


@whole
def _silu(x: Tensor) -> Tensor:
    return _gated(x, Tensor.sigmoid)


def _gated(x: Tensor, gate: Callable[[Tensor], Tensor]) -> Tensor:
    """``x gate(x)``, for a gate from 0 to 1 with ``gate(-x) = 1 - gate(x)``, as ``max(x, 0) + z gate(z)``, ``z = -|x|``.

    So only the gate's small side is asked for, and at infinity nothing infinite meets it.
    """
    z = minus_abs(x).clamp(min=CLOSED)
    return x.relu() + z * gate(z)


@takes_keywords("functional")
@rounded_once
def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """``x * tanh(softplus(x))``.

    With ``e = exp(-|x|)`` it is ``x (e^2 + 2e) / (e^2 + 2e + 2)`` up to 0 and ``x - x 2e^2 / (2e^2 + 2e + 1)`` above: each
    tail is what it differs from its line by. Below -87.3 (float32) a compiled program has 0, as `silu` says.

    Source: Misra, "Mish: a self regularized non-monotonic activation function", BMVC 2020.
    """
    x = given(input, "mish")
    return placed(x, apply(ew.mish, x), inplace, "mish")


@takes_keywords("functional")
@rounded_once
@whole
def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """``log(1 + exp(beta x)) / beta``, and ``x`` itself where ``beta x > threshold``.

    Args:
        input: any shape.
        beta: how sharp the bend is; not 0.
        threshold: from here on the difference to ``x`` is dropped.
    """
    if beta == 0:
        raise SettingError("softplus: beta must not be 0. Use a positive beta, such as 1.")
    x, beta = given(input, "softplus"), number(beta, "softplus", "beta")
    scaled = x * beta
    return x.where(scaled > number(threshold, "softplus", "threshold"), softplus1(scaled) / beta)


@takes_keywords("functional")
@rounded_once
@whole
def logsigmoid(input: Tensor) -> Tensor:
    """``log(sigmoid(x))``, exact where sigmoid would underflow."""
    return -softplus1(-given(input, "logsigmoid"))


def softplus1(x: Tensor) -> Tensor:
    """``log(1 + exp(x))`` for any x: ``max(x, 0) + log(1 + exp(-|x|))``."""
    return x.relu() + minus_abs(x).exp().log1p()


def minus_abs(x: Tensor) -> Tensor:
    """``-|x|``, with the derivative of x at 0: beside ``max(x, 0)``, whose derivative there is 0, it makes smooth functions."""
    return x.where(x <= 0, -x)


@takes_keywords("functional")
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``dim``.

    Args:
        input: any shape.
        dim: the axis whose elements will sum to 1 (PyTorch guesses one when it is left out; we do not).
        dtype: convert the input to it first.
    """
    return given(input, "softmax").softmax(dim, dtype)


@takes_keywords("functional")
@whole
def softmin(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``exp(-x) / sum(exp(-x))`` along ``dim``; arguments as for ``softmax``."""
    return (-given(input, "softmin")).softmax(dim, dtype)


@takes_keywords("functional")
@rounded_once
@whole
def glu(input: Tensor, dim: int = -1) -> Tensor:
    """``a * sigmoid(b)``, a and b being the halves of the input along ``dim``.

    Args:
        input: any shape whose axis ``dim`` has an even length.
        dim: the axis to halve.

    Raises:
        ShapeError: the axis has an odd length.

    Source: Dauphin et al., "Language modeling with gated convolutional networks", ICML 2017.
    """
    x = given(input, "glu")
    at = axis("glu", dim, x.ndim)
    if not x.ndim or x.shape[at] % 2:
        raise shape_error(
            "glu", f"axis {dim} of the input must have an even length", f"shape {x.shape}", "Choose another axis."
        )
    half = x.shape[at] // 2
    return x.narrow(at, 0, half) * x.narrow(at, half, half).sigmoid()


@takes_keywords("functional")
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """``x - log(sum(exp(x)))`` along ``dim``, exact where softmax would underflow.

    Args:
        input: any shape.
        dim: the axis to normalise.
        dtype: convert the input to it first.
    """
    return given(input, "log_softmax").log_softmax(dim, dtype)


@takes_keywords("functional")
def gumbel_softmax(
    logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1, *, generator: Generator | None = None
) -> Tensor:  # fmt: skip
    """``softmax((logits + g) / tau)`` with g drawn from a Gumbel distribution: nearly a draw of one class, with a gradient.

    Args:
        logits: any shape, unnormalised log-probabilities along ``dim``.
        tau: the temperature, above 0; the lower, the nearer to one class.
        hard: give the largest as 1 and the others as 0, with the gradient of the soft ones.
        eps: nothing, as in PyTorch.
        dim: the axis of the classes.
        generator: where the random numbers come from; the default one if left out.

    Raises:
        SettingError: a temperature that is not above 0.

    Source: Jang, Gu, Poole, "Categorical reparameterization with Gumbel-softmax", ICLR 2017.
    """
    x, tau = given(logits, "gumbel_softmax"), number(tau, "gumbel_softmax", "tau")
    if not tau > 0:
        raise SettingError(f"gumbel_softmax: tau must be above 0, got {tau!r}.")
    with no_grad():
        noise = -empty_like(x).exponential_(generator=generator).log()
    soft = ((x + noise) / tau).softmax(dim)
    if not hard:
        return soft
    with no_grad():
        largest = zeros_like(soft).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
        rest = largest - soft
    return soft + rest
