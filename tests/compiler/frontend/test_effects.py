"""What a compiled function assigns outside becomes state, or is refused at once; no traced tensor survives its trace."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, nn, optim
from chainrule.errors import TraceError

XS = [[1.0, 2.0], [3.0, -1.0], [0.5, 0.25], [2.0, 2.0], [-1.0, 4.0]]


class Running(nn.Module):
    """The usual running mean, as a buffer and as a plain attribute, and what is kept to look at."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", cr.zeros(2))
        self.square = cr.ones(2)
        self.latest: Any = None
        self.rows = 0
        self.linear = nn.Linear(2, 2)
        with cr.no_grad():
            self.linear.weight.copy_(cr.tensor([[1.0, 0.5], [0.0, 2.0]]))
            self.linear.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.75 * self.mean + 0.25 * x.mean(0)
            self.square = self.square * 0.5 + (x * x).mean(0)
            self.hidden = self.linear(x).detach()
        self.latest = x.sum()
        self.rows = x.shape[0]
        return (self.linear(x - self.mean) / self.square).sum()

    def state(self) -> list[Any]:
        tensors = [self.mean, self.square, self.latest, getattr(self, "hidden", None)]
        return [self.rows, *(None if t is None else t.tolist() for t in tensors)]


def batch(x: list[float], rows: int = 2) -> Tensor:
    return cr.tensor([x] * rows)


def _calls(f: Any, xs: list[list[float]]) -> list[float]:
    return [f(batch(x)).item() for x in xs]


def _loop(f: Any, xs: list[list[float]]) -> Any:
    return f.loop(cr.stack([batch(x) for x in xs])).tolist()


@pytest.mark.parametrize("ways", [(_calls, _calls), (_loop, _loop), (_calls, _loop), (_loop, _calls)])
def test_what_a_module_assigns_goes_from_step_to_step(ways: tuple[Callable[..., Any], ...]) -> None:
    eager, ours = Running(), Running()
    compiled = cr.compile(lambda x: ours(x).detach())
    for turn, (way, xs) in enumerate(zip((*ways, *ways), (XS[:3], XS[3:], XS[:2], XS[2:]), strict=True)):
        assert way(compiled, xs) == pytest.approx([eager(batch(x)).item() for x in xs])
        for a, e in zip(ours.state(), eager.state(), strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-6)
        if turn == 1:
            eager.mean, ours.mean = cr.ones(2), cr.ones(2)  # exchanged outside
        ours.train(turn != 2), eager.train(turn != 2)


def test_another_batch_size_finds_the_state() -> None:
    eager, ours = Running(), Running()
    compiled = cr.compile(lambda x: ours(x).detach())
    for x, rows in zip(XS, (2, 3, 2, 5, 3), strict=True):
        assert compiled(batch(x, rows)).item() == pytest.approx(eager(batch(x, rows)).item())
    assert ours.mean.tolist() == pytest.approx(eager.mean.tolist())
    saved = ours.state_dict()
    assert saved["mean"].tolist() == ours.mean.tolist()


def test_what_was_there_before_is_left_alone() -> None:
    model = Running()
    compiled = cr.compile(lambda x: model(x).detach())
    held = []
    for x in XS:
        held.append((model.mean, model.mean.tolist()))
        compiled(batch(x))
    assert all(tensor.tolist() == value for tensor, value in held)
    assert len({id(tensor) for tensor, _ in held}) == len(held)


def test_after_an_exception_everything_is_as_it_was() -> None:
    model = Running()
    gradient = model.linear.weight.grad = cr.ones(2, 2)
    before = model.state()

    def f(x: Tensor) -> Tensor:
        y = model(x)
        y.backward()
        model.linear.weight.requires_grad_(False)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cr.compile(f)(batch(XS[0]))
    assert model.state() == before and not hasattr(model, "hidden")
    assert model.linear.weight.grad is gradient and model.linear.bias.grad is None and model.linear.weight.requires_grad
    assert model(batch(XS[0])).item() == pytest.approx(Running()(batch(XS[0])).item())


def test_a_variable_a_global_and_an_attribute_of_a_plain_object() -> None:
    hidden = cr.zeros(2)
    state = SimpleNamespace(total=cr.zeros(2), seen=None)

    @cr.compile
    def f(x: Tensor) -> Tensor:
        nonlocal hidden
        global _carry
        hidden = (hidden + x) * 0.5
        state.total = state.total + x
        state.seen = x * 10
        _carry = x * 2
        return hidden * 1

    assert [f(cr.tensor(x)).tolist() for x in XS[:3]] == [[0.5, 1.0], [1.75, 0.0], [1.125, 0.125]]
    assert hidden.tolist() == [1.125, 0.125]
    assert state.total.tolist() == [4.5, 1.25] and state.seen.tolist() == [5.0, 2.5]
    assert _carry.tolist() == [1.0, 0.5]
    hidden = cr.zeros(2)
    assert f.loop(cr.tensor(XS[:3])).tolist() == [[0.5, 1.0], [1.75, 0.0], [1.125, 0.125]]
    assert hidden.tolist() == [1.125, 0.125]


