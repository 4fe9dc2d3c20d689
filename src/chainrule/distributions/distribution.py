"""What all distributions have in common: the shapes of a batch and of an event, sums over independent ones."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from chainrule import dtypes, graph
from chainrule.errors import DataError, ShapeError
from chainrule.ops.elementwise import broadcast_shapes
from chainrule.tensor import Tensor
from chainrule.tensor.core import Handle, settled
from chainrule.tensor.creation import as_tensor

Shape = tuple[int, ...]


class Distribution:
    """Distributions of one kind: a batch of some, each of events of one shape.

    Subclasses have ``log_prob``, ``entropy``, ``mean``, ``variance``, and draw by ``sample`` (without history) or, where a
    draw is a function of the parameters, by ``rsample``, through which gradients flow.

    Args:
        batch_shape: of the parameters, broadcast.
        event_shape: of one draw.
        validate_args: False leaves out the checks of parameters and values. They are made where numbers are known: not in a
            compiled function, where a value outside the support has the log-probability that the formula gives.
    """

    has_rsample: ClassVar[bool] = False

    def __init__(self, batch_shape: Shape = (), event_shape: Shape = (), validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = tuple(batch_shape), tuple(event_shape)
        self._validated = validate_args is not False

    @property
    def batch_shape(self) -> Shape:
        """The shape of the parameters, broadcast."""
        return self._batch_shape

    @property
    def event_shape(self) -> Shape:
        """The shape of one draw."""
        return self._event_shape

    @property
    def mean(self) -> Tensor:
        """The mean."""
        raise NotImplementedError(f"{type(self).__name__} has no mean.")

    @property
    def variance(self) -> Tensor:
        """The variance."""
        raise NotImplementedError(f"{type(self).__name__} has no variance.")

    @property
    def stddev(self) -> Tensor:
        """The standard deviation."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without history, of shape sample_shape + batch_shape + event_shape."""
        with graph.grad_mode(False):
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that are functions of the parameters: gradients flow through them."""
        raise NotImplementedError(f"{type(self).__name__}: a draw has no derivative. Use sample() and log_prob().")

    def log_prob(self, value: Any) -> Tensor:
        """The logarithm of the probability, or of its density, of each event."""
        raise NotImplementedError(f"{type(self).__name__} has no log_prob.")

    def entropy(self) -> Tensor:
        """The mean of -log_prob."""
        raise NotImplementedError(f"{type(self).__name__} has no entropy.")

    def _of(self, value: Any, holds: Any, must: str) -> Tensor:
        """A value that is asked about as a tensor.

        Raises:
            DataError: it is known, outside the support, and validate_args is not False. In a trace no value is known.
        """
        found = as_tensor(value)
        self._checked("value", found, holds, must)
        return found

    def _extended(self, sample_shape: Any) -> Shape:
        given = (sample_shape,) if isinstance(sample_shape, int) else tuple(sample_shape)
        return (*given, *self._batch_shape, *self._event_shape)

    def _checked(self, what: str, value: Tensor, holds: Any, must: str) -> None:
        """Raise for parameters or values that are known and out of range."""
        if self._validated and not graph.tracing():
            numbers = dtypes.numbers_of(settled(value).value)
            fits = holds(numbers)
            if not fits.all():
                wrong = (
                    numbers[~np.broadcast_to(fits, numbers.shape)].flat[0] if numbers.shape == fits.shape else numbers
                )
                raise DataError(f"{graph.who(type(self).__name__)}: {what} must be {must}, got {wrong}.")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_shape: {self._batch_shape}, event_shape: {self._event_shape})"


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Parameters, numbers or tensors, as floating tensors of one shape and dtype."""
    known = [value for value in values if isinstance(value, Handle)]
    floating = [t.dtype for t in known if t.dtype.is_floating_point]
    dtype = dtypes.promote(floating) if floating else dtypes.float32
    tensors = [as_tensor(value).to(dtype) for value in values]
    shape = broadcast_shapes("distributions", *(t.shape for t in tensors))
    return tuple(t.expand(shape) for t in tensors)


def positive(x: Any) -> Any:
    """More than 0."""
    return x > 0


def not_negative(x: Any) -> Any:
    """0 or more."""
    return x >= 0


def real(x: Any) -> Any:
    """Any number but NaN."""
    return x == x


def count(x: Any) -> Any:
    """A whole number from 0 on."""
    return (x >= 0) & (x == np.floor(x))


def share(x: Any) -> Any:
    """A number from 0 to 1."""
    return (x >= 0) & (x <= 1)


def truth(x: Any) -> Any:
    """0 or 1."""
    return (x == 0) | (x == 1)


class Independent(Distribution):
    """The last axes of another distribution's batch as one event: its log-probabilities are summed over them.

    Args:
        base_distribution: the other.
        reinterpreted_batch_ndims: how many axes.
    """

    def __init__(
        self, base_distribution: Distribution, reinterpreted_batch_ndims: int, validate_args: bool | None = None
    ) -> None:
        count, batch = reinterpreted_batch_ndims, base_distribution.batch_shape
        if not 0 <= count <= len(batch):
            raise ShapeError(
                f"Independent: reinterpreted_batch_ndims must be in [0, {len(batch)}] for a batch of shape {batch}, got {count}."
            )
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, count
        cut = len(batch) - count
        super().__init__(batch[:cut], (*batch[cut:], *base_distribution.event_shape), validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """As the other has."""
        return self.base_dist.has_rsample

    @property
    def mean(self) -> Tensor:
        """The mean."""
        return self.base_dist.mean

    @property
    def variance(self) -> Tensor:
        """The variance."""
        return self.base_dist.variance

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws without history."""
        return self.base_dist.sample(sample_shape)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws that gradients flow through."""
        return self.base_dist.rsample(sample_shape)

    def log_prob(self, value: Any) -> Tensor:
        """The sum of the log-probabilities of an event's parts."""
        return self._summed(self.base_dist.log_prob(value))

    def entropy(self) -> Tensor:
        """The sum of the entropies."""
        return self._summed(self.base_dist.entropy())

    def _summed(self, x: Tensor) -> Tensor:
        return x.sum(tuple(range(-self.reinterpreted_batch_ndims, 0))) if self.reinterpreted_batch_ndims else x


HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
