"""Distributions of real numbers."""

from __future__ import annotations

import math
from typing import Any

from chainrule import graph
from chainrule.distributions.distribution import (
    HALF_LOG_2PI,
    Distribution,
    broadcast_all,
    not_negative,
    positive,
    real,
    share,
)
from chainrule.dtypes import numbers_of
from chainrule.tensor import Tensor
from chainrule.tensor.core import settled
from chainrule.tensor.creation import as_tensor
from chainrule.tensor.random import rand, randn

EULER = 0.57721566490153286061  # Euler and Mascheroni's constant


def _numbers(tensor: Tensor) -> Any:
    return numbers_of(settled(tensor).value)


class _LocScale(Distribution):
    """A place and a scale."""

    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)
        self._checked("loc", self.loc, real, "a number")
        self._checked("scale", self.scale, positive, "more than 0")

    def _standard(self, value: Any) -> Tensor:
        return (self._of(value, real, "a number") - self.loc) / self.scale

    def _uniform(self, sample_shape: Any) -> Tensor:
        return rand(self._extended(sample_shape), dtype=self.loc.dtype)

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self.loc


class Normal(_LocScale):
    """The normal distribution: density ``exp(-((x - loc) / scale)^2 / 2) / (scale sqrt(2 pi))``.

    Args:
        loc: the mean: a number or a tensor.
        scale: the standard deviation, more than 0; they broadcast.
        validate_args: False leaves out the checks.

    Raises:
        DataError: a scale that is not more than 0.

    >>> import chainrule as cr
    >>> cr.distributions.Normal(0.0, 1.0).log_prob(cr.tensor(0.0))
    tensor(-0.9189)
    """

    @property
    def variance(self) -> Tensor:
        """scale^2."""
        return self.scale * self.scale

    @property
    def stddev(self) -> Tensor:
        """scale."""
        return self.scale

    @property
    def mode(self) -> Tensor:
        """loc."""
        return self.loc

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """``loc + scale * standard normal``."""
        drawn = randn(self._extended(sample_shape), dtype=self.loc.dtype)
        return self.loc + drawn * self.scale

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density."""
        z = self._standard(value)
        return -(z * z) / 2 - self.scale.log() - HALF_LOG_2PI

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        return (-self._standard(value) / math.sqrt(2)).erfc() / 2

    def icdf(self, value: Any) -> Tensor:
        """What is exceeded with the probability 1 - `value`."""
        return self.loc + self.scale * (2 * as_tensor(value) - 1).erfinv() * math.sqrt(2)

    def entropy(self) -> Tensor:
        """``1/2 + log(scale sqrt(2 pi))``."""
        return 0.5 + HALF_LOG_2PI + self.scale.log()


class LogNormal(Normal):
    """The exponential of a `Normal` number; arguments as there."""

    @property
    def mean(self) -> Tensor:
        """exp(loc + scale^2 / 2)."""
        return (self.loc + self.scale * self.scale / 2).exp()

    @property
    def variance(self) -> Tensor:
        """(exp(scale^2) - 1) exp(2 loc + scale^2)."""
        square = self.scale * self.scale
        return square.expm1() * (2 * self.loc + square).exp()

    @property
    def stddev(self) -> Tensor:
        """The root of the variance."""
        return self.variance.sqrt()

    @property
    def mode(self) -> Tensor:
        """exp(loc - scale^2)."""
        return (self.loc - self.scale * self.scale).exp()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The exponential of a normal number."""
        return super().rsample(sample_shape).exp()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density."""
        log = self._of(value, positive, "more than 0").log()
        return super().log_prob(log) - log

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        return super().cdf(self._of(value, not_negative, "0 or more").log())

    def icdf(self, value: Any) -> Tensor:
        """What is exceeded with the probability 1 - `value`."""
        return super().icdf(value).exp()

    def entropy(self) -> Tensor:
        """That of the normal number, plus loc."""
        return super().entropy() + self.loc


class HalfNormal(Distribution):
    """The size of a normal number of mean 0: density twice its, for 0 and more.

    Args:
        scale: that of the normal number.
        validate_args: False leaves out the checks.
    """

    has_rsample = True

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        (self.scale,) = broadcast_all(scale)
        super().__init__(self.scale.shape, (), validate_args)
        self._checked("scale", self.scale, positive, "more than 0")
        self._normal = Normal(0.0, self.scale, validate_args)

    @property
    def mean(self) -> Tensor:
        """scale sqrt(2 / pi)."""
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        """scale^2 (1 - 2 / pi)."""
        return self.scale * self.scale * (1 - 2 / math.pi)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The size of a normal number."""
        return self._normal.rsample(sample_shape).abs()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density: -inf below 0."""
        x = self._of(value, not_negative, "0 or more")
        return (self._normal.log_prob(x) + math.log(2)).masked_fill(x < 0, -math.inf)

    def entropy(self) -> Tensor:
        """That of the normal number less log 2."""
        return self._normal.entropy() - math.log(2)


class Laplace(_LocScale):
    """Density ``exp(-|x - loc| / scale) / (2 scale)``; arguments as of `Normal`."""

    @property
    def variance(self) -> Tensor:
        """2 scale^2."""
        return 2 * self.scale * self.scale

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """By the inverse of the distribution function."""
        u = self._uniform(sample_shape) - 0.5
        return self.loc - self.scale * u.sign() * (-2 * u.abs()).log1p()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density."""
        return -self._standard(value).abs() - (2 * self.scale).log()

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        z = self._standard(value)
        return 0.5 - 0.5 * z.sign() * (-z.abs()).expm1()

    def entropy(self) -> Tensor:
        """1 + log(2 scale)."""
        return 1 + (2 * self.scale).log()


