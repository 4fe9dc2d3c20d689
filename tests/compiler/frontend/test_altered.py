"""Python's containers that a compiled function changes itself: as in Python, or refused where they come to no rest."""

import collections
import re

import pytest

import chainrule as cr
from chainrule.compiler.compile import STATES
from chainrule.errors import TraceError


class Thing:
    pass


def flag_in_a_dict():
    seen = {}

    def function(x):
        if "begun" not in seen:
            seen["begun"] = True
            return x * 100
        return x * 1

    return function


def set_of_what_was_met():
    met = set()

    def function(x):
        if "a" not in met:
            met.add("a")
            return x * 7
        return x * 1

    return function


def cache_by_shape():
    known = {}

    def function(x):
        if x.shape not in known:
            known[x.shape] = 5.0 * x.shape[0]
        return x * known[x.shape]

    return function


def asking_makes_an_entry():
    lists = collections.defaultdict(list)
    return lambda x: x * (1 + len(lists["q"]))


def notes():
    noted = []

    def function(x):
        noted.append("here")
        return x * 2

    return function


def test_a_cache_serves_arguments_of_several_kinds():
    function, step = cache_by_shape(), cr.compile(cache_by_shape())
    for rows in (1, 2, 1, 3, 2, 1, 3):
        assert step(cr.ones(rows)).tolist() == function(cr.ones(rows)).tolist()


def counts_in_a_dict():
    counts = {}

    def function(x):
        counts["n"] = counts.get("n", 0) + 1
        return x * counts["n"]

    return function, "the dict 'counts'"


def goes_to_and_fro():
    state = {"on": False}

    def function(x):
        state["on"] = not state["on"]
        return x * (2 if state["on"] else 3)

    return function


def another_dict_each_time():
    thing = Thing()
    thing.settings = {"rate": 1.0}

    def function(x):
        thing.settings = {"rate": thing.settings["rate"] / 2}
        return x * thing.settings["rate"]

    return function, "'settings'"


def longer_tuple():
    thing = Thing()
    thing.past = ()

    def function(x):
        thing.past = (*thing.past, 1)
        return x * len(thing.past)

    return function, "'past'"


def takes_from_a_list():
    left = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    return lambda x: x * left.pop(), "the list 'left'"


def turns_a_list():
    turns = [1.0, 2.0, 3.0]

    def function(x):
        turns.append(turns.pop(0))
        return x * turns[0]

    return function


def grows_a_set():
    grown = set()

    def function(x):
        grown.add(len(grown))
        return x * len(grown)

    return function, "the set 'grown'"


def writes_bytes():
    count = bytearray(b"\0")

    def function(x):
        count[0] += 1
        return x * count[0]

    return function, "the bytearray 'count'"


RESTING = [
    flag_in_a_dict, set_of_what_was_met, cache_by_shape, asking_makes_an_entry, notes, goes_to_and_fro, turns_a_list,
]  # fmt: skip
CHANGING = [counts_in_a_dict, another_dict_each_time, longer_tuple, takes_from_a_list, grows_a_set, writes_bytes]


@pytest.mark.parametrize("make", RESTING)
@pytest.mark.parametrize("way", ["calls", "loop"])
def test_what_comes_to_rest_is_as_in_python(make, way):
    expected = [make_(x).tolist() for make_ in [make()] for x in [cr.tensor([1.0])] * 7]
    step = cr.compile(make())
    found = step.loop(cr.ones(7, 1)).tolist() if way == "loop" else [step(cr.tensor([1.0])).tolist() for _ in range(7)]
    assert found == expected


@pytest.mark.parametrize("make", CHANGING)
def test_what_comes_to_no_rest_is_refused_after_some_calls(make):
    (function, label), (plain, _) = make(), make()
    step, x = cr.compile(function), cr.tensor([1.0])
    for _ in range(STATES):
        assert step(x).tolist() == plain(x).tolist()
    text = (
        f"cr.compile: {label} is changed inside the function and comes to no rest: programs were made for 4 states of it. Keep it "
        f"in a tensor that exists outside, or change it outside."
    )
    with pytest.raises(TraceError, match=f"^{re.escape(text)}$"):
        step(x)
    assert function(x).tolist() == plain(x).tolist()  # the refused call left everything as it was


def test_a_container_that_is_changed_outside_is_looked_at():
    rates = {"a": 2.0}
    step = cr.compile(lambda x: x * rates["a"])
    for rate in (2.0, 3.0, 2.0):
        rates["a"] = rate
        assert step(cr.ones(1)).tolist() == [rate]


@pytest.mark.parametrize(
    "of", [iter, lambda tensors: (t for t in tensors), enumerate, lambda tensors: map(abs, tensors)]
)
def test_what_gives_its_contents_once_is_refused(of):
    step = cr.compile(lambda x: of([x, x * 2]))
    for _ in range(2):
        with pytest.raises(
            TraceError, match=r"was passed or returned, which gives what is in it once only, .* tuple\(\.\.\.\)\.$"
        ):
            step(cr.ones(2))
    taken = cr.compile(lambda x, factors: x * next(factors))
    with pytest.raises(TraceError, match="was passed or returned, which gives what is in it once only"):
        taken(cr.ones(2), iter([1.0, 2.0]))
