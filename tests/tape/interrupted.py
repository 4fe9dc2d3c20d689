"""A signal's handler that comes in at each line in turn; `python -m tests.tape.interrupted` comes in at all of them.

A signal comes when it likes, so what goes wrong where one line was done and the next was not is rarely met. Here the handler is
called by Python's own trace of a step, once in each run. One that raises does so where a function begins, since that
is where Python looks for signals.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import chainrule as cr
import chainrule.tape
from chainrule import graph, nn, optim
from chainrule.nn import functional as F

OURS = os.path.dirname(cr.__file__)
ROUNDS = 7
Script = tuple[Callable[[int], Any], Callable[[], list[Any]]]  # a step, and what can be seen afterwards


def handler() -> None:
    """Records, asks, and walks back."""
    with cr.enable_grad():  # which the step may have off for a moment
        w = cr.ones(3, requires_grad=True)
        total = (w * 2).sum()
        assert total.item() == 6
        total.backward()
    assert w.grad is not None
    assert w.grad.tolist() == [2, 2, 2]


def adds_up() -> Script:
    x = cr.full((2, 2), 0.3, requires_grad=True)
    return lambda i: cr.erf(x.sigmoid()).sum().backward(), lambda: [x.grad]


def by_hand() -> Script:
    w, seen = cr.ones(3, requires_grad=True), []

    def step(i: int) -> None:
        loss = (w.exp() * i).sum()
        loss.backward()
        with cr.no_grad():
            w.sub_(0.01 * w.grad)
        w.grad.zero_()
        seen.extend([loss.detach(), w.detach()[1:] * 2])

    return step, lambda: [w.detach(), *seen]


def classifies() -> Script:
    model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    x, y, seen = cr.tensor([[1.0, 2.0], [3.0, -1.0]]), cr.tensor([0, 1]), []

    def step(i: int) -> None:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        seen.append(loss.detach())

    return step, lambda: [*[p.detach() for p in model.parameters()], *seen]


def clips() -> Script:
    w, seen = cr.ones(3, 2, requires_grad=True), []

    def step(i: int) -> None:
        w.grad = None
        loss = w.log_softmax(-1)[i % 3].mean() * i
        loss.backward()
        seen.extend([loss.detach(), nn.utils.clip_grad_norm_([w], 0.3)])
        with cr.no_grad():
            w.sub_(w.grad)

    return step, lambda: [w.detach(), *seen]


SCRIPTS: list[Callable[[], Script]] = [adds_up, by_hand, classifies, clips]


class At:
    """Traces until the event with a number, where it calls the handler."""

    def __init__(self, number: int, called: Callable[[], None], event: str) -> None:
        self.number, self.called, self.event = number, called, event
        self.met, self.where = 0, ""

    def __call__(self, frame: Any, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        if event == self.event:
            self.met += 1
            if self.met == self.number:
                self.where = f"{os.path.relpath(frame.f_code.co_filename, OURS)}:{frame.f_lineno}"
                sys.settrace(None)
                self.called()
        return self


def run(script: Callable[[], Script], turn: int, at: At | None) -> list[float]:
    """What a script shows in the end, with something that comes in its way in one of its steps."""
    cr.manual_seed(0)
    step, final = script()
    for i in range(ROUNDS):
        if i == turn and at is not None:
            outer = sys.gettrace()
            sys.settrace(at)
            try:
                step(i)
            finally:
                sys.settrace(outer)
        else:
            step(i)
    return [value for tensor in final() for value in tensor.reshape(-1).tolist()]


def numbers(script: Callable[[], Script], turn: int, event: str, stride: int, first: int) -> Iterator[int]:
    """The numbers of the events of a step."""
    chainrule.tape._own.tape = None
    with cr.eager(False):
        all_of_them = At(0, handler, event)
        run(script, turn, all_of_them)
    return iter(range(1 + first % stride, all_of_them.met + 1, stride))


def differences(script: Callable[[], Script], turn: int, stride: int, first: int = 0) -> list[str]:
    """Where a handler that comes in makes a difference."""
    expected, found = run(script, turn, None), []
    for number in numbers(script, turn, "line", stride, first):
        at = At(number, handler, "line")
        chainrule.tape._own.tape = None
        try:
            with cr.eager(False):
                given = run(script, turn, at)
            if not all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5) for a, b in zip(given, expected, strict=True)):
                found.append(f"{number} at {at.where}: {given} instead of {expected}")
        except Exception as error:
            cr.set_grad_enabled(True)
            found.append(f"{number} at {at.where}: {error!r}")
    return found


class Stop(Exception):
    """What a handler raises."""


def stop() -> None:
    raise Stop


def left_behind(script: Callable[[], Script], turn: int, stride: int, first: int = 0) -> list[str]:
    """Where a handler that raises leaves something behind: gradients off, say, or a step that cannot be taken any more.

    What it came in the way of may have been done, or not, so the step may be another; those after it must be possible.
    """
    found = []
    for number in numbers(script, turn, "call", stride, first):
        at = At(number, stop, "call")
        chainrule.tape._own.tape = None
        step, final = script()
        with cr.eager(False):
            for i in range(ROUNDS):
                sys.settrace(at if i == turn else None)
                try:
                    step(i)
                except Stop:
                    sys.settrace(None)
                    if not cr.is_grad_enabled():
                        found.append(f"{number} at {at.where}: gradients are off")
                        cr.set_grad_enabled(True)
                    if not graph._local.aliasing:
                        found.append(f"{number} at {at.where}: views do not follow any more")
                        graph._local.aliasing = True
                except Exception as error:
                    found.append(f"{number} at {at.where}, in step {i}: {error!r}")
                    break
                finally:
                    sys.settrace(None)
            values = [value for tensor in final() for value in tensor.reshape(-1).tolist()]
        if not all(map(math.isfinite, values)):
            found.append(f"{number} at {at.where}: {values}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stride", type=int, default=1)
    options = parser.parse_args()
    for script in SCRIPTS:
        for turn in range(6):
            found = differences(script, turn, options.stride, turn)
            print(f"{script.__name__}, step {turn}: {len(found)} differ", *found[:5], sep="\n", flush=True)
            found = left_behind(script, turn, options.stride, turn)
            print(f"and {len(found)} leave something behind", *found[:5], sep="\n", flush=True)


if __name__ == "__main__":
    main()