_carry: Any = None


def test_a_cache_made_at_the_first_call() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table: Any = None

        def forward(self, x: Tensor) -> Tensor:
            if self.table is None:
                self.table = cr.arange(4).float() * 0.5
            return x + self.table

    model = Positions()
    f = cr.compile(model)
    for _ in range(3):
        assert f(cr.zeros(4)).tolist() == [0.0, 0.5, 1.0, 1.5]
    assert model.table.tolist() == [0.0, 0.5, 1.0, 1.5]


def test_switching_the_mode_inside() -> None:
    model = nn.Sequential(nn.Dropout(0.5))

    @cr.compile
    def f(x: Tensor) -> tuple[Tensor, Tensor]:
        model.eval()
        plain = model(x)
        model.train()
        return plain, model(x)

    for _ in range(3):
        plain, dropped = f(cr.ones(64))
        assert plain.tolist() == [1.0] * 64 and 0.0 in dropped.tolist()
        assert model.training and model[0].training
    model.eval()
    f(cr.ones(64))
    assert model.training


def test_layers_made_inside_are_the_functions_own() -> None:
    def f(x: Tensor) -> Tensor:
        layer = nn.Sequential(nn.ReLU())
        layer.append(nn.Identity())
        layer.note = [1]
        return layer(x)

    assert cr.compile(f)(cr.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]


# -- refused ----------------------------------------------------------------------------------------------------


