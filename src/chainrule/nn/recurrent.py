"""RNN, LSTM and GRU: one step of a recurrence, which `cr.scan` repeats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from chainrule.control import scan
from chainrule.devices import on_cpu
from chainrule.dtypes import as_dtype, float32
from chainrule.errors import SettingError, kind_of
from chainrule.graph import shape_error
from chainrule.nn import functional as F
from chainrule.nn import init
from chainrule.nn.functional.layers import probability
from chainrule.nn.module import Module
from chainrule.nn.packed import PackedSequence
from chainrule.nn.parameter import Parameter
from chainrule.nn.sizes import size
from chainrule.tensor import Tensor
from chainrule.tensor.creation import as_tensor, given, zeros
from chainrule.tensor.functions import cat, stack, where

State = tuple[Tensor, ...]


class _Recurrent(Module):
    """Layers of a recurrence, each over all steps of the one before; a cell has `_gates` parts and `_states` states."""

    _gates, _states = 1, 1

    def _make(
        self, input_size: Any, hidden_size: Any, num_layers: Any, bias: bool, batch_first: bool, dropout: Any,
        bidirectional: bool, device: Any, dtype: Any,
    ) -> None:  # fmt: skip
        on_cpu(device)
        name = type(self).__name__
        self.input_size, self.hidden_size = size(name, "input_size", input_size), size(name, "hidden_size", hidden_size)
        self.num_layers = size(name, "num_layers", num_layers)
        if not self.num_layers or not self.hidden_size:
            wrong = "hidden_size" if self.num_layers else "num_layers"
            raise SettingError(f"{name}: {wrong} must be at least 1, got 0.")
        self.bias, self.batch_first, self.bidirectional = bool(bias), bool(batch_first), bool(bidirectional)
        self.dropout = probability(name, dropout)
        wanted = float32 if dtype is None else as_dtype(dtype)
        for layer in range(self.num_layers):
            width = self.input_size if not layer else self.hidden_size * self._directions
            for ending in self._endings(layer):
                self._make_weights(ending, width, wanted)
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _endings(self, layer: int) -> list[str]:
        """What the names of a layer's parameters end in, for each direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    def _make_weights(self, ending: str, width: int, dtype: Any) -> None:
        rows = self._gates * self.hidden_size
        setattr(self, f"weight_ih{ending}", Parameter(zeros(rows, width, dtype=dtype)))
        setattr(self, f"weight_hh{ending}", Parameter(zeros(rows, self.hidden_size, dtype=dtype)))
        if self.bias:
            setattr(self, f"bias_ih{ending}", Parameter(zeros(rows, dtype=dtype)))
            setattr(self, f"bias_hh{ending}", Parameter(zeros(rows, dtype=dtype)))

    def reset_parameters(self) -> None:
        """Draw all parameters anew, uniform in +-1/sqrt(hidden_size)."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Nothing: PyTorch's lays the weights out for cuDNN."""

    # -- calling -----------------------------------------------------------------------------------------------
    def _run(self, input: Tensor | PackedSequence, hx: State | None) -> tuple[Any, State]:
        """The outputs of the last layer, and the last state of every layer and direction."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, hx)
        x = given(input, type(self).__name__)
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            axes = "(batch, steps, input_size)" if self.batch_first else "(steps, batch, input_size)"
            raise shape_error(
                type(self).__name__, f"the input must be {axes} or (steps, input_size), with input_size={self.input_size}",
                f"shape {x.shape}", "Reshape it, or change input_size.",
            )  # fmt: skip
        alone = x.ndim == 2
        x = x.unsqueeze(1) if alone else x.permute(1, 0, 2) if self.batch_first else x
        x, states = self._layers(x, self._first_states(x, hx, alone), None)
        if alone:
            return x.squeeze(1), tuple(state.squeeze(1) for state in states)
        return (x.permute(1, 0, 2) if self.batch_first else x), states

    def _run_packed(self, input: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
        """The same of sequences of several lengths: a state stays as it is where its sequence has no entry."""
        if input.data.ndim != 2 or input.data.shape[-1] != self.input_size:
            raise shape_error(
                type(self).__name__, f"packed entries must be (sum of the lengths, input_size), with input_size={self.input_size}",
                f"shape {input.data.shape}", "Pack a batch of that size, or change input_size.",
            )  # fmt: skip
        rows, going = input.rows(), input.going_on()
        begin = self._first_states(rows, hx, alone=False)
        if hx is not None and input.sorted_indices is not None:
            begin = tuple(state.index_select(1, input.sorted_indices) for state in begin)
        x, states = self._layers(rows, begin, None if going.all() else as_tensor(going[:, :, None]))
        if input.unsorted_indices is not None:
            states = tuple(state.index_select(1, input.unsorted_indices) for state in states)
        return input.packed(x), states

    def _layers(self, x: Tensor, begin: State, going: Tensor | None) -> tuple[Tensor, State]:
        """All layers, one after the other.

        Args:
            going: whether each sequence has an entry at each step, (T, N, 1); None: all have.
        """
        last: list[State] = []
        for layer in range(self.num_layers):
            x, ended = self._layer(layer, x, begin, going)
            last += ended
            if self.dropout and layer + 1 < self.num_layers:
                x = F.dropout(x, self.dropout, self.training)
        return x, tuple(stack([state[i] for state in last]) for i in range(self._states))

    def _layer(self, layer: int, x: Tensor, begin: State, going: Tensor | None) -> tuple[Tensor, list[State]]:
        """All steps of a layer, and the last state of each direction."""
        outputs, ended = [], []
        for i, ending in enumerate(self._endings(layer)):
            number = layer * self._directions + i
            state, output = self._steps(ending, x, tuple(part[number] for part in begin), going, reverse=bool(i))
            outputs.append(output)
            ended.append(state)
        return (cat(outputs, 2) if len(outputs) > 1 else outputs[0]), ended

    def _steps(self, ending: str, x: Tensor, begin: State, going: Tensor | None, reverse: bool) -> tuple[State, Tensor]:
        """What a step reads of its input is the same product for all of them, and computed at once."""
        read: Callable[[str], Any] = lambda name: getattr(self, f"{name}{ending}", None)  # noqa: E731
        inner = self._inner_bias(read("bias_hh"))
        outer = read("bias_ih") if inner is not None or not self.bias else read("bias_ih") + read("bias_hh")
        weight = read("weight_hh")

        def step(state: State, z: Tensor) -> tuple[State, Tensor]:
            new = self._cell(z, F.linear(state[0], weight, inner), state)
            return new, new[0]

        def step_of_some(state: State, read: tuple[Tensor, Tensor]) -> tuple[State, Tensor]:
            z, goes_on = read
            new, output = step(state, z)
            return tuple(where(goes_on, after, before) for after, before in zip(new, state, strict=True)), output

        z = F.linear(x, read("weight_ih"), outer)
        last, outputs = (
            scan(step, begin, z, reverse=reverse)
            if going is None
            else scan(step_of_some, begin, (z, going), reverse=reverse)
        )
        return last, outputs

    def _inner_bias(self, bias: Tensor | None) -> Tensor | None:
        """The bias that must be added within the step; None: it may be added to the input's, before all of them."""
        return None

    def _cell(self, z: Tensor, h: Tensor, state: State) -> State:
        """The next state, from what the step's input and the state before give for all gates."""
        raise NotImplementedError

    def _first_states(self, x: Tensor, hx: State | None, alone: bool) -> State:
        count, batch = self.num_layers * self._directions, x.shape[1]
        shape = (count, batch, self.hidden_size)
        if hx is None:
            return tuple(x.new_zeros(*shape) for _ in range(self._states))
        wanted = (count, self.hidden_size) if alone else shape
        states = tuple(given(state, type(self).__name__, "a state") for state in hx)
        for state in states:
            if state.shape != wanted:
                raise shape_error(
                    type(self).__name__, f"each state must have the shape (layers * directions, batch, hidden_size), {wanted}",
                    f"shape {state.shape}", "Leave it out to begin with zeros.",
                )  # fmt: skip
        return tuple(state.unsqueeze(1) for state in states) if alone else states

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        text += f", num_layers={self.num_layers}" * (self.num_layers != 1)
        text += ", bias=False" * (not self.bias) + ", batch_first=True" * self.batch_first
        return text + f", dropout={self.dropout}" * bool(self.dropout) + ", bidirectional=True" * self.bidirectional