class Cauchy(_LocScale):
    """Density ``1 / (pi scale (1 + ((x - loc) / scale)^2))``; arguments as of `Normal`. It has no mean (NaN)."""

    @property
    def mean(self) -> Tensor:
        """NaN."""
        return self.loc * math.nan

    @property
    def variance(self) -> Tensor:
        """Infinite."""
        return self.loc * 0 + math.inf

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """By the inverse of the distribution function."""
        return self.loc + self.scale * (math.pi * (self._uniform(sample_shape) - 0.5)).tan()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density."""
        z = self._standard(value)
        return -math.log(math.pi) - self.scale.log() - (z * z).log1p()

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        return self._standard(value).atan() / math.pi + 0.5

    def entropy(self) -> Tensor:
        """log(4 pi scale)."""
        return math.log(4 * math.pi) + self.scale.log()


class Gumbel(_LocScale):
    """Density ``exp(-(z + exp(-z))) / scale`` with ``z = (x - loc) / scale``; arguments as of `Normal`."""

    @property
    def mean(self) -> Tensor:
        """loc + 0.5772 scale."""
        return self.loc + self.scale * EULER

    @property
    def variance(self) -> Tensor:
        """(pi scale)^2 / 6."""
        return self.scale * self.scale * (math.pi**2 / 6)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """By the inverse of the distribution function."""
        exponential = -(-self._uniform(sample_shape)).log1p()
        return self.loc - self.scale * exponential.log()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density."""
        z = self._standard(value)
        return -z - (-z).exp() - self.scale.log()

    def entropy(self) -> Tensor:
        """log(scale) + 1.5772."""
        return self.scale.log() + (1 + EULER)


class Uniform(Distribution):
    """Density ``1 / (high - low)`` in [low, high).

    Args:
        low: where it begins.
        high: where it ends, more than `low`.
        validate_args: False leaves out the checks.
    """

    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, (), validate_args)
        self._checked("high - low", (self.high - self.low).detach(), positive, "more than 0")

    @property
    def mean(self) -> Tensor:
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def variance(self) -> Tensor:
        """(high - low)^2 / 12."""
        width = self.high - self.low
        return width * width / 12

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """``low + (high - low) * uniform``."""
        return self.low + rand(self._extended(sample_shape), dtype=self.low.dtype) * (self.high - self.low)

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density: -inf at `high`, and outside where that is not checked."""
        x = self._inside(value)
        outside = (x < self.low) | (x >= self.high)
        return (-(self.high - self.low).log()).expand(outside.shape).masked_fill(outside, -math.inf)

    def _inside(self, value: Any) -> Tensor:
        return self._of(value, lambda x: (x >= _numbers(self.low)) & (x <= _numbers(self.high)), "in [low, high]")

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        return ((self._inside(value) - self.low) / (self.high - self.low)).clamp(0, 1)

    def entropy(self) -> Tensor:
        """log(high - low)."""
        return (self.high - self.low).log()


class Exponential(Distribution):
    """Density ``rate exp(-rate x)`` for 0 and more.

    Args:
        rate: more than 0.
        validate_args: False leaves out the checks.
    """

    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)
        self._checked("rate", self.rate, positive, "more than 0")

    @property
    def mean(self) -> Tensor:
        """1 / rate."""
        return self.rate.reciprocal()

    @property
    def variance(self) -> Tensor:
        """1 / rate^2."""
        return 1 / (self.rate * self.rate)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """By the inverse of the distribution function."""
        return -(-rand(self._extended(sample_shape), dtype=self.rate.dtype)).log1p() / self.rate

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density: -inf below 0."""
        x = self._of(value, not_negative, "0 or more")
        return (self.rate.log() - self.rate * x).masked_fill(x < 0, -math.inf)

    def cdf(self, value: Any) -> Tensor:
        """The probability of no more than `value`."""
        return -(-self.rate * self._of(value, not_negative, "0 or more")).expm1()

    def entropy(self) -> Tensor:
        """1 - log(rate)."""
        return 1 - self.rate.log()


class Beta(Distribution):
    """Density ``x^(a - 1) (1 - x)^(b - 1) / B(a, b)`` in (0, 1); it cannot be drawn from yet.

    Args:
        concentration1: a, more than 0.
        concentration0: b, more than 0.
        validate_args: False leaves out the checks.
    """

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration1.shape, (), validate_args)
        for what in ("concentration1", "concentration0"):
            self._checked(what, getattr(self, what), positive, "more than 0")

    @property
    def mean(self) -> Tensor:
        """a / (a + b)."""
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Tensor:
        """a b / ((a + b)^2 (a + b + 1))."""
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total * total * (total + 1))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Not there yet."""
        raise NotImplementedError(f"{graph.who('Beta')}: it cannot be drawn from yet.")

    def _log_norm(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return a.lgamma() + b.lgamma() - (a + b).lgamma()

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the density."""
        x = self._of(value, share, "in [0, 1]")
        return (self.concentration1 - 1).xlogy(x) + (self.concentration0 - 1).xlogy(1 - x) - self._log_norm()

    def entropy(self) -> Tensor:
        """By digamma."""
        a, b = self.concentration1, self.concentration0
        rest = (a - 1) * a.digamma() + (b - 1) * b.digamma() - (a + b - 2) * (a + b).digamma()
        return self._log_norm() - rest
