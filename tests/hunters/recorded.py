"""Random programs that wait and run together: beside the same program computed at once.

A program runs over and over, so that what it records is found again and compiled, each round with other values, which one left over
from the round before would not be. Values are asked for at random lines, and the tape computes what waits at random
operations. Where nothing is compiled no bit may differ. Run by `programs`, with ``--recorded``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

import chainrule as cr
import chainrule.nn.functional as F
import chainrule.tape
from chainrule.tape import tape
from tests.hunters.drawing import Array, Program

ROUNDS = 6
# Of a round: outputs, and gradients so far.
Seen = list["Array | None"]


def values(program: Program, turn: int) -> list[Array]:
    """The inputs of a round: those of the program, turned around, of the other sign, or both, which are as exact."""
    found = []
    for a in program.inputs:
        a = a.reshape(-1)[::-1].reshape(a.shape) if turn % 2 else a
        found.append(np.array(-a if turn // 2 % 2 and a.dtype.kind == "f" else a, order="C"))
    return found


class Rounds:
    """A program, round after round.

    Args:
        kept: are the inputs the same tensors in every round, written to in between, whose gradients add up?
        asks: the lines after which a value is asked for.
    """

    def __init__(self, program: Program, kept: bool, asks: frozenset[int] = frozenset()) -> None:
        self.program, self.kept, self.asks = program, kept, asks
        self.inputs = [self._tensor(i, a) for i, a in enumerate(program.inputs)]

    def _tensor(self, i: int, array: Array) -> Any:
        return cr.tensor(array, requires_grad=i in self.program.differentiable)

    def round(self, turn: int) -> Seen:
        arrays = values(self.program, turn)
        if self.kept:
            with cr.no_grad():
                for tensor, array in zip(self.inputs, arrays, strict=True):
                    tensor.copy_(cr.tensor(array))
        else:
            self.inputs = [self._tensor(i, a) for i, a in enumerate(arrays)]
        outputs, loss = self.program.run(self.inputs, cr, F, self._asked)
        if loss is not None and loss.requires_grad:
            loss.backward()
        gradients = [self.inputs[i].grad for i in self.program.differentiable]
        # Copies: what is handed out must not change, which is compared at the end.
        return [None if t is None else t.detach().numpy() for t in (*outputs, *gradients)]

    def _asked(self, line: int, value: Any) -> None:
        if line in self.asks:
            value.detach().numpy()


def seen(make: Callable[[], Rounds]) -> list[Seen]:
    """What all rounds show; errors, too."""
    rounds, found = make(), []
    for turn in range(ROUNDS):
        try:
            found.append(rounds.round(turn))
        except Exception as error:
            found.append([np.array(f"{type(error).__name__}: {error}")])
    return [[None if a is None else np.array(a) for a in each] for each in found]


@contextmanager
def flushing(seed: int, share: float) -> Iterator[None]:
    """The tape computes what waits before one operation in so many."""
    draws, record = random.Random(seed), tape.Tape.record

    def now_and_then(self: Any, *given: Any) -> Any:
        if draws.random() < share:
            self.flush()
        return record(self, *given)

    with mock.patch.object(tape.Tape, "record", now_and_then):
        yield


def differences(program: Program, seed: int, tolerance: float) -> list[str]:
    """Where the program shows something else when it waits."""
    draws = random.Random(seed)
    kept = draws.random() < 0.5
    expected = seen(lambda: Rounds(program, kept))
    if any(a is not None and a.dtype.kind == "U" for a in expected[0]):  # with other values only may it be refused
        return [f"at once, kept {kept}: {expected[0]}"]
    lines = range(len(program.lines))
    found = []
    for name, asks, share, hot in (
        ("not compiled", frozenset(i for i in lines if draws.random() < 0.2), 0.15, 10**9),
        ("whole", frozenset[int](), 0.0, tape.HOT),
        ("asked for", frozenset(i for i in lines if draws.random() < 0.3), 0.0, tape.HOT),
        ("flushed", frozenset[int](), 0.03, 1),
    ):
        chainrule.tape._own.tape = None
        with mock.patch.object(tape, "HOT", hot), flushing(seed, share), cr.eager(False):
            given = seen(lambda asks=asks: Rounds(program, kept, asks))
        scales = [1.0] * max(map(len, expected))
        for turn, (a, e) in enumerate(zip(given, expected, strict=True)):
            exact = hot > ROUNDS or (turn < hot and not share)
            _grow(scales, e)
            text = _difference(a, e, 0.0 if exact else tolerance, scales)
            if text is not None:
                found.append(f"recorded, {name}, kept {kept}, asks {sorted(asks)}, round {turn}: {text}")
                break
    chainrule.tape._own.tape = None
    return found


def _grow(scales: list[float], seen: Seen) -> None:
    """How large each value has been: gradients add up round after round, and keep the rounding of the largest."""
    for n, a in enumerate(seen):
        if a is not None and a.dtype.kind == "f":
            scales[n] = max(scales[n], float(np.abs(a[np.isfinite(a)]).max(initial=1)))


def _difference(ours: Seen, theirs: Seen, tolerance: float, scales: list[float]) -> str | None:
    if len(ours) != len(theirs):
        return f"{ours} instead of {theirs}"
    for n, (a, e) in enumerate(zip(ours, theirs, strict=True)):
        if a is None or e is None:
            if a is not e:
                return f"{n}: {a} instead of {e}"
        elif (a.shape, a.dtype) != (e.shape, e.dtype):
            return f"{n}: {a.dtype}{a.shape} instead of {e.dtype}{e.shape} {a if a.dtype.kind == 'U' else e}"
        elif tolerance and a.dtype.kind == "f":
            if not np.allclose(a, e, tolerance, tolerance * scales[n], equal_nan=True):
                return f"{n}: {a.ravel()[:6]} instead of {e.ravel()[:6]}"
        elif a.tobytes() != e.tobytes():
            return f"{n}: {a.ravel()[:6]} instead of {e.ravel()[:6]}, to the bit"
    return None
