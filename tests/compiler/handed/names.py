"""Names: globals, variables, builtins, defaults, code."""

from __future__ import annotations

import builtins
from typing import Any

from chainrule import nn
from tests.compiler.handed.cases import case

SCALE: Any = 2.0
TABLE: dict[str, Any] = {"a": 2.0, "b": [1.0, {"c": 3.0}]}


@case
def a_global():
    global SCALE
    yield lambda x: x * SCALE
    SCALE = 3.0
    yield
    SCALE = 2.0
    yield


@case
def a_global_by_globals():
    global SCALE
    yield lambda x: x * globals()["SCALE"]
    SCALE = 3.0
    yield
    SCALE = 2.0
    yield


@case
def a_global_of_a_function_that_is_called_by_one_that_is_called():
    global SCALE

    def inner():
        return SCALE

    def outer():
        return inner()

    yield lambda x: x * outer()
    SCALE = 3.0
    yield
    SCALE = 2.0
    yield


@case
def an_item_of_a_global():
    yield lambda x: x * TABLE["b"][1]["c"]
    TABLE["b"][1]["c"] = 4.0
    yield
    TABLE["b"][1]["c"] = 3.0
    yield


@case
def a_variable():
    scale = 2.0
    yield lambda x: x * scale
    scale = 3.0
    yield


@case
def a_variable_deleted_and_bound_again():
    scale = 2.0

    def f(x):
        try:
            return x * scale
        except NameError:
            return x * 7

    yield f
    del scale
    yield
    scale = 5.0
    yield


@case
def a_function_in_a_variable():
    def by(x):
        return x * 2

    yield lambda x: by(x)

    def by(x):  # noqa: F811 - on purpose
        return x * 3

    yield


@case
def the_code_of_a_function():
    def by(x):
        return x * 2

    yield lambda x: by(x)
    by.__code__ = (lambda x: x * 3).__code__
    yield


@case
def the_code_of_the_function_itself():
    def f(x):
        return x * 2

    yield f
    f.__code__ = (lambda x: x * 3).__code__
    yield


@case
def a_builtin_rebound():
    original = builtins.round
    yield lambda x: x * round(2.4)
    try:
        builtins.round = lambda _: 5
        yield
    finally:
        builtins.round = original
    yield


@case
def a_builtin_shadowed_by_a_global():
    yield lambda x: x * round(2.4)
    globals()["round"] = lambda _: 5
    try:
        yield
    finally:
        del globals()["round"]
    yield


@case
def default_arguments():
    def f(x, by=2.0):
        return x * by

    yield f
    f.__defaults__ = (3.0,)
    yield
    f.__defaults__ = (4.0,)
    yield


@case
def default_keyword_arguments():
    def f(x, *, by=2.0):
        return x * by

    yield f
    f.__kwdefaults__ = {"by": 3.0}
    yield
    f.__kwdefaults__["by"] = 4.0
    yield


@case
def default_arguments_of_a_function_that_is_called():
    def inner(x, by=2.0, *, more=1.0):
        return x * by + more

    yield lambda x: inner(x)
    inner.__defaults__ = (3.0,)
    yield
    inner.__kwdefaults__ = {"more": 4.0}
    yield


@case
def default_arguments_of_a_method():
    class Net(nn.Module):
        def forward(self, x, by=2.0):
            return x * by

    yield Net()
    Net.forward.__defaults__ = (3.0,)
    yield


@case
def a_default_argument_that_is_a_list():
    def f(x, many=[2.0]):  # noqa: B006 - on purpose
        return x * many[0]

    yield f
    f.__defaults__[0][0] = 3.0
    yield


@case
def an_attribute_of_the_function():
    def f(x):
        return x * f.scale

    f.scale = 2.0
    yield f
    f.scale = 3.0
    yield
