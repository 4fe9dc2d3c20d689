"""Distributions: log-probabilities, entropies, moments, divergences and their gradients as PyTorch's; draws by their moments."""

import math
import re

import numpy as np
import pytest

import chainrule as cr
from chainrule.errors import DataError, SettingError
from tests.optional import torch

A, B = np.array([[0.3, 1.5, 2.5]], np.float32), np.array([[1.0], [0.7]], np.float32)
SHARES = np.array([[0.2, 0.5, 0.3], [0.1, 0.0, 0.9]], np.float32)
LOGITS = np.array([0.5, -1.0, 2.0], np.float32)
UNIT = np.array([[0.2], [0.9]], np.float32)
# By name: how it is made of the parameters, those, and values to look at.
KINDS = {
    "Normal": (lambda D, a, b: D.Normal(a, b), (A, B), [-1.0, 0.2, 3.0]),
    "LogNormal": (lambda D, a, b: D.LogNormal(a, b), (A, B), [0.1, 0.2, 3.0]),
    "HalfNormal": (lambda D, a: D.HalfNormal(a), (A,), [0.1, 0.2, 3.0]),
    "Laplace": (lambda D, a, b: D.Laplace(a, b), (A, B), [-1.0, 0.2, 3.0]),
    "Cauchy": (lambda D, a, b: D.Cauchy(a, b), (A, B), [-1.0, 0.2, 3.0]),
    "Gumbel": (lambda D, a, b: D.Gumbel(a, b), (A, B), [-1.0, 0.2, 3.0]),
    "Uniform": (lambda D, a, b: D.Uniform(a, a + b), (A, B), [0.5, 1.6, 2.6]),
    "Exponential": (lambda D, a: D.Exponential(a), (A,), [0.1, 0.2, 3.0]),
    "Beta": (lambda D, a, b: D.Beta(a, b), (A, B), [0.1, 0.2, 0.9]),
    "Bernoulli": (lambda D, p: D.Bernoulli(p), (UNIT,), [0.0, 1.0, 1.0]),
    "Bernoulli, logits": (lambda D, z: D.Bernoulli(logits=z), (LOGITS,), [0.0, 1.0, 1.0]),
    "Geometric": (lambda D, p: D.Geometric(p), (UNIT,), [0.0, 1.0, 7.0]),
    "Poisson": (lambda D, r: D.Poisson(r), (A,), [0.0, 1.0, 7.0]),
    "Categorical": (lambda D, p: D.Categorical(p), (SHARES[:1],), [0.0, 2.0, 1.0]),
    "Categorical, logits": (lambda D, z: D.Categorical(logits=z), (LOGITS,), [0.0, 2.0, 1.0]),
    "OneHotCategorical": (lambda D, z: D.OneHotCategorical(logits=z), (LOGITS,), [0.0, 1.0, 0.0]),
    "Independent": (lambda D, a, b: D.Independent(D.Normal(a, b), 1), (A, B), [-1.0, 0.2, 3.0]),
}  # fmt: skip
NO_ENTROPY = {"Poisson"}


def made(library, name):
    make, parameters, values = KINDS[name]
    given = [library.tensor(p, requires_grad=True) for p in parameters]
    return make(library.distributions, *given), given, library.tensor(values)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_known_in_closed_form(name):
    found = []
    for library in (cr, torch):
        d, given, x = made(library, name)
        parts = [d.log_prob(x)] + ([] if name in NO_ENTROPY else [d.entropy()])
        sum(part.sum() for part in parts).backward()
        moments = [] if name.startswith("Categorical") else [d.mean, d.variance]
        found.append([t.detach().numpy() for t in (*parts, *moments, *(g.grad for g in given))])
        assert (d.batch_shape, d.event_shape) == (tuple(d.batch_shape), tuple(d.event_shape))
    for ours, theirs in zip(*found, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["Normal", "LogNormal", "Laplace", "Cauchy", "Uniform", "Exponential"])
def test_distribution_functions(name):
    ours, theirs = ([d.cdf(x).detach().numpy()] for d, _, x in (made(library, name) for library in (cr, torch)))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)  # PyTorch's tails have no more


