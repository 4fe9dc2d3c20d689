"""What is found in the code of a function, by every Python that this runs on."""

from __future__ import annotations

import pytest

from chainrule.compiler.frontend.named import Import, names_of

o = k = n = s = None


def _imports():
    import a.b
    import a.b as c
    import d
    from e.f import g
    from e.f import h as i

    from . import j
    from .k import m

    return a, c, d, g, i, j, m


def _matches(shape):
    match shape:
        case Shape("a"):  # noqa: F821 - never called
            return 1
        case Shape(kind="b"):  # noqa: F821
            return 2


BY_TEXT = [
    lambda: getattr(o, "x"),  # noqa: B009 - on purpose
    lambda: getattr(o, "x", 2.0), lambda: getattr(o.a[0].b(1), "x", n + 1), lambda: hasattr(o, "x") and getattr(o, "x") > 2,  # noqa: B009
    lambda: getattr(getattr(o, "a"), "b", getattr(o, "c", 1)),  # noqa: B009
]  # fmt: skip
COMPUTED = [
    lambda: getattr(o, n), lambda: getattr(o, "x" + n), lambda: getattr(o, "x" + n, None), lambda: getattr(o, f"x{n}"),
    lambda: [getattr(o, each) for each in n], lambda: map(getattr, o, n), lambda: getattr(o, "a" if n else "b"),
    lambda: lambda: hasattr(o, n),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BY_TEXT)))
def test_attributes_that_are_asked_for_by_a_text(number):
    names = names_of(BY_TEXT[number].__code__)
    assert not names.computed and not names.whole and {"x", "b"} & names.asked


@pytest.mark.parametrize("number", range(len(COMPUTED)))
def test_attributes_that_are_asked_for_by_a_name_that_is_computed(number):
    assert names_of(COMPUTED[number].__code__).computed


@pytest.mark.parametrize(
    "read",
    [lambda: vars(o), lambda: o.__dict__["x"], lambda: dir(o), lambda: eval("o.x"), lambda: [vars(each) for each in n]],
)
def test_objects_that_are_read_whole(read):
    assert names_of(read.__code__).whole


def test_imports():
    assert names_of(_imports.__code__).imports == {
        Import(0, "a", None, "a"), Import(0, "a.b", None, "c"), Import(0, "d", None, "d"), Import(0, "e.f", "g", "g"),
        Import(0, "e.f", "h", "i"), Import(1, "", "j", "j"), Import(1, "k", "m", "m"),
    }  # fmt: skip


def test_patterns_of_classes():
    assert names_of(_matches.__code__).loose == {"__match_args__", "kind"}


def test_globals_by_their_names_in_a_text():
    assert "o" in names_of((lambda: globals()["o"]).__code__).globals
