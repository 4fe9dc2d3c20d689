"""Distributions of whole numbers and of choices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from chainrule.distributions.distribution import (
    Distribution,
    broadcast_all,
    count,
    not_negative,
    positive,
    real,
    share,
    truth,
)
from chainrule.errors import SettingError
from chainrule.nn import functional as F
from chainrule.tensor import Tensor
from chainrule.tensor.creation import given
from chainrule.tensor.draws import multinomial, poisson
from chainrule.tensor.random import rand


def _one_of(name: str, probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise SettingError(f"{name}: give either probs or logits.")


class Categorical(Distribution):
    """One of n classes, by their probabilities along the last axis.

    Args:
        probs: none negative; they are divided by their sum. Or
        logits: their logarithms, up to a number.
        validate_args: False leaves out the checks.

    Raises:
        SettingError: neither or both are given.
        DataError: probabilities that are negative, or all 0.

    >>> import chainrule as cr
    >>> policy = cr.distributions.Categorical(logits=cr.tensor([0.0, 0.0]))
    >>> policy.log_prob(cr.tensor(1)), policy.entropy()
    (tensor(-0.6931), tensor(0.6931))
    """

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        _one_of(type(self).__name__, probs, logits)
        source = given(
            probs if logits is None else logits, type(self).__name__, "probs" if logits is None else "logits"
        )
        if not source.ndim:
            raise SettingError(f"{type(self).__name__}: needs an axis of classes, got a number.")
        self._classes = source.shape[-1]
        super().__init__(source.shape[:-1], (), validate_args)
        if logits is None:
            self._checked(
                "probs", source, lambda p: (p >= 0) & (p.sum(-1, keepdims=True) > 0), "0 or more, and not all 0"
            )
            self.probs = source / source.sum(-1, keepdim=True)
            eps = np.finfo(source.dtype.numpy).eps if source.dtype.is_floating_point else 1e-7
            self.logits = self.probs.clamp(float(eps), 1 - float(eps)).log()  # as PyTorch's
        else:
            self._checked("logits", source, real, "numbers")
            self.logits = source - source.logsumexp(-1, keepdim=True)
            self.probs = self.logits.softmax(-1)

    @property
    def param_shape(self) -> tuple[int, ...]:
        """The shape of probs."""
        return self.probs.shape

    @property
    def mode(self) -> Tensor:
        """The class of the largest probability."""
        return self.probs.argmax(-1)

    @property
    def mean(self) -> Tensor:
        """NaN: classes have no mean."""
        return self.probs.sum(-1) * math.nan

    @property
    def variance(self) -> Tensor:
        """NaN."""
        return self.mean

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Class numbers, of shape sample_shape + batch_shape."""
        extended = super()._extended(sample_shape)
        wanted = extended[: len(extended) - len(self._batch_shape)]
        rows = self.probs.detach().reshape(-1, self._classes)
        drawn = multinomial(rows, math.prod(wanted), True).t()
        return drawn.reshape((*wanted, *self._batch_shape))

    def _is_class(self, x: Any) -> Any:
        return count(x) & (x < self._classes)

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of each class's probability."""
        labels = self._of(value, self._is_class, f"a class from 0 to {self._classes - 1}").long().unsqueeze(-1)
        shape = np.broadcast_shapes(labels.shape[:-1], self._batch_shape)
        logits = self.logits.expand((*shape, self._classes))
        return logits.gather(-1, labels.expand((*shape, 1))).squeeze(-1)

    def entropy(self) -> Tensor:
        """``-sum of p log p``."""
        lowest = float(np.finfo(self.logits.dtype.numpy).min)
        return -(self.logits.clamp(min=lowest) * self.probs).sum(-1)


def _one_hot(x: Any) -> Any:
    return (truth(x).all(-1) & (x.sum(-1) == 1))[..., None]


