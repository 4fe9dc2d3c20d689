"""ONNX's RNN, GRU and LSTM: a step of each, repeated by `scan`; and its Scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import chainrule.nn.functional as F
from chainrule.control import scan
from chainrule.interop.onnx.operators import Step
from chainrule.tensor import Tensor
from chainrule.tensor import functions as fn

State = tuple[Tensor, ...]
# (step, the input's part of all gates, the weight and bias of the state's part, state) -> the next state
Cell = Callable[[Step, Tensor, Tensor, Any, State], State]
_WAYS = {b"forward": (False,), b"reverse": (True,), b"bidirectional": (False, True)}


def _lstm(step: Step, z: Tensor, weight: Tensor, bias: Any, state: State) -> State:
    """The gates are input, output, forget and cell."""
    i, o, f, c = (z + F.linear(state[0], weight, bias)).chunk(4, -1)
    memory = f.sigmoid() * state[1] + i.sigmoid() * c.tanh()
    return o.sigmoid() * memory.tanh(), memory


def _gru(step: Step, z: Tensor, weight: Tensor, bias: Any, state: State) -> State:
    """The gates are update, reset and hidden."""
    (h,) = state
    size = h.shape[-1]
    before = F.linear(h, weight[: 2 * size], None if bias is None else bias[: 2 * size])
    update, reset = (z[:, : 2 * size] + before).sigmoid().chunk(2, -1)
    last, shift = weight[2 * size :], None if bias is None else bias[2 * size :]
    if step.get("linear_before_reset", 0):
        inner = reset * F.linear(h, last, shift)
    else:
        inner = F.linear(reset * h, last, shift)
    return ((1 - update) * (z[:, 2 * size :] + inner).tanh() + update * h,)


def _rnn(step: Step, z: Tensor, weight: Tensor, bias: Any, state: State) -> State:
    total = z + F.linear(state[0], weight, bias)
    return (total.relu() if _activations(step)[:1] == ["relu"] else total.tanh(),)


_USUAL = {"LSTM": ["sigmoid", "tanh", "tanh"], "GRU": ["sigmoid", "tanh"]}


def _activations(step: Step) -> list[str]:
    return [name.decode().lower() for name in step.get("activations", ())]


def _check(step: Step, lengths: Any, peepholes: Any) -> None:
    given = _activations(step)
    allowed = [_USUAL[step.kind]] if step.kind in _USUAL else [["tanh"], ["relu"]]
    if given and not any(given in (each, each * 2) for each in allowed):
        usual = (
            "they are sigmoid, tanh" + ", tanh" * (step.kind == "LSTM") if step.kind in _USUAL else "it is tanh or relu"
        )
        raise step.refuse(f"has the activations {', '.join(given)}, and here {usual}")
    for name in ("clip", "input_forget", "layout"):
        if step.get(name):
            raise step.refuse(f"has {name}={step.get(name)}, which is not supported")
    if lengths is not None or peepholes is not None:
        what = "peepholes" if lengths is None else "a length for each sequence"
        raise step.refuse(f"has {what}, which is not supported")


def _recurrent(cell: Cell, states: int) -> Callable[..., Any]:
    """All steps of each direction: ``(T, N, I)`` to ``(T, D, N, H)``, and the last states, ``(D, N, H)`` each."""

    def run(
        step: Step, x: Tensor, inner: Tensor, outer: Tensor, bias: Any = None, lengths: Any = None, *rest: Any
    ) -> tuple[Tensor, ...]:
        _check(step, lengths, rest[states] if len(rest) > states else None)
        first = [*rest[:states], *[None] * (states - len(rest[:states]))]
        outputs: list[Tensor] = []
        last: list[Sequence[Tensor]] = []
        for way, reverse in enumerate(_WAYS[step.get("direction", b"forward")]):
            ends, ys = _along(step, cell, x, inner[way], outer[way], None if bias is None else bias[way],
                              [None if s is None else s[way] for s in first], reverse)  # fmt: skip
            outputs.append(ys)
            last.append(ends)
        return fn.stack(outputs, 1), *(fn.stack([ends[i] for ends in last]) for i in range(states))

    return run


def _along(
    step: Step, cell: Cell, x: Tensor, inner: Tensor, outer: Tensor, bias: Any, first: Sequence[Any], reverse: bool
) -> tuple[Sequence[Tensor], Tensor]:
    """One direction."""
    rows, size = inner.shape[0], outer.shape[-1]
    z = F.linear(x, inner, None if bias is None else bias[:rows])
    shift = None if bias is None else bias[rows:]
    begin = tuple(x.new_zeros(x.shape[1], size) if s is None else s for s in first)

    def one(state: State, read: Tensor) -> tuple[State, Tensor]:
        after = cell(step, read, outer, shift, state)
        return after, after[0]

    return scan(one, begin, z, reverse=reverse)


RECURRENT: dict[str, Callable[..., Any]] = {
    "GRU": _recurrent(_gru, 1), "LSTM": _recurrent(_lstm, 2), "RNN": _recurrent(_rnn, 1),
}  # fmt: skip


def scanned(step: Step, run: Callable[[Sequence[Tensor]], list[Tensor]], given: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """ONNX's Scan, of a graph that `run` runs."""
    along = step.get("num_scan_inputs")
    carries = len(given) - along
    ways = {
        *step.get("scan_input_directions", [0] * along),
        *step.get("scan_output_directions", [0] * bool(step.outputs[carries:])),
    }
    if any(step.get("scan_input_axes", ())) or any(step.get("scan_output_axes", ())):
        raise step.refuse("goes along another axis than the first")
    if len(ways) > 1:
        raise step.refuse("goes some arrays from the front and others from the back")

    def one(carry: State, read: State) -> tuple[State, State]:
        found = run([*carry, *read])
        return tuple(found[:carries]), tuple(found[carries:])

    last, ys = scan(one, tuple(given[:carries]), tuple(given[carries:]), reverse=ways == {1})
    return (*last, *ys)
