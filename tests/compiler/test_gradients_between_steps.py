"""Gradients are state like any other: they go from step to step in a native loop as they do in single calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import chainrule as cr
from chainrule import Tensor, optim
from chainrule.errors import TraceError

# -- every habit of clearing, from every start, in every way of running -----------------------------------------


class World:
    def __init__(self) -> None:
        self.w = cr.tensor([1.0, -2.0], requires_grad=True)
        self.b = cr.tensor(0.5, requires_grad=True)
        self.optimizer = optim.SGD([self.w, self.b], lr=0.125)

    def backward(self, x: Tensor) -> Tensor:
        loss = ((self.w * x).sum() + self.b) ** 2
        loss.backward()
        return loss.detach()

    def state(self) -> list[Any]:
        tensors = (self.w, self.b, self.w.grad, self.b.grad)
        return [None if t is None else t.detach().tolist() for t in tensors]


def _before(m: World, x: Tensor) -> Tensor:
    m.optimizer.zero_grad()
    loss = m.backward(x)
    m.optimizer.step()
    return loss


def _after(m: World, x: Tensor) -> Tensor:
    loss = m.backward(x)
    m.optimizer.step()
    m.optimizer.zero_grad()
    return loss


def _zeros(m: World, x: Tensor) -> Tensor:
    m.optimizer.zero_grad(set_to_none=False)
    loss = m.backward(x)
    m.optimizer.step()
    return loss


def _zeros_after(m: World, x: Tensor) -> Tensor:
    loss = m.backward(x)
    m.optimizer.step()
    m.optimizer.zero_grad(set_to_none=False)
    return loss


def _in_place(m: World, x: Tensor) -> Tensor:
    for p in (m.w, m.b):
        if p.grad is not None:
            p.grad.zero_()
    loss = m.backward(x)
    m.optimizer.step()
    return loss


def _never(m: World, x: Tensor) -> Tensor:
    loss = m.backward(x)
    m.optimizer.step()
    return loss


def _clears_only(m: World, x: Tensor) -> Tensor:
    m.optimizer.zero_grad()
    return (m.w.detach() * x).sum()


def _one_of_two(m: World, x: Tensor) -> Tensor:
    m.w.grad = None
    loss = m.backward(x)
    m.optimizer.step()
    return loss


def _turns(m: World, x: Tensor) -> Tensor:
    """There is one at every second step."""
    if m.w.grad is None:
        return m.backward(x)
    m.optimizer.step()
    m.optimizer.zero_grad()
    return m.w.detach().sum()


def _shrinks(m: World, x: Tensor) -> Tensor:
    loss = m.backward(x)
    m.w.grad = m.w.grad * 0.5
    m.optimizer.step()
    return loss


def _swaps(m: World, x: Tensor) -> Tensor:
    """What is left there depends on the other one's."""
    loss = m.backward(x)
    m.b.grad, m.w.grad = m.w.grad.sum(), m.b.grad + m.w.grad
    return loss


HABITS = [_before, _after, _zeros, _zeros_after, _in_place, _never, _clears_only, _one_of_two, _turns, _shrinks, _swaps]


def _left(m: World) -> None:
    m.backward(cr.tensor([1.0, 1.0]))


def _by_hand(m: World) -> None:
    m.w.grad = cr.tensor([3.0, 4.0])


def _both(m: World) -> None:
    m.w.grad, m.b.grad = cr.tensor([3.0, 4.0]), cr.tensor(-1.0)


STARTS: dict[str, Callable[[World], None]] = {"none": lambda m: None, "left": _left, "one": _by_hand, "both": _both}
X = [[0.5, 0.25], [-0.25, 0.5], [0.125, -0.5], [0.25, 0.25], [0.5, -0.125], [-0.5, 0.5], [0.25, -0.25]]


def _calls(step: Any, xs: list[list[float]]) -> list[Any]:
    return [step(cr.tensor(x)).tolist() for x in xs]


def _loop(step: Any, xs: list[list[float]]) -> Any:
    return step.loop(cr.tensor(xs)).tolist()


def _advance(step: Any, xs: list[list[float]]) -> Any:
    loop = step.begin(cr.tensor(xs))
    loop.advance(1)
    loop.advance(len(xs) - 1)
    return loop.end().tolist()


