"""The arena: buffers that are needed at one time never overlap, and it is as small as it can be where that is known."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, dtypes, nn, optim
from chainrule.compiler.program import Program
from chainrule.compiler.schedule import memory
from chainrule.graph import INPUT, Node, Type
from tests.compiler.plans import check_program

BUFFERS = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9), st.integers(0, 9)), max_size=14)


@given(BUFFERS)
def test_what_is_needed_at_one_time_lies_apart(drawn: list[tuple[int, int, int]]) -> None:
    lives = {Node(INPUT, (), {}, Type((16 * lines,), dtypes.float32)): (min(a, b), max(a, b)) for lines, a, b in drawn}
    offsets = memory.first_fit(list(lives), lives)
    assert offsets.keys() == lives.keys()
    for a, (first, last) in lives.items():
        for b, (start, stop) in lives.items():
            if a is not b and first <= stop and start <= last:
                apart = offsets[a] + memory.size_of(a) <= offsets[b] or offsets[b] + memory.size_of(b) <= offsets[a]
                assert apart
    peak = max((offsets[n] + memory.size_of(n) for n in lives), default=0)
    most = max((sum(memory.size_of(n) for n, (a, b) in lives.items() if a <= t <= b) for t in range(10)), default=0)
    assert memory.most_alive(lives) == most <= peak


def training_step(sizes: tuple[int, ...], batch: int) -> Program:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.ReLU()] * bool(layers) + [nn.Linear(inputs, outputs)]
    model = nn.Sequential(*layers)
    optimizer = optim.Adam(model.parameters())

    @cr.compile
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    step(cr.zeros(batch, sizes[0]), cr.zeros(batch, dtype=cr.int64))
    assert step._latest is not None
    program: Program = step._latest.program
    check_program(program)
    return program


def test_kernels_come_in_the_order_in_which_their_values_were_made() -> None:
    """Two passes, each forwards and back: the second begins when the first has left nothing but its sums."""

    def both(x: Tensor, w: Tensor, v: Tensor) -> list[Tensor]:
        def one(x: Tensor) -> Tensor:
            for _ in range(6):
                x = (x @ w).tanh()
            return (x @ v).sum(0)

        return [one(x), one(x * 2)]

    step = cr.compile(lambda *given: both(*given)[::-1])  # the last one is asked for first
    step(cr.zeros(64, 32), cr.zeros(32, 32), cr.zeros(32, 2))
    assert step._latest is not None
    names = [kernel.stores[0].node for kernel in step._latest.program.plan.kernels]
    made = [node.made for node in names]
    assert made == sorted(made)
    assert made[0] > 0
    assert step._latest.program.plan.arena <= 2 * 64 * 32 * 4 + 64 * 2 * 4 + 512


def test_a_gradient_makes_room_as_soon_as_its_weights_are_updated() -> None:
    """Ten layers: the activations must all be there when the backward pass begins, but two gradients are enough."""
    width, depth, batch = 32, 10, 64
    program = training_step((width,) * depth + (2,), batch)
    activations = (depth - 1) * batch * width * 4
    assert activations < program.plan.arena < activations + 2 * batch * width * 4 + 4096


def test_the_peak_counts_every_byte_once() -> None:
    program = training_step((30, 128, 2), 64)
    *_, line = program.show("memory").splitlines()
    found = re.fullmatch(
        r"peak: ([\d,]+) bytes = inputs ([\d,]+) \+ state ([\d,]+) \+ results ([\d,]+) \+ arena ([\d,]+)"
        r" \+ scratch ([\d,]+) \(the arena without reuse: ([\d,]+)\)",
        line,
    )
    assert found is not None, line
    peak, inputs, state, results, arena, scratch, without = (int(text.replace(",", "")) for text in found.groups())
    weights = 30 * 128 + 128 + 128 * 2 + 2
    numbers = 5 * 8  # the settings of the optimizer, at most
    assert 64 * 30 * 4 + 64 * 8 <= inputs <= 64 * 30 * 4 + 64 * 8 + numbers
    assert state == 3 * weights * 4 + 4  # with both moments, and the step
    assert results == np.float32().nbytes
    assert arena == program.plan.arena <= without
    assert peak == inputs + state + results + arena + scratch
