"""autograd.gradcheck and gradgradcheck say what PyTorch's say."""

from __future__ import annotations

import pytest
from tests.optional import torch

import chainrule as cr
from chainrule.errors import GradientError

RIGHT = {
    "one": lambda lib, x, y: x.sin() * x,
    "two": lambda lib, x, y: (x * y, (x / y).exp()),
    "nothing of one": lambda lib, x, y: y * y,
    "a list": lambda lib, x, y: [x.tanh(), x @ y],
}


def inputs(lib, second=True):
    make = lambda values, needed: lib.tensor(values, dtype=lib.float64, requires_grad=needed)  # noqa: E731
    return make([0.5, 2.0, -1.25], True), make([1.5, -0.5, 0.75], second)


@pytest.mark.parametrize("second", [True, False])
@pytest.mark.parametrize("name", ["gradcheck", "gradgradcheck"])
@pytest.mark.parametrize("function", RIGHT.values(), ids=RIGHT)
def test_right_ones_pass(function, name, second):
    if name == "gradgradcheck" and not second and function is RIGHT["nothing of one"]:
        second = True  # else nothing depends on what requires a gradient, which PyTorch refuses
    for lib in (cr, torch):
        call = getattr(lib.autograd, name)
        assert call(lambda x, y, lib=lib: function(lib, x, y), inputs(lib, second)) is True


def wrong(lib, factor):
    """A derivative of x^2 that is off, or one whose own is."""

    class Square(lib.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, dY):
            (x,) = ctx.saved_tensors
            return dY * x * factor if factor != 2 else dY * 2 * x.detach() + 0 * dY

    return Square.apply


@pytest.mark.parametrize("name", ["gradcheck", "gradgradcheck"])
@pytest.mark.parametrize("factor", [1.5, 2.01, 2])
def test_wrong_ones_do_not(name, factor):
    found = []
    for lib in (cr, torch):
        x, _ = inputs(lib)
        found.append(getattr(lib.autograd, name)(wrong(lib, factor), (x,), raise_exception=False))
    assert found[0] == found[1]
    assert found[0] is ((name == "gradcheck" and factor == 2) or (name == "gradgradcheck" and factor != 2))


def test_refusals():
    x, _ = inputs(cr)
    with pytest.raises(GradientError) as error:
        cr.autograd.gradcheck(wrong(cr, 1.5), x)
    assert str(error.value) == (
        "gradcheck: the derivative of the outputs, weighted at random, by input 0, element [0], is 0.852721, and by differences "
        "1.13696. Correct the backward of the function, or choose a point that is no kink."
    )
    with pytest.raises(
        GradientError, match="^gradcheck: no input requires a gradient. Make one with requires_grad=True."
    ):
        cr.autograd.gradcheck(cr.exp, x.detach())
    with pytest.raises(GradientError, match="^gradcheck: the function must give a floating-point tensor, got none."):
        cr.autograd.gradcheck(lambda x: x > 0, x)


def test_tolerances_are_what_decides():
    x, _ = inputs(cr)
    assert cr.autograd.gradcheck(wrong(cr, 2.01), x, rtol=1e-2)
    assert cr.autograd.gradcheck(wrong(cr, 2.01), x, atol=0.1)