WAYS = {"calls": [_calls, _calls, _calls], "loop": [_loop, _loop, _advance], "both": [_loop, _calls, _advance]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("habit", HABITS)
def test_a_step_leaves_what_it_leaves_when_run_eagerly(habit: Any, start: str, way: str) -> None:
    eager, ours = World(), World()
    compiled = cr.compile(lambda x: habit(ours, x))
    STARTS[start](eager), STARTS[start](ours)
    for run, xs in zip(WAYS[way], (X[:3], X[3:5], X[5:]), strict=True):
        assert _calls(lambda x: habit(eager, x), xs) == pytest.approx(run(compiled, xs), rel=1e-5)
        for a, e in zip(ours.state(), eager.state(), strict=True):
            assert a == (None if e is None else pytest.approx(e, rel=1e-5))
        _by_hand(eager), _by_hand(ours)  # and once more from what is set by hand


# -- the smallest of the kind, with their right values ---------------------------------------------------------


def test_gradients_are_cleared_at_every_call_although_there_were_none_when_it_was_traced() -> None:
    w = cr.ones(2, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.0)
    f = cr.compile(lambda x: (optimizer.zero_grad(), (w * x).sum())[1])
    for _ in range(3):
        f(cr.ones(2)).backward()
        assert w.grad.tolist() == [1.0, 1.0]


def test_a_loop_accumulates_from_step_to_step() -> None:
    w = cr.tensor(1.0, requires_grad=True)
    f = cr.compile(lambda x: ((w * x).backward(), x * 1)[1])
    f.loop(cr.tensor([1.0, 2.0, 3.0]))
    assert w.grad.item() == 6.0
    f.loop(cr.tensor([1.0, 2.0, 3.0]))
    assert w.grad.item() == 12.0


def test_two_loops_by_turns_accumulate_into_one_gradient() -> None:
    w = cr.tensor(1.0, requires_grad=True)
    f = cr.compile(lambda x: ((w * x.sum()).backward(), x.sum())[1])
    ones, pairs = f.begin(cr.tensor([1.0, 2.0, 3.0])), f.begin(cr.tensor([[10.0, 20.0], [30.0, 40.0]]))
    ones.advance(1), pairs.advance(1)
    assert w.grad.item() == 31.0
    ones.advance(2), pairs.advance(1)
    assert w.grad.item() == 106.0
    ones.end(), pairs.end()
    assert w.grad.item() == 106.0


def test_what_ran_last_left_the_gradient_whichever_loop_ends_first() -> None:
    w = cr.tensor(1.0, requires_grad=True)

    @cr.compile
    def f(x: Tensor) -> Tensor:
        w.grad = None
        (w * x.sum()).backward()
        return x.sum()

    ones, pairs = f.begin(cr.tensor([1.0])), f.begin(cr.tensor([[10.0, 20.0]]))
    pairs.advance(1), ones.advance(1)
    ones.end(), pairs.end()
    assert w.grad.item() == 1.0


def test_a_gradient_looked_at_between_two_moves_of_a_loop_stays_as_it_was() -> None:
    w = cr.tensor([1.0, 1.0], requires_grad=True)
    f = cr.compile(lambda x: ((w * x).sum().backward(), x.sum())[1])
    loop = f.begin(cr.ones(4, 2))
    loop.advance(2)
    held, array = w.grad, w.grad.numpy()
    loop.advance(1)
    assert array.tolist() == [2.0, 2.0] and w.grad.tolist() == [3.0, 3.0]
    w.grad = None
    loop.advance(1)
    assert w.grad.tolist() == [1.0, 1.0]
    loop.end()
    assert held.tolist() in ([2.0, 2.0], [3.0, 3.0])  # whether it is the tensor that was added to is eager's business


def test_a_gradient_replaced_leaves_the_one_held_before_alone() -> None:
    w = cr.tensor([1.0, 1.0], requires_grad=True)
    w.grad = cr.tensor([4.0, 8.0])

    @cr.compile
    def halve() -> None:
        w.grad = w.grad * 0.5

    held = []
    for _ in range(4):
        held.append(w.grad)
        halve()
    assert [g.tolist() for g in held] == [[4.0, 8.0], [2.0, 4.0], [1.0, 2.0], [0.5, 1.0]]
    assert w.grad.tolist() == [0.25, 0.5]


def test_a_gradient_that_was_changed_in_place_since_is_not_taken_for_the_programs_own() -> None:
    w, v = cr.tensor([1.0, 1.0], requires_grad=True), cr.tensor([1.0, 1.0], requires_grad=True)

    def step(p: Tensor, x: Tensor) -> None:
        if p.grad is not None:
            with cr.no_grad():
                p.grad.detach_().zero_()
        (p * x).sum().backward()
        p.grad = p.grad.clone() * 0.5

    compiled = cr.compile(lambda x: step(w, x))
    for i in range(8):
        x = cr.tensor([i + 1.0, 2.0])
        compiled(x), step(v, x)
        assert w.grad.tolist() == v.grad.tolist() == [(i + 1) / 2, 1.0]
        if i in (2, 5):
            w.grad = v.grad = None


def test_an_argument_becomes_the_gradient() -> None:
    w = cr.ones(2, requires_grad=True)

    @cr.compile
    def put(x: Tensor) -> None:
        w.grad = x

    for value in ([1.0, 2.0], [3.0, 4.0]):
        put(cr.tensor(value))
        assert w.grad.tolist() == value


def test_a_loop_says_when_the_results_of_its_second_step_are_others() -> None:
    w = cr.tensor(1.0, requires_grad=True)

    @cr.compile
    def f(x: Tensor) -> Any:
        had = w.grad is not None
        (w * x).backward()
        return (x, x) if had else x

    text = "^loop: the function returns other results at its second step than at its first"
    with pytest.raises(TraceError, match=text):
        f.loop(cr.ones(3))


# -- whether a gradient is wanted ------------------------------------------------------------------------------


def test_freezing_inside_is_seen_outside_and_by_the_next_call() -> None:
    w, b = cr.tensor(2.0, requires_grad=True), cr.tensor(1.0, requires_grad=True)

    @cr.compile
    def f(x: Tensor) -> Tensor:
        w.grad = b.grad = None
        loss = w * x + b
        loss.backward()
        w.requires_grad_(False)
        return loss.detach()

    assert f(cr.tensor(3.0)).item() == 7.0
    assert not w.requires_grad and b.requires_grad
    assert (w.grad.item(), b.grad.item()) == (3.0, 1.0)
    f(cr.tensor(3.0))
    assert w.grad is None and b.grad.item() == 1.0
    w.requires_grad_(True)
    f.loop(cr.tensor([5.0, 6.0]))
    assert not w.requires_grad and w.grad is None and b.grad.item() == 1.0
    assert w.item() == 2.0


def test_a_tensor_from_outside_keeps_its_type() -> None:
    m = cr.nn.Linear(2, 1)
    f = cr.compile(lambda x: m.double()(x.double()))
    with pytest.raises(
        TraceError, match=r"^cr\.compile: a tensor from outside was turned from f32\[1, 2\] into f64\[1, 2\]"
    ):
        f(cr.ones(1, 2))
    assert m.weight.dtype is cr.float32