@pytest.mark.parametrize("name", [n for n in KINDS if n not in ("Cauchy", "Beta")])
def test_draws_have_the_moments(name):
    cr.manual_seed(0)
    d, _, _ = made(cr, name)
    drawn = d.sample((20_000,))
    assert drawn.shape == (20_000, *d.batch_shape, *d.event_shape)
    assert not drawn.requires_grad
    if name.startswith("Categorical"):
        shares = (drawn.unsqueeze(-1) == cr.arange(3)).float().mean(0)
        np.testing.assert_allclose(shares.numpy(), d.probs.detach().numpy(), atol=0.02)
        return
    mean, spread = d.mean.detach().numpy(), np.sqrt(d.variance.detach().numpy())
    np.testing.assert_array_less(np.abs(drawn.mean(0).numpy() - mean), 0.05 * spread + 1e-6)
    if name != "LogNormal":  # whose tail takes more draws
        np.testing.assert_allclose(drawn.std(0).numpy(), np.broadcast_to(spread, mean.shape), rtol=0.08)


def test_gradients_flow_through_rsample():
    loc, scale = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([0.5, 1.0], requires_grad=True)
    d = cr.distributions.Normal(loc, scale)
    x = d.rsample()
    x.sum().backward()
    assert loc.grad.tolist() == [1, 1]
    np.testing.assert_allclose(scale.grad.numpy(), ((x - loc) / scale).detach().numpy(), rtol=1e-5)
    assert d.has_rsample and not cr.distributions.Bernoulli(0.5).has_rsample


