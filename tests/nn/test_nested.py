"""What is nested deeper than Python can go: it works, or says so before anything is done."""

from __future__ import annotations

import sys

import pytest

import chainrule as cr
from chainrule import nn
from chainrule.errors import NestingError


def deep(count):
    model = nn.Linear(2, 2)
    for _ in range(count):
        model = nn.Sequential(model)
    return model


def nested(count, around):
    value = cr.ones(2)
    for _ in range(count):
        value = around(value)
    return value


AROUND = [lambda v: [v], lambda v: (v,), lambda v: {"a": v}]
CALLS = [
    lambda model: model(cr.ones(2)), lambda model: cr.compile(model)(cr.ones(2)),
    lambda model: cr.Trainer(model, "mse", "sgd").fit(cr.ones(4, 2), cr.ones(4, 2), epochs=1),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_layers_nested_too_deep(call):
    model = deep(600)
    with pytest.raises(NestingError) as error:
        call(model)
    assert str(error.value) == (
        "Sequential: its layers are nested 601 deep, more than Python can call within each other (sys.getrecursionlimit() is "
        f"{sys.getrecursionlimit():,}, and each level takes two calls or more). Put them side by side, as nn.Sequential(*layers) does."
    )
    assert cr.graph.current_layer() == "" and len(list(model.parameters())) == 2
    assert isinstance(error.value, RecursionError)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python has a limit of its own beside")
def test_the_limit_may_be_raised():
    before, model = sys.getrecursionlimit(), deep(600)
    sys.setrecursionlimit(10_000)
    try:
        assert cr.allclose(cr.compile(model)(cr.ones(2)), model(cr.ones(2)))
    finally:
        sys.setrecursionlimit(before)


def test_a_layer_that_calls_itself_gets_pythons_own_error():
    class Endless(nn.Module):
        def forward(self, x):
            return self(x)

    with pytest.raises(RecursionError, match="maximum recursion depth exceeded") as error:
        Endless()(cr.ones(2))
    assert not isinstance(error.value, NestingError) and cr.graph.current_layer() == ""


def test_a_module_nested_deep_is_printed_as_far_as_python_goes():
    text = repr(deep(600))  # some Pythons come to the end
    assert text.startswith("Sequential(\n  (0): Sequential(\n") and ("Sequential(...)" in text or "Linear(" in text)


@pytest.mark.parametrize("around", AROUND)
def test_arguments_and_results_nested_too_deep(around):
    text = (
        "^cr.compile: lists, tuples or dicts are nested deeper than Python can walk .*, or one of them holds itself. Pass "
        "tensors in one list, or stacked in one tensor.$"
    )
    double = cr.compile(lambda x: cr.ones(2))
    assert double(nested(100, around)).tolist() == [1, 1]
    for count in (400, 5000):
        with pytest.raises(NestingError, match=text):
            double(nested(count, around))
        with pytest.raises(NestingError, match=text):
            cr.compile(lambda x, count=count: nested(count, around))(cr.ones(1))


def test_a_list_that_holds_itself():
    many: list = [cr.ones(1)]
    many.append(many)
    for call in (cr.compile(lambda x: cr.ones(1)), cr.grad(lambda x: cr.ones(()))):
        with pytest.raises(NestingError, match="nested deeper than Python can walk .* holds itself"):
            call(many)
