"""Statements."""

from __future__ import annotations

import itertools
import sys
import types
from types import SimpleNamespace

from tests.compiler.handed.cases import case


@case
def a_generator_function():
    settings = {"many": [1.0, 2.0]}

    def generate():
        yield from settings["many"]

    yield lambda x: x * sum(generate())
    settings["many"].append(3.0)
    yield


@case
def a_generator_that_goes_on():
    numbers = itertools.count(1)
    yield lambda x: x * next(numbers)
    yield


@case
def an_iterator_over_a_list():
    numbers = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    yield lambda x: x * next(numbers)
    yield


@case
def an_fstring():
    o = SimpleNamespace(name="a")
    yield lambda x: x * len(f"{o.name}{o.name!r}")
    o.name = "abc"
    yield


@case
def a_comprehension():
    o = SimpleNamespace(many=[1.0], by=2.0)
    yield lambda x: x * sum([v * o.by for v in o.many])
    o.by = 3.0
    yield
    o.many.append(5.0)
    yield


@case
def a_walrus():
    o = SimpleNamespace(n=2.0)

    def f(x):
        if (n := o.n) > 2:
            return x * n
        return x - n

    yield f
    o.n = 3.0
    yield


@case
def star_arguments():
    args, kwargs = [2.0], {"more": 1.0}

    def by(x, scale, more):
        return x * scale + more

    yield lambda x: by(x, *args, **kwargs)
    args[0] = 3.0
    yield
    kwargs["more"] = 4.0
    yield


@case
def unpacking():
    pair = [2.0, SimpleNamespace(v=1.0)]

    def f(x):
        a, b = pair
        return x * a + b.v

    yield f
    pair[1].v = 3.0
    yield


class Shape:
    __match_args__ = ("kind",)

    def __init__(self, kind):
        self.kind = kind


@case
def a_match_statement():
    shape, settings = Shape("a"), {"mode": "x"}

    def f(x):
        match shape:
            case Shape("a"):
                x = x * 2
            case Shape(kind="b"):
                x = x * 3
        match settings:
            case {"mode": "x"}:
                return x
            case {"mode": other}:
                return x * len(other)

    yield f
    shape.kind = "b"
    yield
    settings["mode"] = "long"
    yield


@case
def a_nested_function_and_its_nonlocal():
    o = SimpleNamespace(n=2.0)

    def f(x):
        total = 0.0

        def add():
            nonlocal total
            total += o.n

        add()
        add()
        return x * total

    yield f
    o.n = 3.0
    yield


@case
def an_exception_caught():
    o = SimpleNamespace(n=0)

    def f(x):
        try:
            return x * (1 / o.n)
        except ZeroDivisionError:
            return x * 7

    yield f
    o.n = 2
    yield


@case
def a_conditional_import():
    sys.modules["_handed"] = types.SimpleNamespace(scale=2.0)  # type: ignore[assignment]

    def f(x):
        import _handed

        return x * _handed.scale

    yield f
    sys.modules["_handed"].scale = 3.0
    yield
    sys.modules["_handed"] = types.SimpleNamespace(scale=4.0)  # type: ignore[assignment]
    yield
    del sys.modules["_handed"]


@case
def a_name_imported_inside():
    module = types.ModuleType("_given")
    module.scale = 2.0
    sys.modules["_given"] = module

    def f(x):
        from _given import scale

        return x * scale

    yield f
    module.scale = 3.0
    yield
    del sys.modules["_given"]


@case
def an_evaluated_text():
    o = SimpleNamespace(scale=2.0)
    yield lambda x: x * eval("o.scale", {"o": o})
    o.scale = 3.0
    yield


@case
def a_generator():
    numbers = (float(n) for n in range(1, 9))
    yield lambda x: x * next(numbers)
    yield
