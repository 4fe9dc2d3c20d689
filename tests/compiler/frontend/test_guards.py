"""What a trace read from Python is looked at again before its program is used."""

from __future__ import annotations

import argparse
import math
import os
import random
import secrets
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Callable
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import Tensor, nn
from chainrule.compiler.frontend import guards
from chainrule.compiler.frontend.named import names_of

X = [1.0, 2.0]
FACTOR = 2.0
CONFIG = SimpleNamespace(alpha=2.0)
LIST = [2.0, 3.0]


def _global() -> float:
    return FACTOR


class Scaled(nn.Module):
    shared = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.factor = 2.0
        self.many = (1.0, (2.0, 3.0))
        self.mode: Any = None
        self.parts: list[Any] = [nn.Identity(), nn.Identity()]
        self.weight = nn.Parameter(cr.ones(2))
        self.register_buffer("offset", cr.zeros(2))
        self.layer: nn.Module = nn.Identity()
        self.config = SimpleNamespace(alpha=0.0)

    @property
    def doubled(self) -> float:
        return self.factor * 2

    def helper(self) -> float:
        return float(self.config.alpha) + _global()

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(x * self.weight) * self.doubled + self.offset
        for part in self.parts:
            x = part(x)
        if self.mode == "more":
            x = x + 100
        if hasattr(self, "extra"):
            x = x + self.extra
        if not self.training:
            x = -x
        return x * self.many[1][0] * self.shared + self.helper()


def _set(name: str, value: Any) -> Callable[[Scaled], None]:
    return lambda m: setattr(m, name, value)


