"""Programs of equal graphs run one code; what is a program's own stays its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import Tensor, nn, optim
from chainrule.compiler.program import Program
from chainrule.compiler.runtime import native
from chainrule.compiler.runtime.recent import Recent
from chainrule.compiler.runtime.units import Pool
from chainrule.compiler.schedule.likeness import _exactly

X = cr.tensor([[1.0, -2.0, 3.5], [4.0, 5.0, -6.0]])


@pytest.fixture(autouse=True)
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    """Of a process that made no program yet."""
    fresh = Pool()
    monkeypatch.setattr(native, "_pool", fresh)
    return fresh


def program_of(function: Callable[..., Any], *args: Tensor) -> Program:
    compiled = cr.compile(function)
    compiled(*args)
    assert compiled._latest is not None
    return compiled._latest.program


def training(seed: int, batch: int = 8) -> tuple[list[float], Program]:
    """The losses of some steps, and the program that made them."""
    generator = np.random.default_rng(seed)
    model = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 2))
    for parameter in model.parameters():
        parameter.data = cr.tensor(generator.normal(size=parameter.shape).astype("f"))
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    @cr.compile
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = cr.tensor(generator.normal(size=(batch, 3)).astype("f")), cr.arange(batch) % 2
    losses = [step(x, y).item() for _ in range(5)]
    assert step._latest is not None
    return losses, step._latest.program


def test_the_next_training_of_a_network_is_not_scheduled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = training(0)
    with monkeypatch.context() as patch:
        patch.setattr("chainrule.compiler.program.schedule", None)  # whoever asks for one fails
        again, other = training(0), training(1)
    assert again[1].code is other[1].code is first[1].code
    assert again[0] == first[0] != other[0]
    monkeypatch.setattr(native, "_pool", Pool())
    alone = training(1)
    assert alone[0] == other[0]
    assert alone[1].code is not other[1].code


def test_what_is_shown_is_the_programs_own() -> None:
    first, second = training(0)[1], training(1)[1]
    for stage in ("graph", "kernels", "loops", "memory", "llvm"):
        assert second.show(stage) == first.show(stage)
    assert set(second.plan.places).isdisjoint(first.plan.places)


def test_trainings_in_threads_that_share_code_have_the_bits_of_one_alone() -> None:
    alone = [training(seed)[0] for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda seed: training(seed)[0], range(4))) == alone


def test_another_shape_dtype_or_target_is_another_program(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [training(0)[1], training(0, batch=9)[1]]
    found += [program_of(lambda x: x * 2, x) for x in (X, X.double(), X[:1])]
    target = native.machine().target
    monkeypatch.setattr(native.machine(), "target", type(target)(16, 16))
    found.append(program_of(lambda x: x * 2, X))
    assert len({program.code for program in found}) == len(found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda x: x + 1.0, lambda x: x + 2.0),
        (lambda x: x.where(x > 2, 0.0), lambda x: x.where(x > 2, -0.0)),
        (lambda x: x.where(x > 2, float("nan")), lambda x: x.where(x > 2, 1.0)),
        (lambda x: x - x.sum(0), lambda x: x.sum(0) - x),
        (lambda x: (x.sum(0), x.sum(1)), lambda x: (x.sum(1), x.sum(0))),
        (lambda x: x.sum(0, keepdim=True) * x, lambda x: x.sum(1, keepdim=True) * x),
        (lambda x: x[:, :2] * 2, lambda x: x[:, 1:] * 2),
        (lambda x: x.round(), lambda x: x.floor()),
        (lambda x: x.to(cr.float64), lambda x: x.to(cr.int32)),
    ],
)  # fmt: skip
def test_what_computes_something_else_has_other_code(one: Callable[..., Any], other: Callable[..., Any]) -> None:
    programs = [program_of(one, X), program_of(other, X)]
    assert programs[0].code is not programs[1].code
    for function in (one, other):
        wanted, found = function(X), cr.compile(function)(X)
        for a, b in zip(*(y if isinstance(y, tuple) else (y,) for y in (wanted, found)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
            np.testing.assert_array_equal(np.signbit(a.numpy()), np.signbit(b.numpy()))


def test_arrays_made_while_tracing_are_each_programs_own() -> None:
    values = [np.arange(3, dtype=np.float32), np.full(3, 7, np.float32)]
    functions = [lambda x, a=a: x + cr.tensor(a) for a in values]
    programs = [program_of(function, X) for function in functions]
    assert programs[0].code is programs[1].code
    for function, a in zip(functions, values, strict=True):
        np.testing.assert_array_equal(cr.compile(function)(X).numpy(), X.numpy() + a)


class Lookup(nn.Module):
    """A table under a name of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        setattr(self, name, nn.Embedding(3, 2))

    def forward(self, i: Tensor) -> Tensor:
        found: Tensor = getattr(self, self.name)(i)
        return found


def test_a_check_that_fails_says_where_in_its_own_program() -> None:
    steps = {name: cr.compile(Lookup(name)) for name in ("first", "second")}
    for step in steps.values():
        step(cr.tensor([0, 1]))
    assert len({step._latest.program.code for step in steps.values()}) == 1  # type: ignore[union-attr]
    for name, step in steps.items():
        with pytest.raises(IndexError, match=rf"^index in layer 'Lookup.{name}' \(.*\): an index is out of range"):
            step(cr.tensor([0, 5]))


def test_what_is_watched_is_read_where_its_own_plan_says() -> None:
    watched = [cr.compile(lambda x: (x * 2).exp().sum()).watch(X).program for _ in range(2)]
    assert watched[0].code is not watched[1].code


def test_the_latest_are_kept() -> None:
    made: list[int] = []

    def find(recent: Recent[str], key: int) -> str:
        def make() -> str:
            made.append(key)
            return str(key)

        return recent.find(key, make)

    recent: Recent[str] = Recent(2)
    assert [find(recent, key) for key in (1, 2, 1, 3, 1, 2)] == ["1", "2", "1", "3", "1", "2"]
    assert made == [1, 2, 3, 2]
    with pytest.raises(ZeroDivisionError):
        recent.find(4, lambda: str(1 // 0))
    assert find(recent, 1) == "1"
    assert made == [1, 2, 3, 2]


def test_a_program_with_a_loop_is_made_by_itself() -> None:
    def total(x: Tensor) -> Tensor:
        found: Tensor = cr.scan(lambda h, row: (h + row, None), cr.zeros(3), x)[0]
        return found

    programs = [program_of(total, X), program_of(total, X)]
    assert programs[0].code is not programs[1].code
    np.testing.assert_array_equal(cr.compile(total)(X).numpy(), X.numpy().sum(0))


def test_numbers_in_parameters_are_told_apart_to_the_sign_and_the_type() -> None:
    values = [0.0, -0.0, 0, False, 1, True, 1.0, (0.0,), (-0.0,), (0,), ((1, 2.0),), ((1, 2),), float("nan")]
    assert len({_exactly(value) for value in values}) == len(values)
    assert _exactly((float("nan"), "a")) == _exactly((float("nan"), "a"))