class OneHotCategorical(Distribution):
    """A `Categorical` whose draws are 1 at their class and 0 elsewhere; arguments as there."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._choice = Categorical(probs, logits, validate_args)
        super().__init__(self._choice.batch_shape, (self._choice._classes,), validate_args)
        self.probs, self.logits = self._choice.probs, self._choice.logits

    @property
    def mean(self) -> Tensor:
        """probs."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """p (1 - p)."""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws, in the dtype of probs."""
        return F.one_hot(self._choice.sample(sample_shape), self._choice._classes).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the probability of the class that is 1."""
        return self._choice.log_prob(self._of(value, _one_hot, "1 at one class and 0 elsewhere").argmax(-1))

    def entropy(self) -> Tensor:
        """That of the classes."""
        return self._choice.entropy()


class _OfProbs(Distribution):
    """Given by a probability, or by its logit."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        _one_of(type(self).__name__, probs, logits)
        (source,) = broadcast_all(probs if logits is None else logits)
        super().__init__(source.shape, (), validate_args)
        if logits is None:
            self._checked("probs", source, share, "in [0, 1]")
            eps = float(np.finfo(source.dtype.numpy).eps)
            self.probs, self.logits = source, source.clamp(eps, 1 - eps).logit()  # as PyTorch's
        else:
            self._checked("logits", source, real, "a number")
            self.probs, self.logits = source.sigmoid(), source


class Bernoulli(_OfProbs):
    """1 with a probability, else 0.

    Args:
        probs: in [0, 1]. Or
        logits: log(p / (1 - p)).
        validate_args: False leaves out the checks.

    Raises:
        SettingError: neither or both are given.
        DataError: a probability outside [0, 1].
    """

    @property
    def mean(self) -> Tensor:
        """probs."""
        return self.probs

    @property
    def variance(self) -> Tensor:
        """p (1 - p)."""
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Ones and zeros, in the dtype of probs."""
        drawn = rand(self._extended(sample_shape), dtype=self.probs.dtype)
        return (drawn < self.probs.detach()).to(self.probs.dtype)

    def log_prob(self, value: Any) -> Tensor:
        """``value * logits - log(1 + exp(logits))``."""
        x = self._of(value, truth, "0 or 1").to(self.logits.dtype)
        return x * self.logits - F.softplus(self.logits)

    def entropy(self) -> Tensor:
        """``log(1 + exp(logits)) - p logits``."""
        return F.softplus(self.logits) - self.probs * self.logits


class Geometric(_OfProbs):
    """How often there is a failure before the first success: probability ``(1 - p)^k p``; arguments as of `Bernoulli`."""

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        super().__init__(probs, logits, validate_args)
        self._checked("probs", self.probs, positive, "more than 0")

    @property
    def mean(self) -> Tensor:
        """1 / p - 1."""
        return 1 / self.probs - 1

    @property
    def variance(self) -> Tensor:
        """(1 / p - 1) / p."""
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """By the inverse of the distribution function."""
        drawn = rand(self._extended(sample_shape), dtype=self.probs.dtype)
        return ((-drawn).log1p() / (-self.probs.detach()).log1p()).floor()

    def log_prob(self, value: Any) -> Tensor:
        """``k log(1 - p) + log p``."""
        return (
            self._of(value, count, "a whole number from 0 on").to(self.probs.dtype).xlogy(1 - self.probs)
            + self.probs.log()
        )

    def entropy(self) -> Tensor:
        """That of a `Bernoulli`, divided by p."""
        return (F.softplus(self.logits) - self.probs * self.logits) / self.probs


class Poisson(Distribution):
    """Counts of events: probability ``rate^k exp(-rate) / k!``.

    Args:
        rate: 0 or more.
        validate_args: False leaves out the checks.
    """

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        (self.rate,) = broadcast_all(rate)
        super().__init__(self.rate.shape, (), validate_args)
        self._checked("rate", self.rate, not_negative, "0 or more")

    @property
    def mean(self) -> Tensor:
        """rate."""
        return self.rate

    @property
    def variance(self) -> Tensor:
        """rate."""
        return self.rate

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts (eager only)."""
        return poisson(self.rate.detach().expand(self._extended(sample_shape)))

    def log_prob(self, value: Any) -> Tensor:
        """``k log(rate) - rate - log(k!)``."""
        k = self._of(value, count, "a whole number from 0 on").to(self.rate.dtype)
        return k.xlogy(self.rate) - self.rate - (k + 1).lgamma()
