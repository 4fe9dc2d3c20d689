"""One step of a recurrence: RNNCell, LSTMCell, GRUCell."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import SettingError
from chainrule.graph import shape_error
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.module import Module
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given, zeros


class _Cell(Module):
    """Two products, of the input and of the state, whose rows are the gates'."""

    weight_ih: Parameter
    weight_hh: Parameter
    bias_ih: Parameter | None
    bias_hh: Parameter | None
    _gates: ClassVar[int] = 1

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, device: Any = None, dtype: Any = None
    ) -> None:
        on_cpu(device)
        super().__init__()
        name = type(self).__name__
        self.input_size, self.hidden_size = size(name, "input_size", input_size), size(name, "hidden_size", hidden_size)
        if not self.hidden_size:
            raise SettingError(f"{name}: hidden_size must be at least 1, got 0.")
        self.bias = bool(bias)
        wanted, rows = float32 if dtype is None else as_dtype(dtype), self._gates * self.hidden_size
        self.weight_ih = Parameter(zeros(rows, self.input_size, dtype=wanted))
        self.weight_hh = Parameter(zeros(rows, self.hidden_size, dtype=wanted))
        for which in ("bias_ih", "bias_hh"):
            self.register_parameter(which, Parameter(zeros(rows, dtype=wanted)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in +-1/sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _products(self, input: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """That of the input, that of the state, and the state (zeros if there is none)."""
        x = given(input, type(self).__name__)
        if x.ndim not in (1, 2) or x.shape[-1] != self.input_size:
            raise shape_error(
                type(self).__name__, f"the input must be (batch, input_size) or (input_size,), with input_size={self.input_size}",
                f"shape {x.shape}", "Reshape it, or change input_size.",
            )  # fmt: skip
        shape = (*x.shape[:-1], self.hidden_size)
        state = x.new_zeros(shape) if h is None else given(h, type(self).__name__, "the state")
        if state.shape != shape:
            raise shape_error(
                type(self).__name__,
                f"the state must be {shape}",
                f"shape {state.shape}",
                "Leave it out to begin with zeros.",
            )
        return F.linear(x, self.weight_ih, self.bias_ih), F.linear(state, self.weight_hh, self.bias_hh), state

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ", bias=False" * (not self.bias)


class RNNCell(_Cell):
    """One step of `RNN`: ``h' = tanh(x W_ih^T + b_ih + h W_hh^T + b_hh)``.

    Args:
        input_size: the length of the input's last axis.
        hidden_size: the length of h.
        bias: learn both b.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> nn.RNNCell(3, 5)(cr.zeros(2, 3)).shape
        (2, 5)
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", *, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, device=device, dtype=dtype)
        if nonlinearity not in ("tanh", "relu"):
            raise SettingError(f"RNNCell: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}.")
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state."""
        z, h, _ = self._products(input, hx)
        return (z + h).tanh() if self.nonlinearity == "tanh" else (z + h).relu()


class LSTMCell(_Cell):
    """One step of `LSTM`, whose formula it has: from an input and ``(h, c)`` to ``(h', c')``; arguments as of `RNNCell`."""

    _gates = 4

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The next (h, c)."""
        z, h, state = self._products(input, None if hx is None else hx[0])
        before = state.new_zeros(state.shape) if hx is None else given(hx[1], "LSTMCell", "the state")
        i, f, g, o = (z + h).chunk(4, -1)
        c = f.sigmoid() * before + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class GRUCell(_Cell):
    """One step of `GRU`, whose formula it has; arguments as of `RNNCell`."""

    _gates = 3

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The next state."""
        z, h, state = self._products(input, hx)
        (zr, zz, zn), (hr, hz, hn) = z.chunk(3, -1), h.chunk(3, -1)
        n = (zn + (zr + hr).sigmoid() * hn).tanh()
        return n + (zz + hz).sigmoid() * (state - n)