class Odd(nn.Module):
    def __init__(self, do: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.count = 0
        self.cache: Any = None
        self.layer = nn.Linear(2, 2)
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        self.do(self, x)
        return x


def _count(m: Any, x: Tensor) -> None:
    m.count += 1


REFUSED: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "a counter": (_count, "Odd.count was changed from 0 to 1 inside the function"),
    "a list": (lambda m, x: setattr(m, "cache", [x, x]), "Odd.cache was assigned a list inside the function"),
    "an object": (lambda m, x: setattr(m, "cache", object()), "Odd.cache was assigned a object inside the function"),
    "a layer": (lambda m, x: setattr(m, "layer", nn.ReLU()), "Odd: module 'layer' was registered inside the function"),
    "a parameter": (
        lambda m, x: setattr(m, "p", nn.Parameter(cr.ones(1))), "Odd: parameter 'p' was registered inside the function"
    ),
    "deleting": (lambda m, x: delattr(m, "cache"), "Odd: 'cache' was deleted inside the function"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_repeated_is_refused_at_once(case: str) -> None:
    do, text = REFUSED[case]
    model = Odd(do)
    with pytest.raises(TraceError, match=f"^cr.compile: {re.escape(text)}"):
        cr.compile(model)(cr.ones(2))
    assert (model.count, model.cache, type(model.layer)) == (0, None, nn.Linear) and not hasattr(model, "p")


def test_a_counter_says_what_to_do() -> None:
    with pytest.raises(
        TraceError, match=r"Keep it in a tensor \(self.register_buffer\('count', cr.tensor\(...\)\) and self"
    ):
        cr.compile(Odd(_count))(cr.ones(2))


def test_rates_cannot_change_inside() -> None:
    w = cr.ones(2, requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, 0.5)

    def halve(x: Tensor) -> Tensor:
        optimizer.param_groups[0]["lr"] *= 0.5
        return x

    def step(x: Tensor) -> Tensor:
        schedule.step()
        return x

    with pytest.raises(
        TraceError, match="^cr.compile: the setting 'lr' of an optimizer was assigned inside the function"
    ):
        cr.compile(halve)(w)
    with pytest.raises(
        TraceError, match=r"^StepLR.step\(\): inside a compiled function Python runs only when it is traced"
    ):
        cr.compile(step)(w)
    assert optimizer.param_groups[0]["lr"] == 1.0 and schedule.last_epoch == 0


def test_an_optimizer_is_made_outside() -> None:
    known = optim.Adam([cr.ones(2, requires_grad=True)])

    def made(x: Tensor) -> Tensor:
        weight = cr.zeros(3, requires_grad=True)
        optim.SGD([weight], lr=0.1, momentum=0.9)
        return x

    def given(x: Tensor) -> Tensor:
        known.add_param_group({"params": [cr.ones(1, requires_grad=True)]})
        return x

    for function, name in ((made, "SGD"), (given, "Adam")):
        with pytest.raises(
            TraceError,
            match=f"^{name}: an optimizer was made, or given parameters, inside a compiled function, .*Make it outside",
        ):
            cr.compile(function)(cr.ones(2))
    assert len(known.param_groups) == 1


def test_what_is_made_inside_starts_anew_at_every_call() -> None:
    class Sum(nn.Module):
        total: Any = None

        def forward(self, x: Tensor) -> Tensor:
            self.total = x if self.total is None else self.total + x
            return self.total * 1

    def f() -> Tensor:
        module, generator = Sum(), cr.Generator(3)
        module(cr.ones(1))
        return module(cr.ones(1)) + cr.rand(1, generator=generator) + cr.rand(1, generator=generator)

    compiled = cr.compile(f)
    assert [compiled().item() for _ in range(3)] == pytest.approx([f().item()] * 3)


def test_lists_and_dicts_passed_in_cannot_be_changed() -> None:
    def add(x: list[Tensor]) -> Tensor:
        x.append(x[0] * 2)
        return x[0]

    def put(x: dict[str, Tensor]) -> Tensor:
        x["a"] = x["a"] * 2
        return x["a"]

    text = "^cr.compile: the function changed a list or dict that it was passed"
    with pytest.raises(TraceError, match=text):
        cr.compile(add)([cr.ones(2)])
    with pytest.raises(TraceError, match=text):
        cr.compile(put)({"a": cr.ones(2)})


class Keeps(nn.Module):
    """Keeps what it saw in plain containers, as scripts do that look at attention weights or hidden states."""

    def __init__(self, keep: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.maps: list[Any] = []
        self.stats = [cr.zeros(2)]
        self.deep = {"by layer": [cr.zeros(2)], "count": 0}
        self.keep = keep

    def forward(self, x: Tensor) -> Tensor:
        self.keep(self, x)
        return x * 2


def _appends(m: Any, x: Tensor) -> None:
    m.maps.append(x * 3)


def _replaces(m: Any, x: Tensor) -> None:
    m.stats[0] = 0.9 * m.stats[0] + x


def _goes_deep(m: Any, x: Tensor) -> None:
    m.deep["by layer"][0] = x + 1


@pytest.mark.parametrize(
    ("keep", "where"), [(_appends, "list 'maps'"), (_replaces, "list 'stats'"), (_goes_deep, "list 'deep'")]
)
def test_tensors_of_the_trace_do_not_stay_in_containers_of_modules(keep: Any, where: str) -> None:
    model = Keeps(keep)
    for _ in range(2):
        with pytest.raises(
            TraceError, match=f"^cr.compile: a tensor of the function was put into the {where}, which Python does only"
            " when it is traced. Return the tensor, and put it there outside.$",
        ):  # fmt: skip
            cr.compile(model)(cr.ones(2))
    assert not model.maps
    assert model.stats[0].tolist() == model.deep["by layer"][0].tolist() == [0.0, 0.0]  # type: ignore[index]
    model(cr.ones(2))  # eagerly it may


def test_a_module_may_walk_its_buffers_and_assign_one() -> None:
    class Walks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", cr.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            count = len(self._buffers) + sum(b.numel() for b in self.buffers())
            self.mean = 0.5 * self.mean + x * count
            return x - self.mean

    model, eager = Walks(), Walks()
    step = cr.compile(model)
    for _ in range(2):
        assert step(cr.ones(2)).tolist() == eager(cr.ones(2)).tolist()
    assert model.mean.tolist() == eager.mean.tolist() == [4.5, 4.5]


def test_counters_in_containers_of_modules_are_refused() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = {"n": 0}

        def forward(self, x: Tensor) -> Tensor:
            self.calls["n"] += 1
            return x * self.calls["n"]

    model = Counts()
    with pytest.raises(TraceError, match=r"the number calls\['n'\] was changed from 0 to 1 inside the function"):
        cr.compile(model)(cr.ones(2))
    assert model.calls == {"n": 0}


def test_a_class_gets_a_tensor_or_a_number_that_it_had_not() -> None:
    class Last:
        pass

    def f(x: Tensor) -> Tensor:
        Last.seen, Last.kind = x * 2, "new"  # type: ignore[attr-defined]
        return x

    step = cr.compile(f)
    for x in (1.0, 5.0):
        step(cr.tensor([x]))
        assert Last.seen.tolist() == [2 * x]  # type: ignore[attr-defined]
        assert Last.kind == "new"  # type: ignore[attr-defined]
        Last.kind = "other"  # type: ignore[attr-defined]


def test_tensors_of_the_trace_do_not_stay_in_containers_outside() -> None:
    seen, table = [1.0], {"a": 1.0}

    def f(x: Tensor) -> Tensor:
        seen.append(x * 2)
        table["b"] = x * 3
        return x

    with pytest.raises(
        TraceError, match="^cr.compile: a tensor of the function was put into the (list 'seen'|dict 'table'),"
    ):
        cr.compile(f)(cr.ones(2))
    assert seen == [1.0] and table == {"a": 1.0}


class Agent:
    shared = 0

    def __init__(self) -> None:
        self.steps, self.first, self.rows, self.many, self.table = 0, True, 0, [0], {"n": 0}
        self.array = np.zeros(2)

    def __call__(self, x: Tensor) -> Tensor:
        if self.first:
            self.first = False
            return x * 10
        self.rows = x.shape[0]
        return x


class Kept:
    __slots__ = ("n",)


_count_of_calls = 0


def _counters() -> dict[str, tuple[Callable[[], None], str]]:
    agent, kept, n = Agent(), Kept(), 0.5
    kept.n = 0

    def attribute() -> None:
        agent.steps += 1

    def by_itself() -> None:
        agent.steps = agent.steps * 2 + 1

    def in_a_global() -> None:
        global _count_of_calls
        _count_of_calls += 1

    def variable() -> None:
        nonlocal n
        n += 1

    def in_a_list() -> None:
        agent.many[0] += 1

    def in_a_dict() -> None:
        agent.table["n"] = agent.table["n"] + 1

    def slot() -> None:
        kept.n += 1

    def of_the_class() -> None:
        Agent.shared += 1

    def array() -> None:
        agent.array[1] += 1

    text = "the number {} was changed from {} to {} inside the function"
    return {
        "attribute": (attribute, text.format("'steps'", 0, 1)), "by itself": (by_itself, text.format("'steps'", 0, 1)),
        "global": (in_a_global, text.format("'_count_of_calls'", 0, 1)), "variable": (variable, text.format("'n'", 0.5, 1.5)),
        "list": (in_a_list, text.format("many[0]", 0, 1)), "dict": (in_a_dict, text.format("table['n']", 0, 1)),
        "slot": (slot, text.format("'n'", 0, 1)), "class": (of_the_class, text.format("'shared'", 0, 1)),
        "array": (array, "elements of the array 'array' were changed inside the function"),
    }  # fmt: skip


@pytest.mark.parametrize("case", _counters())
def test_counters_are_refused_and_left_as_they_were(case: str) -> None:
    count, text = _counters()[case]

    @cr.compile
    def f(x: Tensor) -> Tensor:
        count()
        return x

    for _ in range(2):
        with pytest.raises(TraceError, match=f"^cr.compile: {re.escape(text)}, .*Keep (it|them) in a tensor"):
            f(cr.ones(2))


def test_a_counter_in_a_tensor() -> None:
    agent = SimpleNamespace(steps=cr.tensor(0))

    @cr.compile
    def f(x: Tensor) -> Tensor:
        agent.steps += 1
        return x * agent.steps

    assert [f(cr.ones(1)).item() for _ in range(3)] == [1.0, 2.0, 3.0] and agent.steps.item() == 3


def test_a_flag_of_a_plain_object_and_a_number_that_is_only_noted_are_as_in_eager_code() -> None:
    eager, ours, looped = Agent(), Agent(), Agent()
    f = cr.compile(lambda x: ours(x))
    for turn in range(5):
        if turn == 3:
            ours.first = eager.first = True
        rows = 2 + turn % 2
        assert f(cr.ones(rows)).tolist() == eager(cr.ones(rows)).tolist()
        assert (ours.first, ours.rows) == (eager.first, eager.rows)
    g = cr.compile(lambda x: looped(x))
    assert g.loop(cr.ones(3, 1)).tolist() == [[10.0], [1.0], [1.0]] and looped.first is False


@pytest.mark.parametrize("by_loop", [False, True])
def test_a_sum_of_a_plain_object_begins_anew_where_it_is_cleared_outside(by_loop: bool) -> None:
    state = SimpleNamespace(total=None)

    @cr.compile
    def f(x: Tensor) -> Tensor:
        state.total = x * 1 if state.total is None else state.total + x
        return state.total

    for _ in range(3):
        state.total = None
        xs = cr.ones(4, 1)
        sums = f.loop(xs) if by_loop else cr.stack([f(x) for x in xs])
        assert sums.tolist() == [[1.0], [2.0], [3.0], [4.0]] and state.total.tolist() == [4.0]
    state.total = cr.ones(2)
    assert f(cr.ones(1)).tolist() == [2.0, 2.0]


def test_a_warning_that_is_an_error_comes_when_everything_is_put_back() -> None:
    model = nn.Linear(2, 1)
    model.register_buffer("count", cr.zeros(()))

    @cr.compile
    def step(x: Tensor) -> Tensor:
        model.count = model.count + 1
        loss = model(x).sum() * random.random()
        loss.backward()
        return loss

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="drew random numbers from `random`"):
            step(cr.ones(2))
    assert float(model.count) == 0
    assert model.weight.grad is None