PAIRS = {
    "Normal": lambda D, t: (D.Normal(t(A), t(B)), D.Normal(t(B), t(A))),
    "Laplace": lambda D, t: (D.Laplace(t(A), t(B)), D.Laplace(t(B), t(A))),
    "Exponential": lambda D, t: (D.Exponential(t(A)), D.Exponential(t(B))),
    "Uniform": lambda D, t: (D.Uniform(t(A), t(A + 1)), D.Uniform(t(A - 1), t(A + B))),
    "Bernoulli": lambda D, t: (D.Bernoulli(t(UNIT)), D.Bernoulli(logits=t(LOGITS[:2, None]))),
    "Geometric": lambda D, t: (D.Geometric(t(UNIT)), D.Geometric(t(1 - UNIT))),
    "Poisson": lambda D, t: (D.Poisson(t(A)), D.Poisson(t(B))),
    "Categorical": lambda D, t: (D.Categorical(t(SHARES)), D.Categorical(logits=t(LOGITS))),
    "OneHotCategorical": lambda D, t: (D.OneHotCategorical(t(SHARES)), D.OneHotCategorical(logits=t(LOGITS))),
    "Independent": lambda D, t: (D.Independent(D.Normal(t(A), t(B)), 1), D.Independent(D.Normal(t(B), t(A)), 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_divergences(name):
    found = [L.distributions.kl_divergence(*PAIRS[name](L.distributions, L.tensor)).numpy() for L in (cr, torch)]
    np.testing.assert_allclose(*found, rtol=2e-5, atol=1e-6)


def test_a_policy_in_a_compiled_step_draws_and_learns_as_the_eager_one():
    layer = cr.nn.Linear(3, 4)

    def loss(x):
        policy = cr.distributions.Categorical(logits=layer(x))
        action = policy.sample()
        return -(policy.log_prob(action) * action).mean() - 0.1 * policy.entropy().mean()

    x = cr.rand(5, 3)
    cr.manual_seed(1)
    eager = loss(x).item()
    cr.manual_seed(1)
    assert cr.compile(loss)(x).item() == pytest.approx(eager, rel=1e-6)


def said(raised):
    return re.sub(r" \([^ ]*test_\w+\.py:\d+ in [^)]*\)", "", str(raised.value))


def test_parameters_that_cannot_be():
    D = cr.distributions
    for kind, text, call in (
        (DataError, "Normal: scale must be more than 0, got -1.0.", lambda: D.Normal(0.0, -1.0)),
        (DataError, "Bernoulli: probs must be in [0, 1], got 2.0.", lambda: D.Bernoulli(2.0)),
        (SettingError, "Categorical: give either probs or logits.", lambda: D.Categorical()),
        (NotImplementedError, "kl_divergence: it is not there for Normal and Poisson. Register it with register_kl, or take "
         "the mean of p.log_prob(x) - q.log_prob(x) over draws x of p.", lambda: D.kl_divergence(D.Normal(0.0, 1.0), D.Poisson(1.0))),
    ):  # fmt: skip
        with pytest.raises(kind) as raised:
            call()
        assert said(raised) == text
    assert D.Normal(0.0, -1.0, validate_args=False).scale.item() == -1


# A distribution of each kind, values that it takes, and values that it does not.
SUPPORTS = {
    "Normal": (lambda D: D.Normal(0.0, 1.0), [-1.0, math.inf], [math.nan], "a number"),
    "LogNormal": (lambda D: D.LogNormal(0.0, 1.0), [0.5], [0.0, -1.0, math.nan], "more than 0"),
    "HalfNormal": (lambda D: D.HalfNormal(1.0), [0.0, 2.0], [-0.5, math.nan], "0 or more"),
    "Laplace": (lambda D: D.Laplace(0.0, 1.0), [-1.0], [math.nan], "a number"),
    "Cauchy": (lambda D: D.Cauchy(0.0, 1.0), [-1.0], [math.nan], "a number"),
    "Gumbel": (lambda D: D.Gumbel(0.0, 1.0), [-1.0], [math.nan], "a number"),
    "Uniform": (lambda D: D.Uniform(1.0, 2.0), [1.0, 1.5, 2.0], [0.5, 2.5, math.nan], "in [low, high]"),
    "Exponential": (lambda D: D.Exponential(1.0), [0.0, 2.0], [-0.5, math.nan], "0 or more"),
    "Beta": (lambda D: D.Beta(2.0, 3.0), [0.25, 0.75], [-0.5, 1.5, math.nan], "in [0, 1]"),
    "Bernoulli": (lambda D: D.Bernoulli(0.5), [0.0, 1.0], [0.5, 2.0, -1.0, math.nan], "0 or 1"),
    "Geometric": (lambda D: D.Geometric(0.5), [0.0, 3.0], [-1.0, 1.5, math.nan], "a whole number from 0 on"),
    "Poisson": (lambda D: D.Poisson(0.5), [0.0, 3.0], [-1.0, 1.5, math.nan], "a whole number from 0 on"),
    "Categorical": (lambda D: D.Categorical(logits=D.Normal(0.0, 1.0).sample((3,))), [0, 2], [-1, 3, 0.5, math.nan], "a class from 0 to 2"),
    "OneHotCategorical": (lambda D: D.OneHotCategorical(logits=D.Normal(0.0, 1.0).sample((3,))), [[0, 1, 0]], [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0]], "1 at one class and 0 elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("name", SUPPORTS)
def test_a_value_outside_the_support_is_refused_where_pytorchs_is(name):
    make, inside, outside, must = SUPPORTS[name]
    for value in inside:
        for library in (cr, torch):
            make(library.distributions).log_prob(library.tensor(value))
    for value in outside:
        with pytest.raises(ValueError):  # noqa: PT011
            make(torch.distributions).log_prob(torch.tensor(value))
        with pytest.raises(DataError) as raised:
            make(cr.distributions).log_prob(cr.tensor(value))
        assert said(raised).startswith(f"{name}: value must be {must}, got ")
        assert isinstance(value, list) or said(raised).endswith(f", got {value}.")


@pytest.mark.parametrize("name", ["Normal", "LogNormal", "Laplace", "Cauchy", "Uniform", "Exponential"])
def test_so_do_distribution_functions(name):
    make, _, outside, _ = SUPPORTS[name]
    for value in filter(None, outside):  # LogNormal's is 0 at 0
        with pytest.raises(ValueError):  # noqa: PT011
            make(torch.distributions).cdf(torch.tensor(value))
        with pytest.raises(DataError):
            make(cr.distributions).cdf(cr.tensor(value))


def test_values_are_not_checked_without_validation_or_in_a_trace():
    D = cr.distributions
    assert D.Uniform(0.0, 1.0, validate_args=False).log_prob(cr.tensor(3.0)).item() == -math.inf
    assert cr.compile(lambda x: D.Uniform(0.0, 1.0).log_prob(x))(cr.tensor(3.0)).item() == -math.inf


@pytest.mark.parametrize(
    "make", [lambda L, nan: L.Normal(nan, 1.0), lambda L, nan: L.Bernoulli(logits=nan), lambda L, nan: L.Categorical(logits=nan.expand(3)), lambda L, nan: L.Geometric(nan * 0 + 0.0), lambda L, nan: L.Geometric(nan.new_zeros(()))]
)  # fmt: skip
def test_parameters_that_are_no_numbers_are_refused(make):
    with pytest.raises(DataError):
        make(cr.distributions, cr.tensor(math.nan))
    with pytest.raises(ValueError):  # noqa: PT011
        make(torch.distributions, torch.tensor(math.nan))
