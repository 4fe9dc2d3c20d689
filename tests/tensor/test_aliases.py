"""Handles that were made to look at the same elements, in every way there is, beside PyTorch: eager and compiled."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from tests.optional import torch

import chainrule as cr
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


@pytest.mark.parametrize("second", [None, *WAYS])
@pytest.mark.parametrize("first", WAYS)
def test_aliases_show_the_same_whatever_is_written_to_which(first: str, second: str | None) -> None:
    ways = (first,) if second is None else (first, second)
    for seed in range(12):
        assert play(cr, lambda f: f, seed, ways) == play(torch, lambda f: f, seed, ways), (seed, ways)