class Half(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 0.5


CHANGES: dict[str, Callable[[Scaled], Any]] = {
    "number": _set("factor", 5.0), "sign of zero": _set("factor", -0.0), "tuple": _set("many", (1.0, (4.0, 3.0))),
    "text": _set("mode", "more"), "member": _set("layer", Half()), "parameter": _set("weight", nn.Parameter(cr.ones(2) * 3)),
    "buffer": _set("offset", cr.ones(2)), "mode": lambda m: m.eval(), "element of a list": lambda m: m.parts.__setitem__(1, Half()),
    "longer list": lambda m: m.parts.append(Half()), "new attribute": _set("extra", 7.0), "table": lambda m: m._modules.update(layer=Half()),
    "plain object": lambda m: setattr(m.config, "alpha", 9.0), "frozen": lambda m: m.weight.requires_grad_(False),
    "none": _set("layer", nn.Identity()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_compiled_module_sees_what_changed(change: str) -> None:
    model = Scaled()
    compiled = cr.compile(model)
    x = cr.tensor(X)
    assert compiled(x).tolist() == model(x).tolist()
    before = model(x).tolist()
    CHANGES[change](model)
    assert compiled(x).tolist() == model(x).tolist()
    assert compiled(x).requires_grad == model(x).requires_grad
    assert (compiled(x).tolist() == before) == (change in ("frozen", "none"))


def test_an_attribute_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Scaled()
    compiled = cr.compile(model)
    compiled(cr.tensor(X))
    monkeypatch.setattr(Scaled, "shared", 3.0)
    assert compiled(cr.tensor(X)).tolist() == model(cr.tensor(X)).tolist() == [26.0, 50.0]


def test_globals_also_of_functions_that_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    f = cr.compile(lambda x: x * _global() + CONFIG.alpha + LIST[0])
    assert f(cr.tensor(X)).tolist() == [6.0, 8.0]
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert f(cr.tensor(X)).tolist() == [7.0, 10.0]
    monkeypatch.setattr(CONFIG, "alpha", 0.0)
    assert f(cr.tensor(X)).tolist() == [5.0, 8.0]
    LIST[0] = 10.0
    assert f(cr.tensor(X)).tolist() == [13.0, 16.0]
    LIST[0] = 2.0
    monkeypatch.undo()
    assert f(cr.tensor(X)).tolist() == [6.0, 8.0]


def test_variables_of_enclosing_functions() -> None:
    scale, state = 2.0, cr.tensor([1.0, 1.0])

    def inner(x: Tensor) -> Tensor:
        return x * scale + state

    f = cr.compile(lambda x: inner(x))
    assert f(cr.tensor(X)).tolist() == [3.0, 5.0]
    scale = 10.0
    assert f(cr.tensor(X)).tolist() == [11.0, 21.0]
    state = cr.tensor([0.0, 5.0])
    assert f(cr.tensor(X)).tolist() == [10.0, 25.0]


def test_the_object_of_a_bound_method() -> None:
    class Experiment:
        def __init__(self) -> None:
            self.rate, self.calls, self.settings = 2.0, 0, {"shift": 1.0}

        def inner(self, x: Tensor) -> Tensor:
            return x * self.rate

        def run(self, x: Tensor) -> Tensor:
            return self.inner(x) + self.settings["shift"]

    e = Experiment()
    f = cr.compile(e.run)
    assert f(cr.tensor(X)).tolist() == [3.0, 5.0]
    e.rate = 4.0
    assert f(cr.tensor(X)).tolist() == [5.0, 9.0]
    e.settings["shift"] = 0.0
    assert f(cr.tensor(X)).tolist() == [4.0, 8.0]


def test_defaults() -> None:
    def f(x: Tensor, options: Any = {"by": 2.0}) -> Tensor:  # noqa: B006 - on purpose
        return x * options["by"]

    compiled = cr.compile(f)
    assert compiled(cr.tensor(X)).tolist() == [2.0, 4.0]
    f.__defaults__[0]["by"] = 3.0  # type: ignore[index]
    assert compiled(cr.tensor(X)).tolist() == [3.0, 6.0]


def test_nothing_is_traced_anew_for_what_the_function_does_not_read() -> None:
    model, traces = Scaled(), []
    counter = SimpleNamespace(step=0)

    def f(x: Tensor) -> Tensor:
        traces.append(1)
        return model(x)

    compiled = cr.compile(f)
    for i in range(4):
        compiled(cr.tensor(X))
        counter.step += 1
        model.unread = i
        model.factor = float("2.0")  # an equal number in another object
        model.train()
    assert len(traces) == 1


def test_what_was_read_before_is_known_when_it_comes_back() -> None:
    model, traces = Scaled(), []
    f = cr.compile(lambda x: (traces.append(1), model(x))[1])
    for factor in (2.0, 3.0, 2.0, 3.0, 2.0):
        model.factor = factor
        assert f(cr.tensor(X)).tolist() == model(cr.tensor(X)).tolist()
    assert len(traces) == 2


def test_a_loop_begins_with_what_is_there() -> None:
    model = Scaled()
    f = cr.compile(lambda x: model(x).detach())
    xs = cr.tensor([X, X])
    assert f.loop(xs).tolist() == [model(cr.tensor(X)).tolist()] * 2
    model.factor = 0.0
    assert f.loop(xs).tolist() == [model(cr.tensor(X)).tolist()] * 2


def test_a_buffer_that_training_exchanges_does_not_trace_evaluation_anew() -> None:
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", cr.zeros(2))

        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                self.mean = 0.5 * self.mean + 0.5 * x
            return x - self.mean

    model, traces = Running(), []
    step = cr.compile(lambda x: (traces.append("step"), model(x))[1])
    see = cr.compile(lambda x: (traces.append("see"), model(x))[1])
    for i in range(5):
        model.train()
        step(cr.tensor(X))
        model.eval()
        expected = [v / 2 ** (i + 1) for v in X]
        assert see(cr.tensor(X)).tolist() == expected
    assert traces == ["step", "see"]


def test_drawing_random_numbers_in_python_is_warned_about() -> None:
    for draw, name in (
        (lambda: float(np.random.rand()), "`np.random`"), (lambda: random.random(), "`random`"),
    ):  # fmt: skip
        with pytest.warns(UserWarning, match=f"^cr.compile: the function drew random numbers from {name} while it was"):
            cr.compile(lambda x, draw=draw: x * draw())(cr.tensor(X))
    generator = np.random.default_rng(0)
    with pytest.warns(UserWarning, match="^cr.compile: the function drew random numbers from 'generator' while"):
        cr.compile(lambda x: x * generator.random())(cr.tensor(X))


SYSTEM = random.SystemRandom()
DRAWN = {
    "os.urandom": (lambda: os.urandom(1)[0], "urandom"), "secrets": (lambda: secrets.randbelow(100), "urandom"),
    "secrets.choice": (lambda: secrets.choice([1, 2, 3]), "urandom"), "a token": (lambda: int(token_hex(1), 16), "urandom"),
    "uuid4": (lambda: uuid.uuid4().int % 100, "urandom"), "SystemRandom": (lambda: random.SystemRandom().random(), "urandom"),
    "one from outside": (lambda: SYSTEM.random(), "urandom"), "Random without a seed": (lambda: random.Random().random(), "seed"),
    "NumPy's without a seed": (lambda: np.random.default_rng().random(), "urandom"),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_drawing_the_systems_random_numbers_is_warned_about(name: str) -> None:
    draw, source = DRAWN[name]
    with pytest.warns(UserWarning, match=source) as told:
        cr.compile(lambda x: x * draw())(cr.tensor(X))
    assert [str(one.message) for one in told] == [
        f"cr.compile: the function drew random numbers from the system ({source!r}) while it was traced. Every later call uses the "
        f"same ones. Draw with cr.rand, cr.randn and the like, or pass the numbers as an argument."
    ]


def test_what_is_numbered_by_the_clock_is_warned_about() -> None:
    with pytest.warns(UserWarning, match="^cr.compile: the function read a file or a clock"):
        cr.compile(lambda x: x * (uuid.uuid1().int % 100))(cr.tensor(X))


@pytest.mark.parametrize("draw", [lambda: random.Random(3).random(), lambda: np.random.default_rng(3).random()])
def test_a_generator_with_a_seed_of_its_own_gives_the_same_always(draw: Callable[[], float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cr.compile(lambda x: x * draw())(cr.tensor(X))


def test_reading_is_ordinary_when_nothing_is_traced() -> None:
    assert "__getattribute__" not in vars(nn.Module)
    cr.compile(Scaled())(cr.tensor(X))
    with pytest.raises(ZeroDivisionError):
        cr.compile(lambda x: 1 / 0)(cr.tensor(X))
    assert "__getattribute__" not in vars(nn.Module)


def test_another_thread_reads_a_module_while_one_traces() -> None:
    model, going, done = Scaled(), threading.Event(), threading.Event()

    def f(x: Tensor) -> Tensor:
        going.set()
        assert done.wait(10)
        return model(x)

    worker = threading.Thread(target=lambda: cr.compile(f)(cr.tensor(X)))
    worker.start()
    assert going.wait(10)
    other = Scaled()
    other.factor = 4.0
    assert other.doubled == 8.0 and other(cr.tensor(X)).tolist() == [18.0, 34.0]
    done.set()
    worker.join()


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        (1.0, 1.0, True), (0.0, -0.0, False), (1, 1.0, False), (1, True, False), (math.nan, math.nan, True), ("a", "a", True),
        ((1, (2.0,)), (1, (2.0,)), True), ((1, (0.0,)), (1, (-0.0,)), False), (None, None, True), ([1], [1], False), ((1,), (1, 2), False),
    ],
)  # fmt: skip
def test_what_counts_as_the_same(a: Any, b: Any, alike: bool) -> None:
    assert guards.same(a, b) is alike


def test_names_are_found_in_code_and_in_what_is_defined_there() -> None:
    def f(x: Any) -> Any:
        def g() -> Any:
            return CONFIG.alpha.real, x.one.two

        return [FACTOR for _ in g()]

    names = names_of(f.__code__)
    assert {"CONFIG", "FACTOR"} <= names.globals and "x" not in names.globals
    assert names.following["CONFIG"] == {"alpha"} and names.following["alpha"] == {"real"}
    assert names.following["x"] == {"one"} and names.following["one"] == {"two"}


def test_attributes_of_a_called_object_and_of_its_class_are_guarded():
    class Scaled:
        factor = 1.0

        def __init__(self):
            self.shift = 0.0

        def __call__(self, x):
            return x * self.factor + self.shift

    scaled = Scaled()
    f = cr.compile(lambda x: scaled(x))
    assert f(cr.ones(1)).item() == 1
    scaled.factor = 5.0
    assert f(cr.ones(1)).item() == 5
    scaled.shift = 2.0
    assert f(cr.ones(1)).item() == 7
    del scaled.factor
    assert f(cr.ones(1)).item() == 3
    Scaled.factor = 2.0
    assert f(cr.ones(1)).item() == 4


class Schedule:
    """What a user may write beside a model."""

    def __init__(self) -> None:
        self.base, self.inner = 2.0, SimpleNamespace(base=2.0)

    @property
    def now(self) -> float:
        return self.base

    def value(self) -> float:
        return self._helper()

    def _helper(this) -> float:
        return this.base

    def __getitem__(own, index: int) -> float:
        return own.base

    @staticmethod
    def of(other: Any) -> float:
        return float(other.base)


class Warm(Schedule):
    def value(self) -> float:
        return super().value() * 1


class Slotted:
    __slots__ = ("base",)

    def __init__(self) -> None:
        self.base = 2.0

    def value(self) -> float:
        return self.base


def _base(c: Any = None) -> float:
    return float(c.base)


def _by_alias(o: Any) -> Callable[[], float]:
    def f() -> float:
        c = o
        return c.base + sum(c.inner.base for _ in range(1))

    return f


def _tagged() -> None: ...


_tagged.base = 2.0  # type: ignore[attr-defined]

OBJECTS: dict[str, tuple[Any, Callable[[Any], Callable[[], float]]]] = {
    "argparse": (argparse.Namespace(base=2.0), lambda o: lambda: o.base),
    "method": (Schedule(), lambda o: lambda: o.value()), "property": (Schedule(), lambda o: lambda: o.now),
    "item": (Schedule(), lambda o: lambda: o[0]), "static method": (Schedule(), lambda o: lambda: Schedule.of(o)),
    "method of the base class": (Warm(), lambda o: lambda: o.value()),
    "getattr": (Schedule(), lambda o: lambda: getattr(o, "base")),  # noqa: B009 - on purpose
    "slots": (Slotted(), lambda o: lambda: o.base), "method with slots": (Slotted(), lambda o: lambda: o.value()),
    "alias": (Schedule(), _by_alias), "parameter": (Schedule(), lambda o: lambda: _base(o)),
    "keyword": (Schedule(), lambda o: lambda: _base(c=o)), "function": (_tagged, lambda o: lambda: o.base),
    "in a list": (Schedule(), lambda o: (lambda many: lambda: many[0].base)([o])),
    "in a tuple": (Schedule(), lambda o: (lambda many: lambda: sum(each.base for each in many))((o,))),
    "in a dict": (Schedule(), lambda o: (lambda many: lambda: many["a"].base)({"a": o})),
}  # fmt: skip


@pytest.mark.parametrize("case", OBJECTS)
def test_attributes_of_plain_objects_however_they_are_reached(case: str) -> None:
    thing, reader = OBJECTS[case]
    read, traces = reader(thing), []
    f = cr.compile(lambda x: (traces.append(1), x * read())[1])
    for base, count in ((2.0, 1), (3.0, 2), (3.0, 2), (2.0, 2)):
        thing.base = base
        assert f(cr.tensor(X)).tolist() == [X[0] * read(), X[1] * read()]
        assert len(traces) == count


def test_an_attribute_of_an_attribute_by_an_alias() -> None:
    thing = Schedule()
    read = _by_alias(thing)
    f = cr.compile(lambda x: x * read())
    assert f(cr.tensor(X)).tolist() == [4.0, 8.0]
    thing.inner.base = 3.0
    assert f(cr.tensor(X)).tolist() == [5.0, 10.0]


def test_deques_and_small_arrays_changed_in_place() -> None:
    queue, weights, held = deque([2.0]), np.array([2.0], np.float32), [np.array(2.0)]
    model = Scaled()
    model.config.table = np.array([1.0, 0.0])
    model.helper = lambda: float(model.config.table[1])  # type: ignore[method-assign]
    f = cr.compile(lambda x: x * queue[0] * cr.tensor(weights) + float(held[0]))
    assert f(cr.tensor(X)).tolist() == [6.0, 10.0]
    queue.appendleft(3.0)
    assert f(cr.tensor(X)).tolist() == [8.0, 14.0]
    weights[0] = 1.0
    assert f(cr.tensor(X)).tolist() == [5.0, 8.0]
    held[0][...] = 0.0
    assert f(cr.tensor(X)).tolist() == [3.0, 6.0]


def test_what_a_loss_of_a_trainer_reads_of_itself() -> None:
    class Loss:
        def __init__(self) -> None:
            self.weights = [SimpleNamespace(base=1.0)]

        def __call__(this, output: Tensor, target: Tensor) -> Tensor:
            return this.scale() * ((output - target) ** 2).mean()

        def scale(this) -> float:
            return this.weights[0].base

    loss, model = Loss(), nn.Linear(1, 1, bias=False)
    trainer = cr.Trainer(model, loss=loss, optimizer=cr.optim.SGD(model.parameters(), lr=0.0))
    x = np.ones((4, 1), np.float32)
    first = trainer.fit(x, x, epochs=1)["loss"][-1]
    loss.weights[0].base = 3.0
    assert trainer.fit(x, x, epochs=1)["loss"][-1] == pytest.approx(3 * first, rel=1e-5)


def test_a_number_is_not_taken_for_a_method_of_the_same_name() -> None:
    optimizer = cr.optim.SGD([cr.ones(1, requires_grad=True)])
    log, traces = SimpleNamespace(step=0, scale=2.0), []

    def f(x: Tensor) -> Tensor:
        traces.append(1)
        mine = optimizer
        mine.step()
        return x * log.scale

    compiled = cr.compile(f)
    for _ in range(3):
        assert compiled(cr.tensor(X)).tolist() == [2.0, 4.0]
        log.step += 1
    assert len(traces) == 1
