"""The activation functions as layers, and their table of names."""

from __future__ import annotations

from typing import Any

from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import SettingError, unknown_name
from chainrule.names import takes_keywords
from chainrule.nn import functional as F
from chainrule.nn.init import constant_
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.nn.whole import pure
from chainrule.tensor import Tensor
from chainrule.tensor.creation import full


class _InPlace(Module):
    """An activation that may write its result to its input, too.

    Args:
        inplace: do so. It saves nothing here: tensors that nobody names any longer are given back as they are.
    """

    def __init__(self, inplace: bool = False) -> None:
        super().__init__()
        self.inplace = inplace

    def extra_repr(self) -> str:
        return ", ".join([*self._options(), *(["inplace=True"] if self.inplace else [])])

    def _options(self) -> list[str]:
        return []


class ReLU(_InPlace):
    """``max(x, 0)``; see ``F.relu``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu(input, self.inplace)


class ReLU6(_InPlace):
    """``min(max(x, 0), 6)``; see ``F.relu6``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.relu6(input, self.inplace)


class LeakyReLU(_InPlace):
    """``x`` where positive, ``negative_slope * x`` elsewhere; see ``F.leaky_relu``."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.negative_slope = negative_slope

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(input, self.negative_slope, self.inplace)

    def _options(self) -> list[str]:
        return [f"negative_slope={self.negative_slope}"]


class PReLU(Module):
    """``x`` where positive, ``weight * x`` elsewhere, with a slope that is learned; see ``F.prelu``.

    Args:
        num_parameters: one slope, or one for each channel (axis 1).
        init: what they start with.
        device: the CPU, or left out.
        dtype: of the parameter (float32).

    Shapes: ``weight`` (num_parameters,).
    """

    weight: Parameter

    def __init__(self, num_parameters: int = 1, init: float = 0.25, *, device: Any = None, dtype: Any = None) -> None:
        on_cpu(device)
        super().__init__()
        self.num_parameters, self.init = size("PReLU", "num_parameters", num_parameters), init
        self.weight = Parameter(full((self.num_parameters,), init, dtype=float32 if dtype is None else as_dtype(dtype)))

    def reset_parameters(self) -> None:
        """The slopes as they started."""
        constant_(self.weight, self.init)

    def forward(self, input: Tensor) -> Tensor:
        return F.prelu(input, self.weight)

    def extra_repr(self) -> str:
        return f"num_parameters={self.num_parameters}"


class RReLU(_InPlace):
    """``x`` where positive, elsewhere ``a x``, with a drawn in training; see ``F.rrelu``."""

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.lower, self.upper = lower, upper

    def forward(self, input: Tensor) -> Tensor:
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)

    def _options(self) -> list[str]:
        return [f"lower={self.lower}", f"upper={self.upper}"]


class ELU(_InPlace):
    """``x`` where positive, ``alpha * (exp(x) - 1)`` elsewhere; see ``F.elu``."""

    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.alpha = alpha

    def forward(self, input: Tensor) -> Tensor:
        return F.elu(input, self.alpha, self.inplace)

    def _options(self) -> list[str]:
        return [f"alpha={self.alpha}"]


class CELU(ELU):
    """``x`` where positive, ``alpha * (exp(x / alpha) - 1)`` elsewhere; see ``F.celu``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.celu(input, self.alpha, self.inplace)


class SELU(_InPlace):
    """The self-normalising exponential unit; see ``F.selu``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.selu(input, self.inplace)


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


class SiLU(_InPlace):
    """``x * sigmoid(x)``; see ``F.silu``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.silu(input, self.inplace)


class Mish(_InPlace):
    """``x * tanh(softplus(x))``; see ``F.mish``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.mish(input, self.inplace)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.sigmoid(input)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanh(input)


class LogSigmoid(Module):
    """``log(1 / (1 + exp(-x)))``, exact where the sigmoid would underflow; see ``F.logsigmoid``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.logsigmoid(input)


class Hardsigmoid(_InPlace):
    """A sigmoid of three lines; see ``F.hardsigmoid``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.hardsigmoid(input, self.inplace)

    def extra_repr(self) -> str:
        return ""


class Hardswish(Hardsigmoid):
    """``x * min(max(x + 3, 0), 6) / 6``; see ``F.hardswish``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.hardswish(input, self.inplace)


class Hardtanh(_InPlace):
    """``x`` held between min_val and max_val; see ``F.hardtanh``."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        super().__init__(inplace)
        if not min_val < max_val:
            raise SettingError(f"Hardtanh: min_val must be less than max_val, got {min_val!r} and {max_val!r}.")
        self.min_val, self.max_val = min_val, max_val

    def forward(self, input: Tensor) -> Tensor:
        return F.hardtanh(input, self.min_val, self.max_val, self.inplace)

    def _options(self) -> list[str]:
        return [f"min_val={self.min_val}", f"max_val={self.max_val}"]


class Threshold(_InPlace):
    """``x`` where it exceeds the threshold, ``value`` elsewhere; see ``F.threshold``."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        super().__init__(inplace)
        self.threshold, self.value = threshold, value

    def forward(self, input: Tensor) -> Tensor:
        return F.threshold(input, self.threshold, self.value, self.inplace)

    def _options(self) -> list[str]:
        return [f"threshold={self.threshold}", f"value={self.value}"]


class Softsign(Module):
    """``x / (1 + |x|)``; see ``F.softsign``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softsign(input)


class Tanhshrink(Module):
    """``x - tanh(x)``; see ``F.tanhshrink``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.tanhshrink(input)


class Hardshrink(Module):
    """``x`` where ``|x| > lambd``, 0 elsewhere; see ``F.hardshrink``."""

    def __init__(self, lambd: float = 0.5) -> None:
        super().__init__()
        self.lambd = lambd

    def forward(self, input: Tensor) -> Tensor:
        return F.hardshrink(input, self.lambd)

    def extra_repr(self) -> str:
        return f"{self.lambd}"


class Softshrink(Hardshrink):
    """``x`` moved towards 0 by lambd, 0 where ``|x| <= lambd``; see ``F.softshrink``."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softshrink(input, self.lambd)


class GLU(Module):
    """``a * sigmoid(b)``, a and b being the halves of the input along ``dim``; see ``F.glu``."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, input: Tensor) -> Tensor:
        return F.glu(input, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


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


class Softmin(Softmax):
    """``exp(-x) / sum(exp(-x))`` along ``dim``, which must be given."""

    def forward(self, input: Tensor) -> Tensor:
        return F.softmin(input, self.dim)


pure(
    ReLU, ReLU6, LeakyReLU, ELU, CELU, SELU, GELU, SiLU, Mish, Sigmoid, Tanh, LogSigmoid, Hardsigmoid, Hardswish, Hardtanh,
    Softsign, Tanhshrink, Softplus, Softmax, LogSoftmax,
)  # fmt: skip


ACTIVATIONS: dict[str, type[Module]] = {
    cls.__name__.lower(): cls
    for cls in (
        ReLU,
        ReLU6,
        LeakyReLU,
        PReLU,
        RReLU,
        ELU,
        CELU,
        SELU,
        GELU,
        SiLU,
        Mish,
        Sigmoid,
        LogSigmoid,
        Hardsigmoid,
        Hardswish,
        Tanh,
        Hardtanh,
        Softsign,
        Tanhshrink,
        Hardshrink,
        Softshrink,
        Softplus,
    )
}


@takes_keywords("nn")
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