class RNN(_Recurrent):
    """``h[t] = tanh(x[t] W_ih^T + b_ih + h[t-1] W_hh^T + b_hh)``: the plain recurrence.

    Args:
        input_size: the length of the input's last axis.
        hidden_size: the length of h.
        num_layers: how many recurrences, each over all h of the one before.
        nonlinearity: ``"tanh"`` or ``"relu"``.
        bias: learn both b.
        batch_first: input and output are (batch, steps, features), not (steps, batch, features).
        dropout: while training, the share of the elements dropped between two layers.
        bidirectional: a second recurrence in each layer goes from the last step to the first; the output has both.
        device: the CPU, or left out.
        dtype: of the parameters (float32).

    Shapes: input (T, N, input_size) or (T, input_size); ``forward(input, h0)`` gives the output (T, N, D * hidden_size) and
    the last h of every layer and direction, (D * num_layers, N, hidden_size), with D = 2 if bidirectional. Parameters
    are called and laid out as PyTorch's: ``weight_ih_l0`` (hidden_size, input_size), ``weight_hh_l0``, ``bias_ih_l0``,
    ``bias_hh_l0``, and so on, with ``_reverse`` behind. They start uniform in +-1/sqrt(hidden_size).

    Raises:
        SettingError: a size below 1, an unknown nonlinearity.
        ShapeError: when called, if the input or the state does not fit.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> output, h = nn.RNN(3, 5)(cr.zeros(7, 2, 3))
        >>> output.shape, h.shape
        ((7, 2, 5), (1, 2, 5))
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, *, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if nonlinearity not in ("tanh", "relu"):
            raise SettingError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}.")
        self.nonlinearity = nonlinearity
        self._make(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """The outputs of all steps, packed if the input is, and the last state."""
        output, (h,) = self._run(input, None if hx is None else (hx,))
        return output, h

    def _cell(self, z: Tensor, h: Tensor, state: State) -> State:
        return ((z + h).tanh() if self.nonlinearity == "tanh" else (z + h).relu(),)


class LSTM(_Recurrent):
    """``c' = f * c + i * g``, ``h' = o * tanh(c')``: a recurrence that keeps c, and what gates let in and out.

    i, f, o = sigmoid and g = tanh of ``x W_ih^T + b_ih + h W_hh^T + b_hh``, each of its own quarter of the rows, in
    the order i, f, g, o.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as for `RNN`.
        proj_size: PyTorch's projection of h; only 0 (none) is there.

    Shapes: input (T, N, input_size) or (T, input_size); ``forward(input, (h0, c0))`` gives the output
    (T, N, D * hidden_size) and ``(h, c)``, each (D * num_layers, N, hidden_size), with D = 2 if bidirectional.
    Parameters are called and laid out as PyTorch's: ``weight_ih_l0`` (4 * hidden_size, input_size), and so on.
    Reference: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997; Gers, Schmidhuber and
    Cummins, "Learning to Forget", Neural Computation 12(10), 2000.

    Raises:
        SettingError: a size below 1, a projection.
        ShapeError: when called, if the input or a state does not fit.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> output, (h, c) = nn.LSTM(3, 5, num_layers=2, batch_first=True)(cr.zeros(2, 7, 3))
        >>> output.shape, h.shape, c.shape
        ((2, 7, 5), (2, 2, 5), (2, 2, 5))
    """

    _gates, _states = 4, 2

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, *, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if proj_size:
            raise SettingError(f"LSTM: proj_size must be 0 (projections are not there yet), got {proj_size!r}.")
        self.proj_size = proj_size
        self._make(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def forward(
        self, input: Tensor | PackedSequence, hx: Sequence[Tensor] | None = None
    ) -> tuple[Any, tuple[Tensor, Tensor]]:
        """The outputs of all steps, packed if the input is, and the last (h, c)."""
        if hx is not None and (not isinstance(hx, (tuple, list)) or len(hx) != 2):
            raise SettingError(f"LSTM: the state must be a pair (h, c), got {kind_of(hx)}.")
        output, (h, c) = self._run(input, None if hx is None else tuple(hx))
        return output, (h, c)

    def _cell(self, z: Tensor, h: Tensor, state: State) -> State:
        i, f, g, o = (z + h).chunk(4, -1)
        c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c


class GRU(_Recurrent):
    """``h' = (1 - z) * n + z * h``: a recurrence whose gates say how much of h is new.

    r, z = sigmoid of ``x W_ih^T + b_ih + h W_hh^T + b_hh``, and n = tanh of ``x W_ih^T + b_ih + r * (h W_hh^T + b_hh)``, each
    of its own third of the rows, in the order r, z, n.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as for `RNN`.

    Shapes: as for `RNN`, with three times the rows in each parameter.
    Reference: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder", 2014, with PyTorch's place of r.

    Raises:
        SettingError: a size below 1.
        ShapeError: when called, if the input or the state does not fit.

    Example:
        >>> import chainrule as cr
        >>> from chainrule import nn
        >>> output, h = nn.GRU(3, 5, bidirectional=True)(cr.zeros(7, 2, 3))
        >>> output.shape, h.shape
        ((7, 2, 10), (2, 2, 5))
    """

    _gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, *, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self._make(input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype)

    def forward(self, input: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """The outputs of all steps, packed if the input is, and the last state."""
        output, (h,) = self._run(input, None if hx is None else (hx,))
        return output, h

    def _inner_bias(self, bias: Tensor | None) -> Tensor | None:
        return bias

    def _cell(self, z: Tensor, h: Tensor, state: State) -> State:
        (zr, zz, zn), (hr, hz, hn) = z.chunk(3, -1), h.chunk(3, -1)
        n = (zn + (zr + hr).sigmoid() * hn).tanh()
        return (n + (zz + hz).sigmoid() * (state[0] - n),)
