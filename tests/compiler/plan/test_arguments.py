"""Where a kernel begins in its buffers is an argument of its function: kernels equal but for that are one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, optim
from chainrule.compiler.plan.arguments import Arguments
from chainrule.compiler.program import Program
from chainrule.errors import IndexRangeError
from tests.compiler.plans import check_program

rng = np.random.default_rng(0)
X = cr.tensor(rng.normal(size=(24, 5, 7)).astype(np.float32))


def program_of(compiled: cr.compiler.compile.Compiled) -> Program:
    assert compiled._latest is not None
    return compiled._latest.program


def compiled_as(function: Callable[..., Tensor], *inputs: Tensor) -> Program:
    """The function's program, after its results were compared with eager ones."""
    compiled = cr.compile(function)
    np.testing.assert_array_equal(compiled(*inputs).numpy(), function(*inputs).numpy())
    check_program(program_of(compiled))
    return program_of(compiled)


def pointers(program: Program) -> list[Arguments]:
    return [Arguments.of(kernel, program.plan.places) for kernel in program.plan.kernels]


def recurrence(steps: int) -> tuple[Program, list[float]]:
    """A recurrence written out step by step, trained twice; and twice in eager mode."""
    draw = np.random.default_rng(1)
    start = [(0.3 * draw.normal(size=shape)).astype(np.float32) for shape in ((24, 5), (24, 24), (24,))]
    xs = cr.tensor(draw.normal(size=(steps, 16, 5)).astype(np.float32))
    losses: list[list[float]] = []
    for wrap in (cr.compile, lambda function: function):
        w, u, b = (cr.tensor(array, requires_grad=True) for array in start)
        optimizer = optim.Adam([w, u, b], lr=0.01)

        def step(xs: Tensor, w: Tensor = w, u: Tensor = u, b: Tensor = b, optimizer: optim.Adam = optimizer) -> Tensor:
            optimizer.zero_grad()
            h, loss = cr.zeros(16, 24), cr.zeros(())
            for t in range(steps):
                h = (xs[t] @ w.t() + h @ u.t() + b).tanh()
                loss = loss + (h * h).mean()
            loss.backward()
            optimizer.step()
            return loss

        trained = wrap(step)
        losses.append([trained(xs).item() for _ in range(3)])
        if wrap is cr.compile:
            program = program_of(trained)
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    check_program(program)
    return program, losses[0]


def test_the_steps_of_a_recurrence_are_compiled_once() -> None:
    short, _ = recurrence(6)
    long, _ = recurrence(18)
    assert len(long.plan.kernels) > len(short.plan.kernels) + 12 * 5
    assert len(long.module.kernels) == len(short.module.kernels)


@pytest.mark.parametrize(
    ("function", "starts"),
    [
        (lambda x: x[3] * 2, [3 * 35]),
        (lambda x: x[3, :, 2:5] * 2, [3 * 35 + 2]),
        (lambda x: x[3] * x[11], [3 * 35, 11 * 35]),  # apart: each where it is
        (lambda x: x[11] * x[3], [11 * 35, 3 * 35]),
        (lambda x: x[1:-1] + x[2:] + x[:-2], [0]),  # neighbours: one pointer
        (lambda x: x.flip(0)[2:] * 2, [21 * 35]),
        (lambda x: x[0] + x[1] + x[2] + x[3] + x[4], [0]),  # more than there are registers for
    ],
)
def test_a_pointer_leads_to_the_first_element_touched(function: Callable[..., Tensor], starts: list[int]) -> None:
    program = compiled_as(function, X)
    (arguments,) = pointers(program)
    slot = program.slots[program.simplified.inputs[0]]
    assert [place.offset // 4 for place in arguments.places if place.slot == slot] == starts


def test_kernels_at_other_places_of_a_buffer_are_one_function() -> None:
    def function(x: Tensor) -> Tensor:
        return cr.stack([(x[i].exp() @ x[i + 1].t()).sum(1) for i in range(9)])

    inputs = [X * 0.1]
    compiled = cr.compile(function)
    np.testing.assert_allclose(compiled(*inputs).numpy(), function(*inputs).numpy(), rtol=1e-5)
    program = program_of(compiled)
    assert len(program.plan.kernels) >= 9
    assert len(program.module.kernels) <= 4


def test_a_padded_read_counts_from_the_beginning_of_its_buffer() -> None:
    """Where the padding is, there is no element to begin from."""
    program = compiled_as(lambda x, w: cr.grad(lambda v: (v[2:] * w).sum())(x), X, X[2:])
    loads = [load for kernel in program.plan.kernels for load in kernel.loads()]
    assert any(load.guards and load.index.constant for load in loads)
    assert all(place.offset == 0 for arguments in pointers(program) for place in arguments.places)


def test_what_is_written_has_one_pointer() -> None:
    """Pointers promise that none of them leads where another one writes."""
    program = compiled_as(lambda x: cr.cat([x[3] * 2, x[5], x[3] + 1]), X)
    for kernel, arguments in zip(program.plan.kernels, pointers(program), strict=True):
        for store in kernel.stores:
            place = program.plan.places[store.node]
            assert sum(p.slot == place.slot and p.slot is not None for p in arguments.places) == 1


def test_checks_of_one_function_tell_which_of_them_failed() -> None:
    def function(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return (
            x[0][a]  # the first
            + x[1][b]  # the second
        )

    indices = [cr.tensor([0, 4]), cr.tensor([1, 4])]
    compiled = cr.compile(function)
    compiled(X, *indices)
    start = function.__code__.co_firstlineno
    assert len({call.name for call in program_of(compiled).module.calls[:2]}) == 1
    for bad in range(2):
        wrong = [cr.tensor([0, 9]) if i == bad else at for i, at in enumerate(indices)]
        with pytest.raises(IndexRangeError, match=f"py:{start + 2 + bad} in function"):
            compiled(X, *wrong)


@pytest.mark.parametrize(
    "function", [lambda x: x, lambda x: x[:2], lambda x: x.view(2, 2), lambda x: x.detach(), lambda x: x.mul_(2)]
)
def test_a_result_is_a_tensor_of_its_own(function):
    """Unlike PyTorch's, which may be the argument or a view of it."""
    x = cr.tensor([1.0, 2.0, 3.0, 4.0])
    result = cr.compile(function)(x)
    before = x.tolist()
    result.add_(10)
    assert x.tolist() == before
    result.copy_(0 * result)
    x.add_(10)
    assert not result.any()
