"""`autograd.functional` beside PyTorch's."""

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr
from chainrule.errors import SettingError


def arrays(tree):
    return [arrays(each) for each in tree] if isinstance(tree, tuple) else tree.detach().numpy()


FUNCTIONS = {
    "jacobian": [
        (lambda x: x * x, 1), (lambda x, y: x * y.sum(), 2), (lambda x, y: (x.sum(), x * y, y * 2), 2), (lambda x: (x, x**2), 1),
        (lambda x, y: x * 3, 2),
    ],
    "hessian": [(lambda x: (x**3).sum(), 1), (lambda x, y: (x * x * y).sum(), 2)],
}  # fmt: skip
CASES = [(name, function, count) for name, several in FUNCTIONS.items() for function, count in several]


@pytest.mark.parametrize(("name", "function", "count"), CASES)
def test_values_and_nesting_are_pytorchs(name, function, count):
    def at(lib):
        given = [lib.tensor([1.0, 2.0]), lib.tensor([3.0, 4.0])][:count]
        return arrays(getattr(lib.autograd.functional, name)(function, given[0] if count == 1 else tuple(given)))

    ours, theirs = at(cr), at(torch)

    def same(a, b):
        assert type(a) is type(b)
        if isinstance(a, list):
            assert len(a) == len(b)
            for one, other in zip(a, b, strict=True):
                same(one, other)
        else:
            np.testing.assert_allclose(a, b, rtol=1e-6)

    same(ours, theirs)


def test_a_tuple_of_one_input_stays_a_tuple():
    (found,) = cr.autograd.functional.jacobian(lambda x: x * x, (cr.tensor([3.0]),))
    assert found.tolist() == [[6.0]]


def test_history_is_kept_where_it_is_asked_for():
    x = cr.tensor([2.0], requires_grad=True)
    assert not cr.autograd.functional.jacobian(lambda x: x**3, x).requires_grad
    kept = cr.autograd.functional.jacobian(lambda x: x**3, x, create_graph=True)
    kept.sum().backward()
    assert (kept.tolist(), x.grad.tolist()) == ([[12.0]], [12.0])


WRONG = {
    "jacobian: strict must be False; inputs that no output depends on have zeros here.": {"strict": True},
    "jacobian: strategy must be 'reverse-mode', got 'forward-mode'. cr.jvp goes forward.": {"strategy": "forward-mode"},
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_not_here_is_refused(text):
    with pytest.raises(SettingError, match=f"^{text}$"):
        cr.autograd.functional.jacobian(lambda x: x, cr.ones(1), **WRONG[text])


# -- products ----------------------------------------------------------------------------------------------

POINTS = [0.5, 2.0, -1.5], [1.5, -0.5, 0.25]
ALONG = [1.0, -2.0, 0.5], [0.25, 3.0, -1.0]
PRODUCTS = {
    "vjp": lambda lib: (lambda x, y: (x * y).sin(), 0),
    "jvp": lambda lib: (lambda x, y: (x * y).sin(), None),
    "hvp": lambda lib: (lambda x, y: (x.exp() * y**3).sum(), None),
    "vhp": lambda lib: (lambda x, y: (x.exp() * y**3).sum(), None),
}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products_are_pytorchs(name, keep):
    found = []
    for lib in (cr, torch):
        function, outputs = PRODUCTS[name](lib)
        xs, vs = (tuple(lib.tensor(p, dtype=lib.float64) for p in part) for part in (POINTS, ALONG))
        if keep:
            xs = tuple(x.requires_grad_() for x in xs)
        call = getattr(lib.autograd.functional, name)
        value, moved = call(function, xs, vs[0] if outputs == 0 else vs, create_graph=keep)
        one, alone = call(lambda x, function=function, xs=xs: function(x, xs[1]), xs[0], vs[0])
        assert isinstance(alone, lib.Tensor) and not alone.requires_grad
        parts = [value, *(moved if isinstance(moved, tuple) else [moved])]
        assert all(part.requires_grad is keep for part in parts)
        found.append([part.detach().numpy() for part in [*parts, one, alone]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_products_without_a_direction():
    x = cr.tensor(3.0)
    for name, value, moved in (("vjp", 9.0, 6.0), ("jvp", 9.0, 6.0), ("hvp", 9.0, 2.0)):
        assert [t.item() for t in getattr(cr.autograd.functional, name)(lambda x: x * x, x)] == [value, moved]
        with pytest.raises(SettingError, match=f"^{name}: v must be given, except for a single tensor of one element."):
            getattr(cr.autograd.functional, name)(lambda x: x * x, cr.ones(2))
        with pytest.raises(
            SettingError, match=f"^{name}: strict must be False; inputs that no output depends on have zeros here."
        ):
            getattr(cr.autograd.functional, name)(lambda x: x * x, x, strict=True)
