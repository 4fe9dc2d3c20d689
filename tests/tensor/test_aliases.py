"""Handles that were made to look at the same elements, in every way there is, beside PyTorch: eager and compiled."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.optional import torch

import chainrule as cr
from chainrule import nn
from chainrule.errors import InPlaceError


def _given(to: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """An alias by ``u.data = ...``."""

    def alias(lib: Any, w: Any) -> Any:
        u = lib.zeros(2)
        u.data = to(w)
        return u

    return alias


def _parameter(lib: Any, w: Any) -> Any:
    u = lib.nn.Parameter(lib.zeros(2))
    u.data = w.data
    return u


WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "data = w": _given(lambda w: w),
    "data = w.data": _given(lambda w: w.data),
    "data = w.detach()": _given(lambda w: w.detach()),
    "data = w[:]": _given(lambda w: w.detach()[:]),
    "data = w.view(2)": _given(lambda w: w.detach().view(2)),
    "data": lambda lib, w: w.data,
    "detached twice": lambda lib, w: w.detach().detach(),
    "data[:]": lambda lib, w: w.data[:],
    "a view": lambda lib, w: w.detach().view(1, 2)[0],
    "a leaf": lambda lib, w: w.detach().requires_grad_(),
    "a parameter": lambda lib, w: lib.nn.Parameter(w.data),
    "a parameter's data": _parameter,
}
WRITES: list[Callable[[Any], Any]] = [
    lambda x: x.add_(1),
    lambda x: x.mul_(3),
    lambda x: x.__setitem__(0, 2.0),
    lambda x: x[1:].sub_(1),
    lambda x: x.data.add_(1),
    lambda x: x.copy_(x * 2 - 1),
]


def play(lib: Any, compiled: Callable[[Any], Any], seed: int, ways: tuple[str, ...]) -> list[Any]:
    """What every alias shows along a random program; eager where `compiled` leaves a function as it is."""
    r = random.Random(f"{seed} {ways}")
    root = lib.ones(2) if seed % 2 else lib.nn.Parameter(lib.ones(2))
    aliases, seen = [root], []
    writes = [(r.choice(WRITES), r.randrange(len(ways) + 1)) for _ in range(3)]

    @compiled
    def step() -> None:
        with lib.no_grad():
            for write, at in writes:
                write(aliases[at % len(aliases)])

    if seed % 3 == 0:  # it was traced when they were apart
        step()
    for way in ways:
        aliases.append(WAYS[way](lib, r.choice(aliases)))
    for _ in range(8):
        chance = r.random()
        with lib.no_grad():
            if chance < 0.3:
                step()
            else:
                r.choice(WRITES)(r.choice(aliases))
        if chance > 0.5:  # else nobody looks in between
            seen.append([x.tolist() for x in r.sample(aliases, r.randrange(1, len(aliases) + 1))])
        if chance > 0.95:
            aliases[-1].data = lib.zeros(2)
    return [*seen, [x.tolist() for x in aliases]]


@pytest.mark.parametrize("first", WAYS)
def test_aliases_show_the_same_whatever_is_written_to_which(first: str) -> None:
    for ways in [(first,), *((first, second) for second in WAYS)]:
        for seed in range(6):
            assert play(cr, lambda f: f, seed, ways) == play(torch, lambda f: f, seed, ways), (seed, ways)


@pytest.mark.parametrize("first", WAYS)
def test_aliases_show_the_same_whatever_a_compiled_function_writes(first: str) -> None:
    for number, ways in enumerate(
        [(first,), (first, "data = w.data"), (first, "data = w"), (first, "a parameter's data")]
    ):
        for seed in (number, number + 4, number + 9):
            assert play(cr, cr.compile, seed, ways) == play(torch, lambda f: f, seed, ways), (seed, ways)


# -- what a compiled function was traced with looks elsewhere since -----------------------------------

Parts = tuple[Callable[[], Any], Callable[[], Any], Callable[[], list[Any]]]  # a step, what comes after, what is seen


def _flattened(lib: Any) -> Parts:
    w, v, flat = lib.nn.Parameter(lib.zeros(2)), lib.nn.Parameter(lib.zeros(2)), []
    optimizer = lib.optim.SGD([w, v], lr=1.0)

    def step() -> None:
        optimizer.zero_grad()
        (w.sum() + (v * 10).sum()).backward()
        optimizer.step()

    def flatten() -> None:
        flat.append(lib.cat([w.data, v.data]))
        w.data, v.data = flat[-1][:2], flat[-1][2:]

    return step, flatten, lambda: [w, v, *flat]


def _in_another_buffer(lib: Any) -> Parts:
    flat, other, p = lib.zeros(4), lib.zeros(4), lib.nn.Parameter(lib.ones(2))
    p.data = flat[:2]
    return lambda: _unrecorded(lib, p), lambda: setattr(p, "data", other[2:]), lambda: [flat, other, p]


def _no_view_any_more(lib: Any) -> Parts:
    flat, other, p = lib.zeros(4), lib.zeros(2), lib.nn.Parameter(lib.ones(2))
    p.data = flat[:2]
    return lambda: _unrecorded(lib, p), lambda: setattr(p, "data", other), lambda: [flat, other, p]


def _its_tensor_left(lib: Any) -> Parts:
    w = lib.ones(2)
    view = w[:]
    return lambda: _unrecorded(lib, view), lambda: setattr(w, "data", lib.zeros(2)), lambda: [w, view]


def _the_tensor_of_a_leaf_left(lib: Any) -> Parts:
    w, p = lib.ones(2), lib.nn.Parameter(lib.ones(2))
    p.data = w[:]
    return lambda: _unrecorded(lib, p), lambda: setattr(w, "data", lib.zeros(2)), lambda: [w, p]


def _its_tensor_became_a_view(lib: Any) -> Parts:
    w, d, p = lib.ones(2), lib.ones(2), lib.nn.Parameter(lib.ones(2))
    p.data = d[:]

    def step() -> Any:
        w.add_(1)
        return (p * 1).detach()

    return step, lambda: setattr(w, "data", d), lambda: [w, d, p]


def _frozen_and_not(lib: Any) -> Parts:
    w, p = lib.ones(2), lib.nn.Parameter(lib.ones(2))
    p.data = w[:]
    return lambda: _unrecorded(lib, p), lambda: p.requires_grad_(not p.requires_grad), lambda: [w, p]


def _unrecorded(lib: Any, x: Any) -> None:
    with lib.no_grad():
        x.add_(1)


@pytest.mark.parametrize(
    "scene",
    [
        _flattened, _in_another_buffer, _no_view_any_more, _its_tensor_left, _the_tensor_of_a_leaf_left,
        _its_tensor_became_a_view, _frozen_and_not,
    ],
)  # fmt: skip
def test_a_compiled_function_follows_where_its_tensors_look(scene: Callable[[Any], Parts]) -> None:
    def seen(lib: Any, compiled: Callable[[Any], Any]) -> list[Any]:
        step, change, shown = scene(lib)
        step, found = compiled(step), []
        for _ in range(3):
            results = [result for result in (step(), step()) if result is not None]
            found.append([x.tolist() for x in [*results, *shown()]])
            change()
        return found

    expected = seen(torch, lambda f: f)
    assert seen(cr, lambda f: f) == expected
    assert seen(cr, cr.compile) == expected


def test_weights_that_are_swapped_for_a_while_are_not_traced_again() -> None:
    p, averaged, traced = nn.Parameter(cr.ones(2)), cr.zeros(2), []

    @cr.compile
    def train() -> None:
        traced.append("train")
        _unrecorded(cr, p)

    @cr.compile
    def evaluate() -> cr.Tensor:
        traced.append("evaluate")
        return (p * 1).detach()

    for turn in range(3):
        train()
        kept = p.data
        p.data = averaged
        assert evaluate().tolist() == [0, 0]
        p.data = kept
        assert evaluate().tolist() == [turn + 2, turn + 2]
    assert traced == ["train", "evaluate"]


def test_a_tensor_whose_elements_another_has_too_is_no_free_one() -> None:
    w = cr.ones(2, requires_grad=True)
    h, u, v = w * 2, cr.zeros(2), cr.zeros(2)
    u.data, v.data = h.detach(), w.detach()[:]
    with cr.no_grad():
        h.add_(1)
        w.add_(4)
    assert (u.tolist(), v.tolist()) == ([3, 3], [5, 5])


def test_what_is_passed_and_used_from_outside_is_not_changed_under_either_name() -> None:
    w = cr.ones(3)
    detached, other = w.detach(), cr.zeros(3)
    refused = [
        (cr.compile(lambda a: (a.add_(1), w * 1)[1]), w),
        (cr.compile(lambda a: (a.add_(1), detached * 1)[1]), w),
        (cr.compile(lambda a: (a.add_(1), w.sum())[1]), w[1:]),
        (cr.compile(lambda a: (w.add_(1), a * 1)[1]), w),
    ]
    for function, passed in refused:
        function(other[3 - len(passed) :])  # another tensor may be
        before = w.tolist()
        with pytest.raises(InPlaceError) as error:
            function(passed)
        assert w.tolist() == before
        assert str(error.value) == (
            f"compile: an argument of shape ({len(passed)},) looks at the elements of a tensor that the function uses from "
            "outside too, and it changes one of the two; the other would not see the change. Use one of them in "
            "the function, or pass .clone()."
        )
        function(other[3 - len(passed) :])
    assert other.tolist() == [4, 6, 6] and w.tolist() == [3, 3, 3]
