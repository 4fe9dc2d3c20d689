"""The activation functions as layers, and their table of names."""

from __future__ import annotations

from chainrule.errors import SettingError, unknown_name
from chainrule.nn import functional as F
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class ReLU(Module):
    """``max(x, 0)``; see ``F.relu``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input)


class LeakyReLU(Module):
    """``x`` where positive, ``negative_slope * x`` elsewhere; see ``F.leaky_relu``."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class ELU(Module):
    """``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere; see ``F.elu``."""

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"


class SELU(Module):
    """The self-normalising exponential unit; see ``F.selu``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.selu(input)


class GELU(Module):
    """``x * Phi(x)``, by erf or (``approximate="tanh"``) by tanh; see ``F.gelu``."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        if approximate not in ("none", "tanh"):
            raise unknown_name("approximation of gelu", approximate, ["none", "tanh"])
        self.approximate = approximate

    def forward(self, input: Tensor) -> Tensor:
        return F.gelu(input, self.approximate)

    def extra_repr(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """``x * sigmoid(x)``; see ``F.silu``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.silu(input)


class Mish(Module):
    """``x * tanh(softplus(x))``; see ``F.mish``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.mish(input)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class Softplus(Module):
    """``log(1 + exp(beta x)) / beta``; see ``F.softplus``."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        super().__init__()
        if beta == 0:
            raise SettingError("Softplus: beta must not be 0. Use a positive beta, such as 1.")
        self.beta, self.threshold = beta, threshold

    def forward(self, input: Tensor) -> Tensor:
        return F.softplus(input, self.beta, self.threshold)

    def extra_repr(self) -> str:
        return f"beta={self.beta}, threshold={self.threshold}"


class Softmax(Module):
    """``exp(x) / sum(exp(x))`` along ``dim``, which must be given (PyTorch guesses one)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.softmax(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class LogSoftmax(Softmax):
    """``x - log(sum(exp(x)))`` along ``dim``, which must be given."""

    def forward(self, input: Tensor) -> Tensor:
        return F.log_softmax(input, self.dim)


ACTIVATIONS: dict[str, type[Module]] = {
    cls.__name__.lower(): cls for cls in (ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Mish, Sigmoid, Tanh, Softplus)
}


def activation_by_name(name: str) -> type[Module]:
    """The class of an activation that needs no arguments, by its name in lower case.

    Raises:
        UnknownNameError: with the nearest names.

    Example:
        >>> from chainrule import nn
        >>> nn.activation_by_name("relu")
        <class 'chainrule.nn.activations.ReLU'>
    """
    found = ACTIVATIONS.get(str(name).lower().replace("_", ""))
    if found is None:
        raise unknown_name("activation", name, list(ACTIVATIONS))
    return found
