"""A tensor of a trace that the function leaves where no call would put another is refused at once, wherever that is."""

import functools
import gc
import re
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import TraceError


class Thing:
    pass


thing, array = Thing(), np.empty(2, object)


def by_setattr(x):
    setattr(thing, "w", x * 2)  # noqa: B010 - what nobody sees coming


def by_globals(x):
    globals()["anywhere"] = x * 2


def in_an_array(x):
    array[0] = x * 2


@functools.lru_cache
def tripled(x):
    return x * 3


def in_a_cache(x):
    tripled(x)


def of_a_generator(x):
    def parts():
        part = x * 2
        yield part
        yield part

    thing.parts = parts()
    next(thing.parts)


LEFT = {
    by_setattr: "under the name 'w'",
    by_globals: "under the name 'anywhere'",
    in_an_array: "somewhere",
    in_a_cache: "in a _lru_cache_wrapper",
    of_a_generator: "in a generator",
}


@pytest.mark.parametrize("leave", LEFT, ids=lambda f: f.__name__)
def test_it_is_refused(leave):
    def function(x):
        leave(x)
        return x + 1

    step = cr.compile(function)
    for _ in range(2):  # no program of it stays
        with pytest.raises(TraceError) as error:
            step(cr.ones(2))
        text = re.sub(r"\(test_left.py:\d+ in \w+\)", "(LINE)", str(error.value))
        said = text.removeprefix("cr.compile: the function left a tensor (mul (LINE)) ").removesuffix(
            ", which Python does only when it is traced: no call would put another there. Return it, or keep it in a tensor "
            "that exists outside (copy_)."
        )
        # Python does not tell of what was there before a ``gc.freeze()``.
        assert said == LEFT[leave] or (gc.get_freeze_count() and said == "somewhere")
        globals().pop("anywhere", None)
        vars(thing).clear()
        tripled.cache_clear()


def test_what_goes_by_itself_is_no_matter():
    seen = weakref.WeakValueDictionary()

    @cr.compile
    def step(x):
        try:
            raise ValueError(x * 2)
        except ValueError as error:
            caught = error  # a circle: the frame holds the error, which holds the frame
        seen["half"] = x / 2
        return x + len(caught.args)

    assert step(cr.ones(2)).tolist() == [2.0, 2.0]
    assert not seen
