"""Starting values of parameters, with PyTorch's names; every draw comes from the counter-based generator."""

from __future__ import annotations

import math

import numpy as np

from chainrule.errors import SettingError, ShapeError, unknown_name
from chainrule.graph import Array
from chainrule.names import module_getattr, takes_keywords
from chainrule.tape import at_once  # weights are made once: no program for that
from chainrule.tensor import Tensor
from chainrule.tensor.creation import as_tensor, eye, full_like
from chainrule.tensor.functions import no_grad
from chainrule.tensor.random import Generator, rand, randn

_GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "selu": 3 / 4}


@takes_keywords("init")
def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor by which weights must exceed those of a linear layer to keep the variance.

    Args:
        nonlinearity: "linear", "sigmoid", "tanh", "relu", "leaky_relu" or "selu".
        param: the negative slope of leaky_relu (0.01).

    Example:
        >>> from chainrule.nn import init
        >>> round(init.calculate_gain("leaky_relu", 0.2), 4)
        1.3868
    """
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        return math.sqrt(2 / (1 + slope**2))
    if nonlinearity not in _GAINS:
        raise unknown_name("nonlinearity", nonlinearity, [*_GAINS, "leaky_relu"])
    return _GAINS[nonlinearity]


def _put(tensor: Tensor, value: Tensor) -> Tensor:
    with no_grad():
        return tensor.copy_(value)


@takes_keywords("init")
@at_once
def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in [a, b)."""
    return _put(tensor, rand(tensor.shape, dtype=tensor.dtype, generator=generator) * (b - a) + a)


@takes_keywords("init")
@at_once
def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _put(tensor, randn(tensor.shape, dtype=tensor.dtype, generator=generator) * std + mean)


@takes_keywords("init")
@at_once
def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:
    """Normal, but only values within [a, b]: a uniform draw through the inverse distribution function."""
    if not a < b or std <= 0:
        raise SettingError(f"trunc_normal_: needs a < b and std > 0, got a={a!r}, b={b!r}, std={std!r}.")
    low, high = (math.erf((bound - mean) / (std * math.sqrt(2))) for bound in (a, b))
    if low == high:
        raise SettingError(
            f"trunc_normal_: [{a}, {b}] lies too far from mean {mean} (std {std}): the normal has no "
            "mass there. "
            f"Move the bounds towards the mean."
        )
    drawn = rand(tensor.shape, dtype="float64", generator=generator).numpy() * (high - low) + low
    values = np.clip(_erfinv(drawn) * (std * math.sqrt(2)) + mean, a, b)
    return _put(tensor, as_tensor(values))


@takes_keywords("init")
@at_once
def constant_(tensor: Tensor, val: float) -> Tensor:
    """One number everywhere."""
    return _put(tensor, full_like(tensor, val))


@takes_keywords("init")
def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return constant_(tensor, 1.0)


@takes_keywords("init")
def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return constant_(tensor, 0.0)


@takes_keywords("init")
@at_once
def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix: a Linear that passes its input on."""
    if tensor.ndim != 2:
        raise ShapeError(f"eye_: the tensor must have 2 axes, got shape {tensor.shape}.")
    return _put(tensor, eye(tensor.shape[0], tensor.shape[1], dtype=tensor.dtype))


def _fans(name: str, tensor: Tensor) -> tuple[int, int]:
    """How many numbers enter an output element, and how many output elements an input element enters."""
    if tensor.ndim < 2:
        raise ShapeError(
            f"{name}: fan-in and fan-out need a tensor of at least 2 axes (out, in, ...), got shape "
            f"{tensor.shape}. "
            f"For biases use zeros_ or uniform_."
        )
    window = math.prod(tensor.shape[2:])
    return tensor.shape[1] * window, tensor.shape[0] * window


@takes_keywords("init")
def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform in ``+-gain sqrt(6 / (fan_in + fan_out))``.

    Source: Glorot, Bengio, "Understanding the difficulty of training deep feedforward networks", 2010.
    """
    bound = gain * math.sqrt(6 / sum(_fans("xavier_uniform_", tensor)))
    return uniform_(tensor, -bound, bound, generator)


@takes_keywords("init")
def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation ``gain sqrt(2 / (fan_in + fan_out))``; source as ``xavier_uniform_``."""
    return normal_(tensor, 0.0, gain * math.sqrt(2 / sum(_fans("xavier_normal_", tensor))), generator)


def _kaiming_std(name: str, tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = dict(zip(("fan_in", "fan_out"), _fans(name, tensor), strict=True))
    if mode not in fans:
        raise unknown_name("mode", mode, list(fans))
    return calculate_gain(nonlinearity, a) / math.sqrt(fans[mode])


@takes_keywords("init")
def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Uniform in ``+-gain sqrt(3 / fan)``.

    Args:
        tensor: at least 2 axes, (out, in, ...).
        a: the negative slope of the leaky_relu that follows.
        mode: "fan_in" keeps the variance forward, "fan_out" backward.
        nonlinearity: what follows the layer; see ``calculate_gain``.

    Source: He, Zhang, Ren, Sun, "Delving deep into rectifiers", ICCV 2015.
    """
    bound = math.sqrt(3) * _kaiming_std("kaiming_uniform_", tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


@takes_keywords("init")
def kaiming_normal_(
    tensor: Tensor,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:
    """Normal with standard deviation ``gain / sqrt(fan)``; arguments and source as ``kaiming_uniform_``."""
    return normal_(tensor, 0.0, _kaiming_std("kaiming_normal_", tensor, a, mode, nonlinearity), generator)


@takes_keywords("init")
@at_once
def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """A (semi-)orthogonal matrix times ``gain``; axes behind the first count as columns.

    Source: Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of learning", 2013.
    """
    if tensor.ndim < 2:
        raise ShapeError(f"orthogonal_: the tensor must have at least 2 axes, got shape {tensor.shape}.")
    if not tensor.numel():
        return tensor
    rows, columns = tensor.shape[0], math.prod(tensor.shape[1:])
    drawn = randn(rows, columns, dtype="float64", generator=generator).numpy()
    q, r = np.linalg.qr(drawn.T if rows < columns else drawn)
    q = q * np.sign(np.diag(r))  # makes the decomposition unique, and q uniformly distributed
    return _put(tensor, as_tensor((q.T if rows < columns else q) * gain).reshape(tensor.shape))


def _erfinv(y: Array) -> Array:
    """The inverse of erf on (-1, 1): Winitzki's estimate, then Newton's steps x -= (erf(x) - y) / erf'(x)."""
    inner = np.clip(y, -1 + 1e-16, 1 - 1e-16)
    log = np.log1p(-inner * inner)
    half = 2 / (math.pi * 0.147) + log / 2
    x = np.sign(inner) * np.sqrt(np.sqrt(half * half - log / 0.147) - half)
    for _ in range(3):
        error = as_tensor(x).erf().numpy() - inner
        x = x - error * (math.sqrt(math.pi) / 2) * np.exp(np.minimum(x * x, 30.0))
    result: Array = x
    return result


__getattr__ = module_getattr("init", __name__)
