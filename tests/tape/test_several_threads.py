"""Programs that several threads run write over what nobody holds, as those of one do, also where a handler comes in their way."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, optim
from chainrule.graph import Array
from chainrule.tape import own_tape
from chainrule.tensor.memory import address

from .interrupted import At, Stop, stop


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = cr.get_num_threads()
    cr.set_num_threads(2)
    yield
    cr.set_num_threads(before)


def training() -> tuple[list[Tensor], list[Tensor], Callable[[], None]]:
    """Parameters, the loss, and a step by which each element of theirs falls by 1."""
    parameters = [cr.zeros(300, 300, requires_grad=True) for _ in range(2)]
    optimizer = optim.SGD(parameters, lr=1.0)

    losses: list[Tensor] = []

    def step() -> None:
        optimizer.zero_grad()
        losses[:] = [cr.stack([p.sum() for p in parameters]).sum()]
        losses[0].backward()
        optimizer.step()

    return parameters, losses, step


def where(parameters: list[Tensor]) -> list[int]:
    return [address(p._node.value) for p in parameters]


def values(parameters: list[Tensor]) -> Array:
    return np.stack([p.detach().numpy() for p in parameters])


def test_parameters_stay_where_they_are() -> None:
    parameters, _, step = training()
    with cr.eager(False):
        for _ in range(6):
            step()
        before = where(parameters)
        for _ in range(4):
            step()
    assert own_tape().compiled[-1]._run.shared()
    assert where(parameters) == before
    assert (values(parameters) == -10).all()


@pytest.mark.parametrize(("file", "threads"), [("run.py", 2), ("segments.py", 2), ("segments.py", 1)])
def test_a_handler_that_raises_leaves_parameters_that_have_moved_once_or_not_at_all(file: str, threads: int) -> None:
    """At each line of what runs a program, in turn, but where the workers are called, which keeps interrupts off."""
    cr.set_num_threads(threads)
    parameters, losses, step = training()

    class There(At):
        def __call__(self, frame, event, arg):  # type: ignore[no-untyped-def]
            code = frame.f_code
            here = code.co_filename.endswith(file) and code.co_name != "work"
            return super().__call__(frame, event, arg) if here else None

    moved: set[int] = set()
    with cr.eager(False):
        for _ in range(6):
            step()
        for number in itertools.count(1):
            before, raised = values(parameters), False
            losses.clear()
            sys.settrace(There(number, stop, "line"))
            try:
                step()
            except Stop:
                raised = True
                cr.set_grad_enabled(True)
            finally:
                sys.settrace(None)
            assert not losses or losses[0].item() == before.sum(), number
            now = values(parameters)
            assert np.ptp(now) == 0, number
            moved.add(int((before - now).max()))
            step()
            assert (values(parameters) == now - 1).all(), number
            if not raised:
                break
    assert number > 15
    assert moved == {0, 1}
