"""Functions made of the elementary ones: values and derivatives as PyTorch's, where PyTorch's own are accurate."""

import math
import warnings

import numpy as np
import pytest
from tests.optional import torch

import chainrule as cr

EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e-8, 1e-3, 20.0, -20.0, 88.0, -88.0, 1e10, -1e10, np.inf, -np.inf, np.nan]
LINE = np.concatenate([np.random.default_rng(0).standard_normal(200) * 3, EDGES, [0.66, 2.4142, 300.0]])
UNIT = np.concatenate([np.clip(LINE, -1, 1), np.random.default_rng(1).uniform(-0.99, 0.99, 100)])
OTHER = np.random.default_rng(2).permutation(LINE)
# In float64 PyTorch's derivatives near the ends lose the digits of 1 - x^2, and its trigamma has ten: those are compared loosely.
UNARY = {
    "tan": LINE, "atan": LINE, "sinh": LINE, "cosh": LINE, "asinh": LINE, "exp2": LINE, "frac": LINE, "nan_to_num": LINE,
    "deg2rad": LINE, "asin": UNIT, "acos": UNIT, "atanh": UNIT, "erfinv": UNIT, "acosh": np.abs(LINE) + 1.01,
    "logit": np.abs(UNIT), "lgamma": LINE, "digamma": LINE[~((np.round(LINE) == LINE) & (LINE < 0))],
}  # fmt: skip
BINARY = ["atan2", "hypot", "logaddexp", "fmod", "fmax", "fmin", "xlogy"]


def results(library, name, dtype, *arrays):
    """The value, and the derivative of its sum by the first."""
    first, *rest = (library.tensor(a.astype(dtype)) for a in arrays)
    first.requires_grad_()
    value = getattr(first, name)(*rest)
    value.sum().backward()
    return value.detach().numpy(), first.grad.numpy()


def compare(name, dtype, *arrays):
    rounded = [a.astype(dtype) for a in arrays]
    exact = "float64" if name in ("lgamma", "digamma") else dtype  # near their poles PyTorch's float32 has few digits
    value, slope = results(cr, name, dtype, *rounded)
    theirs, their_slope = results(torch, name, exact, *rounded)
    absolute = 1e-6 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(value, theirs, rtol=30 * np.finfo(dtype).eps, atol=absolute)
    known = np.isfinite(their_slope)
    np.testing.assert_allclose(
        slope[known], their_slope[known], rtol=3e-5 if dtype == "float32" else 1e-8, atol=absolute
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_element(name, dtype):
    compare(name, dtype, UNARY[name])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two(name, dtype):
    compare(name, dtype, LINE, OTHER)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["asin", "acos", "acosh", "atanh", "logit", "erfinv", "log", "log1p", "sqrt", "rsqrt"])
def test_outside_of_their_domain_they_are_no_number(name, dtype):
    far = np.array([-np.inf, -1e30, -1e9, -7.5, -1.5, 1.5, 7.5, 1e9, 1e30, np.inf], dtype)
    with np.errstate(all="ignore"):
        theirs = getattr(torch.tensor(far), name)().numpy()
    for function in (getattr(cr.Tensor, name), cr.compile(getattr(cr.Tensor, name))):
        np.testing.assert_allclose(function(cr.tensor(far)).numpy(), theirs, rtol=1e-6)


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_they_are_compiled_to_the_same(name):
    pair = [LINE[:64], OTHER[:64]] if name in BINARY else [UNARY[name][:64]]
    first, *rest = (cr.tensor(a.astype("float32")) for a in pair)

    @cr.compile
    def step(x, *others):
        getattr(x, name)(*others).sum().backward()
        return getattr(x, name)(*others), x.grad

    value, slope = step(first.requires_grad_(), *rest)
    expected, expected_slope = results(cr, name, "float32", *pair)
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(slope.numpy(), expected_slope, rtol=2e-5, atol=1e-5)


def test_the_slope_of_sinc_near_zero_is_that_of_float64():
    """PyTorch's cancels there, so the reference is its series:."""
    x = np.array([1e-8, 1e-3, 0.04, 0.15])
    terms = [(-1) ** k * 2 * k * (np.pi * x) ** (2 * k - 1) / math.factorial(2 * k + 1) for k in range(1, 12)]
    expected = np.pi * sum(terms)
    for dtype, tolerance in (("float32", 3e-7), ("float64", 1e-14)):
        value, slope = results(cr, "sinc", dtype, x)
        np.testing.assert_allclose(slope, expected, rtol=tolerance)
        np.testing.assert_allclose(value, results(torch, "sinc", dtype, x)[0], rtol=tolerance)


def test_angles_of_zeros_and_infinities():
    zeros, ends = [0.0, -0.0], [np.inf, -np.inf]
    y, x = (np.array(v) for v in zip(*[(a, b) for s in (zeros, ends) for a in s for b in s], strict=True))
    np.testing.assert_array_equal(*(lib.tensor(y).atan2(lib.tensor(x)).numpy() for lib in (cr, torch)))


def test_the_slope_of_xlogy_where_its_factor_is_zero():
    for library in (cr, torch):
        x = library.tensor([0.0, 0.0, 2.0], requires_grad=True)
        x.xlogy(library.tensor([0.5, 0.0, 3.0])).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), [np.log(0.5), 0.0, np.log(3.0)], rtol=1e-6)


def test_signs():
    for dtype in ("float32", "float64", "int32", "uint8"):
        values = np.array([0, 3], dtype) if dtype == "uint8" else np.array([-0.0, 0.0, -2, 3]).astype(dtype)
        assert cr.tensor(values).signbit().tolist() == torch.tensor(values).signbit().tolist()
    assert cr.tensor([1.0, -2.0]).copysign(-0.0).tolist() == [-1, -2]
    assert cr.tensor([-1.0, 0.0, 2.0]).heaviside(cr.tensor(0.5)).tolist() == [0, 0.5, 1]


def test_bfloat16_is_rounded_once():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("tan", "asinh", "sinh", "atan"):
            x = np.array([0.1, 1.7, -2.3], np.float32)
            ours = getattr(cr.tensor(x).bfloat16(), name)().float().numpy()
            np.testing.assert_array_equal(ours, getattr(torch.tensor(x).bfloat16(), name)().float().numpy())


def test_older_names_and_forms_in_place():
    x = cr.tensor([0.25, 0.5])
    assert x.arctan().equal(x.atan()) and cr.arcsin(x).equal(x.asin())
    assert x.clone().atan_().equal(x.atan())
    assert cr.fmod(cr.tensor([5, -5]), 3).tolist() == [2, -2]
    assert (x.is_complex(), x.is_signed(), cr.is_nonzero(cr.tensor([2]))) == (False, True, True)


def test_the_angle_of_no_direction_has_no_derivative() -> None:
    for compiled in (False, True):
        y, x = cr.tensor([0.0, 1.0], requires_grad=True), cr.tensor([0.0, 1.0], requires_grad=True)

        def run(y: cr.Tensor = y, x: cr.Tensor = x) -> None:
            cr.atan2(y, x).sum().backward()

        (cr.compile(run) if compiled else run)()
        assert y.grad is not None and x.grad is not None
        assert (y.grad.tolist(), x.grad.tolist()) == ([0.0, 0.5], [0.0, -0.5])
