"""Starting values: their distributions, their reproducibility, PyTorch's constants."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import SettingError, ShapeError, UnknownNameError
from chainrule.nn import init

from .peers import torch


@pytest.mark.parametrize(
    ("name", "param"),
    [("linear", None), ("sigmoid", None), ("tanh", None), ("relu", None), ("selu", None), ("leaky_relu", None),
     ("leaky_relu", 0.2)],
)  # fmt: skip
def test_gains_are_pytorchs(name, param):
    assert init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param))


def fresh(*shape):
    return cr.zeros(*shape, dtype=cr.float64)


UNIFORM = [
    (lambda t: init.uniform_(t, -2, 3), lambda t: (-2, 3)),
    (init.xavier_uniform_, lambda t: math.sqrt(6 / 500)),
    (lambda t: init.xavier_uniform_(t, gain=2), lambda t: 2 * math.sqrt(6 / 500)),
    (init.kaiming_uniform_, lambda t: math.sqrt(6 / 200)),
    (lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)), lambda t: 1 / math.sqrt(200)),
    (lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"), lambda t: math.sqrt(6 / 300)),
]
NORMAL = [
    (lambda t: init.normal_(t, 1, 2), 1, 2),
    (init.xavier_normal_, 0, math.sqrt(2 / 500)),
    (init.kaiming_normal_, 0, math.sqrt(2 / 200)),
    (lambda t: init.kaiming_normal_(t, mode="fan_out", nonlinearity="tanh"), 0, 5 / 3 / math.sqrt(300)),
]


@pytest.mark.parametrize(("fill", "bound"), UNIFORM)
def test_uniform_kinds_fill_their_interval(fill, bound):
    t = fill(fresh(300, 200)).numpy()
    limits = bound(t)
    low, high = limits if isinstance(limits, tuple) else (-limits, limits)
    assert low <= t.min() < low + 1e-3 * (high - low)
    assert high - 1e-3 * (high - low) < t.max() <= high
    assert t.std() == pytest.approx((high - low) / math.sqrt(12), rel=0.02)


@pytest.mark.parametrize(("fill", "mean", "std"), NORMAL)
def test_normal_kinds(fill, mean, std):
    t = fill(fresh(300, 200)).numpy()
    assert t.mean() == pytest.approx(mean, abs=0.02 * std)
    assert t.std() == pytest.approx(std, rel=0.02)


def test_fans_count_windows():
    t = init.kaiming_normal_(fresh(64, 20, 5, 5)).numpy()
    assert t.std() == pytest.approx(math.sqrt(2 / 500), rel=0.03)


def test_constants_and_identity():
    assert init.constant_(fresh(2), 3.0).tolist() == [3.0, 3.0]
    assert init.ones_(fresh(2)).tolist() == [1.0, 1.0]
    assert init.zeros_(cr.ones(2)).tolist() == [0.0, 0.0]
    assert init.eye_(fresh(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal(shape):
    t = init.orthogonal_(fresh(*shape), gain=2.0).numpy().reshape(shape[0], -1)
    product = t @ t.T if t.shape[0] <= t.shape[1] else t.T @ t
    np.testing.assert_allclose(product, 4 * np.eye(min(t.shape)), atol=1e-12)


@pytest.mark.parametrize(("mean", "std", "a", "b"), [(0, 1, -2, 2), (1, 2, 0, 1.5), (0, 0.02, -2, 2), (0, 1, 3, 4)])
def test_trunc_normal_has_the_moments_of_pytorchs(mean, std, a, b):
    t = init.trunc_normal_(fresh(40_000), mean, std, a, b).numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch doubts its own result in the tail
        peer = torch.nn.init.trunc_normal_(torch.empty(40_000, dtype=torch.float64), mean, std, a, b).numpy()
    assert a <= t.min()
    assert t.max() <= b
    assert t.mean() == pytest.approx(peer.mean(), abs=0.03 * peer.std())
    assert t.std() == pytest.approx(peer.std(), rel=0.03)


def test_the_inverse_of_erf():
    y = np.linspace(-0.999999, 0.999999, 501)
    np.testing.assert_allclose(init._erfinv(y), torch.special.erfinv(torch.tensor(y)).numpy(), rtol=1e-9, atol=1e-15)
    far = np.array([1 - 1e-12, -1 + 1e-12, 1.0, -1.0])  # one rounding of y moves the result by 1e-6
    assert np.isfinite(init._erfinv(far)).all()
    np.testing.assert_allclose(init._erfinv(far)[:2], [5.042032, -5.042032], rtol=1e-6)


RANDOM = [
    init.uniform_, init.normal_, init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_,
    init.kaiming_normal_, init.orthogonal_, init.trunc_normal_,
]  # fmt: skip


@pytest.mark.parametrize("fill", RANDOM)
def test_a_seed_fixes_the_draw_and_gradients_are_kept(fill):
    w = cr.zeros(3, 4, requires_grad=True)
    cr.manual_seed(5)
    assert fill(w) is w
    assert w.requires_grad
    assert w.is_leaf
    cr.manual_seed(5)
    assert fill(cr.zeros(3, 4)).tolist() == w.tolist()
    a, b = (fill(cr.zeros(3, 4), generator=cr.Generator(9)) for _ in range(2))
    assert a.tolist() == b.tolist()


def text_of(kind, function):
    with pytest.raises(kind) as error:
        function()
    return str(error.value)


def test_refusals():
    assert text_of(ShapeError, lambda: init.xavier_normal_(cr.zeros(3))) == (
        "xavier_normal_: fan-in and fan-out need a tensor of at least 2 axes (out, in, ...), got shape (3,). "
        "For biases use zeros_ or uniform_."
    )
    assert text_of(ShapeError, lambda: init.eye_(cr.zeros(3))) == "eye_: the tensor must have 2 axes, got shape (3,)."
    assert text_of(ShapeError, lambda: init.orthogonal_(cr.zeros(3))) == (
        "orthogonal_: the tensor must have at least 2 axes, got shape (3,)."
    )
    assert text_of(UnknownNameError, lambda: init.kaiming_normal_(cr.zeros(2, 2), mode="in")) == (
        "unknown mode 'in'. Known: fan_in, fan_out."
    )
    assert text_of(UnknownNameError, lambda: init.calculate_gain("gelo")) == (
        "unknown nonlinearity 'gelo'. Known: leaky_relu, linear, relu, selu, sigmoid, tanh."
    )
    assert text_of(SettingError, lambda: init.trunc_normal_(cr.zeros(2), a=2, b=1)) == (
        "trunc_normal_: needs a < b and std > 0, got a=2, b=1, std=1.0."
    )
    assert text_of(SettingError, lambda: init.trunc_normal_(cr.zeros(2), a=50, b=60)) == (
        "trunc_normal_: [50, 60] lies too far from mean 0.0 (std 1.0): the normal has no mass there. "
        "Move the bounds towards the mean."
    )
