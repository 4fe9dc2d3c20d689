"""Loops that stand still between their steps: by turns over one state, and never on a state that has moved."""

import random
import re

import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.frontend.loop import Turns
from chainrule.errors import IndexRangeError, SettingError, TraceError


def summing():
    total = cr.tensor(0.0)

    @cr.compile
    def add(x):
        total.add_(x.sum())
        return total * 1

    return total, add


def raises(kind, text):
    return pytest.raises(kind, match=f"^{re.escape(text)}$")


def test_by_turns_two_loops_move_one_state_on():
    total, add = summing()
    ones, pairs = add.begin(cr.ones(4)), add.begin(cr.ones(2, 2))
    ones.advance(1), pairs.advance(1), ones.advance(2), pairs.advance(1), ones.advance(1)
    assert ones.end().tolist() == [1.0, 4.0, 5.0, 8.0]
    assert pairs.end().tolist() == [3.0, 7.0]
    assert total.item() == 8.0
    assert add(cr.tensor(1.0)).item() == 9.0


def test_whoever_held_the_state_before_keeps_it():
    total, add = summing()
    before, view = total.numpy(), total.detach()
    loop = add.begin(cr.ones(3))
    loop.advance(3)
    loop.end()
    assert (before.item(), view.item(), total.item()) == (0.0, 3.0, 3.0)


def test_gradients_survive_a_loop_as_a_call():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @cr.compile
    def step(x):
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    x = cr.ones(6, 4, 2)
    loop = step.begin(x)
    loop.advance(2)
    loop.advance(4)
    losses = loop.end().tolist()
    assert losses == sorted(losses, reverse=True)
    assert model.weight.grad is not None


STALE = (
    "loop: its function was called, or its state read or changed, after it began. End a loop before you do either, "
    "and begin another."
)


@pytest.mark.parametrize("disturb", ["read", "changed", "called", "begun"])
def test_a_loop_does_not_move_on_over_a_state_that_was_touched(disturb):
    total, add = summing()
    loop = add.begin(cr.ones(4))
    loop.advance(1)
    if disturb == "read":
        assert total.item() == 1.0
    elif disturb == "changed":
        total.zero_()
    elif disturb == "called":
        add(cr.tensor(1.0))
    else:
        add.begin(cr.ones(4))
    with raises(TraceError, STALE):
        loop.advance(1)


def test_too_many_steps_and_too_few():
    _, add = summing()
    loop = add.begin(cr.ones(4))
    loop.advance(3)
    with raises(SettingError, "loop: 1 steps are left, got 2. Begin another loop for more."):
        loop.advance(2)
    with raises(SettingError, "loop: it cannot end with 1 steps left. Advance it by as many first."):
        loop.end()


def test_an_index_error_names_the_step_of_the_whole_loop():
    table = cr.arange(5)
    pick = cr.compile(lambda i: table[i] * 1)
    loop = pick.begin(cr.tensor([0, 1, 2, 3, 7]))
    loop.advance(2)
    with pytest.raises(IndexRangeError, match="step 4 of the loop: an index is out of range for an axis of size 5"):
        loop.advance(3)


def test_no_steps_at_all():
    _, add = summing()
    assert add.loop(cr.ones(0)).shape == (0,)


def test_turns_in_one_native_call_are_turns_one_by_one():
    total, add = summing()
    ones, pairs = add.begin(cr.ones(4)), add.begin(cr.ones(2, 2))
    ones.advance(1)
    turns = Turns([pairs, ones], [0, 1, 0, 1], [1, 2, 1, 1])
    assert turns.native
    turns.advance(1), turns.advance(2), turns.advance(1)
    assert (ones.left, pairs.left, total.item()) == (0, 0, 8.0)
    assert ones.end().tolist() == [1.0, 4.0, 5.0, 8.0]
    assert pairs.end().tolist() == [3.0, 7.0]


def test_of_turns_the_step_that_fails_is_named():
    table, total = cr.tensor([1.0, 2.0]), cr.tensor(0.0)

    @cr.compile
    def add(at):
        total.add_(table[at].sum())
        return total * 1

    singles, pairs = add.begin(cr.tensor([[0], [1], [0], [5]])), add.begin(cr.tensor([[0, 1], [1, 1]]))
    turns = Turns([singles, pairs], [0, 0, 1, 0], [1, 1, 2, 2])
    turns.advance(1)
    with pytest.raises(IndexRangeError, match=r"step 3 of the loop: an index is out of range for an axis of size 2"):
        turns.advance(3)


def test_turns_that_python_has_a_part_in_are_not_begun():
    model, (total, add) = nn.Linear(2, 1), summing()

    @cr.compile
    def step(x):
        model(x).sum().backward()
        return x.sum()

    steps, others = step.begin(cr.ones(3, 4, 2)), add.begin(cr.ones(3))
    assert not Turns([others, steps], [0, 1], [1, 1]).native
    assert (steps.left, others.left, total.item()) == (3, 3, 0.0)
    assert not Turns([], [], []).native


def test_turns_are_checked_before_the_first():
    total, add = summing()
    ones, pairs = add.begin(cr.ones(4)), add.begin(cr.ones(2, 2))
    with raises(SettingError, "loop: 2 steps are left, got 3. Begin another loop for more."):
        Turns([ones, pairs], [0, 1], [2, 3])
    turns = Turns([ones, pairs], [0, 1], [2, 2])
    turns.advance(1)
    total.add_(1.0)
    with pytest.raises(TraceError, match="its function was called, or its state read or changed, after it began"):
        turns.advance(1)
    assert (ones.left, pairs.left) == (2, 2)


@pytest.mark.parametrize("seed", range(20))
def test_programs_that_take_over_each_others_buffers_do_as_eager_code_does(seed):
    """Programs for other shapes, that write other state, called by turns, with reads and changes in between."""
    draw = random.Random(seed)

    def function():
        weight, bias, count = cr.tensor([1.0, 2.0]), cr.tensor([0.5, 0.5]), cr.tensor(0.0)

        def step(x, moved):
            count.add_(1.0)
            out = (x * weight + bias).sum()
            if moved != "bias":
                weight.mul_(0.5).add_(x.sum(0) * 0.1)
            if moved != "weight":
                bias.sub_(out * 0.01)
            return out * 1

        return step, [weight, bias, count]

    (eager, told), (given, state) = function(), function()
    compiled, held = cr.compile(given), []
    for _ in range(40):
        action = draw.choice(["call"] * 6 + ["read", "hold", "write", "exchange"])
        which = draw.randrange(3)
        if action == "call":
            x, moved = cr.full((draw.choice([1, 2, 3]), 2), draw.random()), draw.choice(["weight", "bias", "both"])
            assert compiled(x, moved).item() == pytest.approx(eager(x, moved).item(), rel=1e-4)
        elif action == "read":
            assert state[which].tolist() == pytest.approx(told[which].tolist(), rel=1e-4)
        elif action == "hold":
            kept = state[which].numpy()
            held.append((kept, kept.copy()))
        elif action == "write":
            for tensors in (state, told):
                tensors[which].add_(0.25)
        else:
            value = draw.random()
            for tensors in (state, told):
                tensors[which].data = cr.full(tuple(tensors[which].shape), value)
    for mine, its in zip(state, told, strict=True):
        assert mine.tolist() == pytest.approx(its.tolist(), rel=1e-4)
    assert all((kept == copy).all() for kept, copy in held), "what was read shows no later step"
